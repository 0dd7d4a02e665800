"""Renders the screens, part by part: one render per part, language and revision, at most once a second, shared by all readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from drivers.base import Clock
from gateway.domain.report import Report
from gateway.domain.trace import Trace
from gateway.domain.view import JobView
from gateway.domain.whatif import Answer, Question, Queue
from gateway.status import screens
from gateway.status.basis_words import basis_words
from gateway.status.board import Board, ProcessStatus, Revisions, UnitStatus, seen
from gateway.status.charts import promise, trend
from gateway.status.event_words import summary, type_word
from gateway.status.formats import LANGUAGES, Formats
from gateway.status.losses import cascade
from gateway.status.notices import Notice, due, notices, remedy
from gateway.status.payloads import WAITING_TOLD
from gateway.status.report import Wording, cycle_rows, scrap_costs
from gateway.status.report_sheet import report_context
from gateway.status.screens import Reader
from gateway.status.sentences import SENTENCES, say
from gateway.status.trace_words import trace_sections
from gateway.status.whatif_page import whatif_context
from gateway.status.whatif_words import whatif_words
from gateway.status.words import words

SCREENS = ("overview", "machines", "orders", "links", "journal", "about", "board")
"""The last one hangs on a wall: no menu leads to it but the address."""
SHOWN_ALERTS = 3
RENDER_EVERY_S = 1.0
"""At most one render a second, however many readers."""
REFRESH_AFTER_S = 5.0
"""Ages move on even when nothing else does."""


@dataclass(frozen=True)
class Screen:
    """One page: `name` of SCREENS, and the unit for a machine page. Hashable: part of the cache's key."""

    name: str
    work_unit: str | None = None

    @property
    def path(self) -> str:
        if self.name == "machines":
            return f"/machines/{self.work_unit}"
        return "/" if self.name == "overview" else f"/{self.name}"


class Pages:
    """Screens of one gateway as HTML. `board` gives the present status object."""

    def __init__(self, board: Callable[[], Board], clock: Clock, revisions: Revisions) -> None:
        self._board = board
        self._clock = clock
        self._revisions = revisions
        self._cache: dict[tuple[str, Screen | None, str], tuple[float, int, Markup]] = {}
        self._environment = Environment(
            loader=PackageLoader("gateway.status"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self.renders = 0
        """Parts rendered so far: what a crowd of readers must not multiply."""

    def part_names(self, screen: Screen) -> tuple[str, ...]:
        """Parts of a screen, in order."""
        if screen.name == "overview":
            return ("top", "alerts", *(f"unit.{unit.view.work_unit}" for unit in self._board().units), "flow")
        return ("top", f"machine.{screen.work_unit}" if screen.name == "machines" else screen.name)

    def page(self, screen: Screen, language: str) -> str:
        """The whole document."""
        board = self._board()
        reader = self._reader(board, language)
        parts = {name: self.part(name, screen, language) for name in self.part_names(screen)}
        stale = SENTENCES["page_stale"]
        return self._environment.get_template("layout.html").render(
            parts=parts, w=reader.words, lang=language, screen=screen.name, title=_title(board, reader),
            stale=f"{reader.text(stale.text)} {reader.text(stale.remedy)}",
        )  # fmt: skip

    def parts(self, screen: Screen, language: str, wanted: set[str]) -> str:
        """Only some parts of a screen, each in its marked element; names that it does not have are left out."""
        return "".join(
            f'<div data-part="{name}">{self.part(name, screen, language)}</div>' for name in self.part_names(screen) if name in wanted
        )

    def error(self, word: str, language: str) -> str:
        """A page that says only why there is none."""
        return self.sentence(words(language)[word], language)

    def sentence(self, message: str, language: str) -> str:
        """A page with one sentence."""
        return self._environment.get_template("error.html").render(w=words(language), lang=language, message=message)

    def report(self, unit: UnitStatus, report: Report, language: str) -> str:
        """The A4 sheet of one window of `unit`."""
        board = self._board()
        context = report_context(board, unit, report, self._reader(board, language))
        return self._environment.get_template("report.html").render(context)

    def whatif(self, unit: UnitStatus, queue: Queue, question: Question, answer: Answer, language: str) -> str:
        """One question to the queue of `unit`, answered."""
        context = whatif_context(unit, queue, question, answer, self._reader(self._board(), language))
        return self._environment.get_template("whatif.html").render(context)

    def trace(self, found: Trace, language: str) -> str:
        """Where a lot comes from and where it went."""
        reader = self._reader(self._board(), language)
        head, sections = trace_sections(found, language, reader.formats)
        return self._environment.get_template("trace.html").render(w=reader.words, lang=language, head=head, sections=sections)

    def part(self, name: str, screen: Screen, language: str) -> Markup:
        board = self._board()
        self._revisions.look(board)
        key = (name, screen if name == "top" else None, language)
        revision, now = self._revisions.numbers.get(name, 0), self._clock.monotonic()
        kept = self._cache.get(key)
        if kept is not None and (now - kept[0] < RENDER_EVERY_S or (kept[1] == revision and now - kept[0] < REFRESH_AFTER_S)):
            return kept[2]
        html = self._render(name, board, screen, self._reader(board, language))
        self._cache[key] = (now, revision, html)
        return html

    def _reader(self, board: Board, language: str) -> Reader:
        return Reader(language, words(language), Formats(language, board.gateway.time_zone), self._clock.now())

    def _render(self, name: str, board: Board, screen: Screen, reader: Reader) -> Markup:
        self.renders += 1
        kind, _, work_unit = name.partition(".")
        context = {
            "board": board, "w": reader.words, "f": reader.formats, "now": reader.now, "lang": reader.language, "t": reader.text,
            **_CONTEXTS[kind](board, board.unit(work_unit), reader, screen),
        }  # fmt: skip
        return Markup(self._environment.get_template(f"{kind}.html").render(context))


Context = Mapping[str, Any]


def _title(board: Board, reader: Reader) -> str:
    """The worst thing first, so that a row of browser tabs can be read."""
    found = notices(board, reader.now)
    wrong = found and found[0].severity != "info"
    worst = f"{'■' if found[0].severity == 'critical' else '▲'} {reader.text(found[0].text)} · " if wrong else ""
    return f"{worst}lineside"


_UNPROTECTED = ("device.insecure:", "device.clear_text:", "uplink.insecure:")
"""Alerts about links that are knowingly unprotected: every screen says so, however many others stand."""


def _top(board: Board, unit: UnitStatus | None, reader: Reader, screen: Screen) -> Context:
    found = notices(board, reader.now)
    first = board.units[0] if board.units else None
    other = next(language for language in LANGUAGES if language != reader.language)
    return {
        "nav": _nav(board, found, reader, screen), "screen": screen.name, "here": screen.path, "other": other,
        "frozen": screens.frozen(board, reader.now), "title": _title(board, reader), "keys": " ".join(notice.key for notice in found),
        "shift": _shift(first, reader) if first else "", "open": [alert for alert in board.alerts if alert.key.startswith(_UNPROTECTED)],
    }  # fmt: skip


def _shift(unit: UnitStatus, reader: Reader) -> str:
    line = unit.view.windows.get("shift")
    if line is None:
        return ""
    name = str(line.get("window", {}).get("name") or "")
    hours = f"{reader.formats.clock(unit.view.shift_from)}–{reader.formats.clock(unit.view.shift_to)}"
    return f"{reader.words['shift']} {name} {hours}" if reader.formats.french else f"{name} {reader.words['shift']} {hours}"


def _nav(board: Board, found: list[Notice], reader: Reader, screen: Screen) -> list[tuple[str, str, str, int, str, str]]:
    label = reader.words
    stopped = sum(notice.key.startswith("unit.stopped:") for notice in found)
    cut = sum(not seen(link) for link in board.links)
    late = sum(notice.path == "/orders" for notice in found)
    machine = screen.work_unit or next((unit.view.work_unit for unit in board.units), None)
    entries = [("overview", "/", label["overview"], 0, "", "")]
    if machine is not None:
        entries.append(("machines", f"/machines/{machine}", label["machines"], stopped, "r", label["stopped_count"]))
    for name, count in (("orders", late), ("links", cut), ("journal", sum(uplink.parked > 0 for uplink in board.uplinks)), ("about", 0)):
        entries.append((name, f"/{name}", label[name], count, "", label["to_handle"]))
    return entries


def _alerts(board: Board, unit: UnitStatus | None, reader: Reader, screen: Screen) -> Context:
    found = notices(board, reader.now)
    return {"shown": found[:SHOWN_ALERTS], "hidden": found[SHOWN_ALERTS:], "quiet_since": _quiet_since(board)}


def _quiet_since(board: Board) -> datetime:
    """The last time something was wrong that the events still tell of, else the start."""
    ended = [event.at for event in board.events if event.type in ("alert.cleared", "stop.ended")]
    return max([board.started_at, *ended])


def _wall(board: Board, unit: UnitStatus | None, reader: Reader, screen: Screen) -> Context:
    return {**_alerts(board, unit, reader, screen), "rows": [screens.row(board, status, reader) for status in board.units]}


def _unit(board: Board, unit: UnitStatus | None, reader: Reader, screen: Screen) -> Context:
    assert unit is not None
    return {"row": screens.row(board, unit, reader), "of_line": board.line_above(unit)}


def _flow(board: Board, unit: UnitStatus | None, reader: Reader, screen: Screen) -> Context:
    boxes = [screens.devices_box(board, reader), screens.journal_box(board, reader)]
    boxes += [screens.uplink_box(board, uplink, reader) for uplink in board.uplinks]
    return {"boxes": boxes, "autonomy": screens.autonomy(board, reader), "filled": screens.filled(board)}


def _machine(board: Board, unit: UnitStatus | None, reader: Reader, screen: Screen) -> Context:
    assert unit is not None
    row = screens.row(board, unit, reader)
    view = row.unit.view
    found = trend(view, reader.now, reader.formats, unit.slow_tolerance)
    slower = found.slower if found is not None else None
    job, quantity = view.job, view.job.order.quantity if view.job else None
    wording = Wording(reader.language, reader.formats, unit.reasons, unit.currency)
    line = screens.line_of(unit)
    return {
        "row": row, "alarmed": row.chip.css in ("stop", "ind"), "trend": found,
        "line": line, "cascade": cascade(row.losses) if row.losses else (), "scrap_costs": scrap_costs(line, wording) if line else (),
        "remedy": remedy(board, unit), "link": board.link(unit.device), "job": job,
        "slower_words": _slower(slower, reader) if slower else "", "stopped_s": sum(found.duration_s for found in view.stop_reasons),
        "pareto_words": [wording.named(found_.stop) for found_ in row.pareto], "cycle": cycle_rows(line, wording),
        "has_shift": bool(view.windows.get("shift")), "basis": basis_words(job.basis, reader.language) if job else "",
        "promise": promise(job, due(job), reader.now, reader.formats) if job else None,
        "left": reader.formats.quantity(max(quantity - job.good, 0 * quantity)) if job and quantity is not None else "–",
        "without_order": say("without_order", board.gateway.time_zone, {"unit": view.work_unit, "count": view.without_order}).text,
    }  # fmt: skip


def _slower(ratio: float, reader: Reader) -> str:
    share = reader.formats.percent(ratio - 1, 0)
    word = reader.words["median_words"]
    return f"Le cycle a ralenti : médiane +{share} {word}." if reader.formats.french else f"The cycle has slowed: median +{share} {word}."


def _orders(board: Board, unit: UnitStatus | None, reader: Reader, screen: Screen) -> Context:
    groups = []
    for status in board.units:
        view = status.view
        running = [view.job] if view.job else []
        jobs = [_order_row(job, reader) for job in [*running, *view.queue]]
        over = [_order_row(job, reader) for job in view.recent]
        groups.append({"name": view.work_unit, "free_from": view.capacity_free_from, "jobs": jobs, "over": over})
    return {"groups": groups, "q": whatif_words(reader.language)}


def _order_row(job: JobView, reader: Reader) -> Context:
    customer, formats = job.order.customer, reader.formats
    promised = due(job)
    window = formats.when(promised, reader.now)
    if customer is not None and customer.delivery_from is not None:
        window = f"{formats.when(customer.delivery_from, reader.now)} – {window}"
    priority = customer.priority if customer is not None and customer.priority is not None else job.order.priority
    return {
        "view": job, "line": screens.order_line(job, reader), "window": window, "priority": priority,
        "customer": (customer.name if customer else None) or "–",
        "why": basis_words(job.basis, reader.language) if job.verdict in ("at_risk", "late") else "",
    }  # fmt: skip


def _links(board: Board, unit: UnitStatus | None, reader: Reader, screen: Screen) -> Context:
    return {
        "devices": [(link, seen(link)) for link in board.links if link.kind == "device"],
        "uplinks": [(link, seen(link)) for link in board.links if link.kind == "uplink"],
        "erps": [
            (uplink.name, uplink.bookings.orders, sorted(uplink.bookings.waiting, key=lambda one: one.since)[:WAITING_TOLD])
            for uplink in board.uplinks
            if uplink.bookings is not None
        ],
    }


def _journal(board: Board, unit: UnitStatus | None, reader: Reader, screen: Screen) -> Context:
    return {"events": [(event, type_word(event, reader), summary(event, reader)) for event in board.events]}


def _about(board: Board, unit: UnitStatus | None, reader: Reader, screen: Screen) -> Context:
    label, formats, info = reader.words, reader.formats, board.gateway
    return {
        "facts": [
            (label["gateway"], f"{info.gateway_id} · {info.enterprise} · {info.site}"),
            (label["version"], info.version),
            (label["config"], f"{info.config_path or '–'} ({info.config_hash[:12] or '–'})"),
            (label["started"], f"{formats.date(board.started_at)}, {formats.clock(board.started_at)}"),
            (label["clock"], f"{formats.iso(reader.now)} ({info.time_zone})"),
            (label["disk"], _disk(board, reader)),
            *_process(board.process, reader),
            (label["epoch"], board.journal.epoch or "–"),
        ]
    }


def _disk(board: Board, reader: Reader) -> str:
    free = board.journal.disk_free_bytes
    return board.journal.disk if free is None else f"{board.journal.disk}, {reader.formats.size(free)} {reader.words['free']}"


def _process(process: ProcessStatus | None, reader: Reader) -> list[tuple[str, str]]:
    if process is None:
        return []
    label, formats, lag = reader.words, reader.formats, process.loop_lag_p99_s
    return [
        (label["memory"], formats.size(process.rss_bytes)),
        (label["loop_lag"], "–" if lag is None else f"{formats.number(lag * 1000)} ms"),
        (label["held"], f"{process.tasks} / {process.threads} / {process.files}"),
    ]


_CONTEXTS: Mapping[str, Callable[[Board, UnitStatus | None, Reader, Screen], Context]] = {
    "top": _top, "alerts": _alerts, "unit": _unit, "flow": _flow, "machine": _machine, "orders": _orders, "links": _links,
    "journal": _journal, "about": _about, "board": _wall,
}  # fmt: skip
