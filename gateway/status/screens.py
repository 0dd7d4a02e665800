"""What each screen shows, put into words and figures; the templates only lay it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from gateway.domain.events import Text
from gateway.domain.view import JobView, UnitView
from gateway.status.board import Board, UnitStatus, UplinkStatus, seen
from gateway.status.charts import Strip, spread, strip
from gateway.status.formats import Formats, unbroken
from gateway.status.losses import Losses, ParetoRow, losses, pareto
from gateway.status.notices import due, reason_text, standing
from gateway.supervise import LinkState, LinkStatus

OLD_PERIODS = 3
"""Data older than this many periods of their device are marked as old."""
OLD_AT_LEAST_S = 2.0
"""A quiet subscription is heard of by its keep-alive only, about once a second."""
FROZEN_AFTER_S = 15.0
"""A board older than this means that nothing is committed any more."""
SHORTEST_FRAME = timedelta(minutes=5)
"""A gateway that has just started still draws something to look at."""
_IDLE = frozenset({"setup", "maintenance", "break", "not_planned"})


@dataclass(frozen=True)
class Reader:
    """Who reads: language, words, formats, and the time of reading."""

    language: str
    words: Mapping[str, str]
    formats: Formats
    now: datetime

    def text(self, text: Text) -> str:
        return unbroken(text.fr) if self.language == "fr" else text.en


@dataclass(frozen=True)
class Segment:
    """One stretch of the loss bar; x and width in per cent."""

    x: float
    width: float
    css: str


@dataclass(frozen=True)
class LossWord:
    word: str
    minutes: str
    heaviest: bool


@dataclass(frozen=True)
class Chip:
    """The state in one word: `css` stop, stand, ind, run, idle, unk; `icon` names its shape."""

    css: str
    icon: str
    word: str
    lasted: str


@dataclass(frozen=True)
class OrderLine:
    job_order_id: str
    product: str
    good: str
    target: str
    share: float | None
    """Done, in per cent, at most 100; None without an ordered quantity."""
    end: str
    due: str
    verdict: str
    icon: str
    known: bool


@dataclass(frozen=True)
class Row:
    """One machine on the overview; the machine page builds on it."""

    unit: UnitStatus
    name: str
    chip: Chip
    why: str
    seen: bool
    seen_line: str
    seen_icon: str
    old: bool
    strip: Strip
    strip_title: str
    trs: str
    trs_label: str
    lost: str
    required: str
    losses: Losses | None
    segments: tuple[Segment, ...]
    loss_words: tuple[LossWord, ...]
    pareto: tuple[ParetoRow, ...]
    order: OrderLine | None


def line_of(unit: UnitStatus) -> Mapping[str, Any] | None:
    """The KPI line that the page speaks of: the shift's, else the hour's."""
    return unit.view.windows.get("shift") or unit.view.windows.get("hour")


def losses_of(unit: UnitStatus) -> Losses | None:
    line = line_of(unit)
    return None if line is None or not line.get("planned_s") else losses(line, unit.view.ideal_cycle_time_s)


def loss_scale(board: Board) -> float:
    """Seconds that fill the loss bar: all machines share one scale."""
    lost = [found.lost_s or 0.0 for unit in board.units if (found := losses_of(unit))]
    return max(lost, default=0.0)


def framed(view: UnitView, now: datetime) -> UnitView:
    """The view over the stretch that its charts show: the shift, or without one what has been seen lately."""
    if view.windows.get("shift"):
        return view
    start = max(view.shift_from, view.intervals[0].from_) if view.intervals else view.shift_from
    return replace(view, shift_from=min(start, now - SHORTEST_FRAME), shift_to=max(view.shift_to, now))


def row(board: Board, unit: UnitStatus, reader: Reader) -> Row:
    unit = replace(unit, view=framed(unit.view, reader.now))
    view, words, formats = unit.view, reader.words, reader.formats
    link = board.link(unit.device)
    visible = seen(link)
    reasons = pareto(view.stop_reasons)
    letters = {found.key: found.letter for found in reasons if found.key and found.letter}
    of, line = losses_of(unit), line_of(unit)
    asked_at = reader.now if frozen(board, reader.now) else board.at  # between two boards a reading does not get older
    seen_line, seen_icon, old = _seen_line(unit, link, reader, asked_at)
    known = of is not None and of.useful_s is not None
    band = strip(view, reader.now, formats, letters, alarmed=standing(unit, reader.now), lost_at=_lost_at(link))
    return Row(
        unit=unit, name=view.work_unit, chip=chip(unit, link, reader), why=_why(unit, visible, reader), seen=visible, seen_line=seen_line,
        seen_icon=seen_icon, old=old, strip=band,
        strip_title=_strip_title(unit, reader), trs=_whole_percent(line.get("oee") if line and of else None, formats),
        trs_label=_trs_label(unit, line, words), lost=formats.minutes(of.lost_s if of and known else None),
        required=formats.minutes(of.planned_s if of else None), losses=of, segments=_segments(of, loss_scale(board)),
        loss_words=_loss_words(of, reader), pareto=reasons, order=order_line(view.job, reader) if view.job else None,
    )  # fmt: skip


def _lost_at(link: LinkStatus | None) -> datetime | None:
    return None if link is None or seen(link) else link.last_good or link.since


def chip(unit: UnitStatus, link: LinkStatus | None, reader: Reader) -> Chip:
    """A lost link beats whatever the machine said last; a stop is coloured once it asks for somebody."""
    view = unit.view
    if not seen(link):
        since = link.last_good or link.since if link is not None else view.since
        return Chip("unk", "unk", reader.words["state.unknown"], reader.formats.since(since, reader.now))
    word, lasted = reader.words[f"state.{view.state}"], reader.formats.since(view.since, reader.now)
    if view.state == "unknown":
        return Chip("unk", "unk", word, lasted)
    if view.state == "running":
        return Chip("run", "run", word, lasted)
    if view.state in _IDLE:
        return Chip("idle", "idle", word, lasted)
    if not standing(unit, reader.now):
        return Chip("stand", "halt", word, lasted)
    induced = view.induced or view.state in ("starved", "blocked")
    return Chip("ind" if induced else "stop", "halt", word, lasted)


def _why(unit: UnitStatus, visible: bool, reader: Reader) -> str:
    view, words = unit.view, reader.words
    if not visible:
        return reader.text(Text("Ce qu’elle fait n’est pas connu", "What it does is not known"))
    if view.state != "running" and (view.reason or view.fault or view.state == "stopped"):
        said = reader.text(reason_text(unit, view.reason, view.fault))
        return said[:1].upper() + said[1:]
    if view.last_piece_at is None:
        return words["no_piece"]
    return f"{words['last_piece']} {reader.formats.age(view.last_piece_at, reader.now)} {words['ago']}".strip()


def _seen_line(unit: UnitStatus, link: LinkStatus | None, reader: Reader, asked_at: datetime) -> tuple[str, str, bool]:
    """The words, the icon, and whether the data are old."""
    words, formats = reader.words, reader.formats
    if link is None:
        return words["no_link"], "ok", False
    protocol = _protocol(link.peer)
    if not seen(link):
        return f"{words['not_seen']} {formats.since(link.last_good or link.since, reader.now)} · {protocol}", "warn", True
    age = (asked_at - (link.last_good or link.since)).total_seconds()
    old = age > max(OLD_PERIODS * unit.interval_s, OLD_AT_LEAST_S)
    shown = formats.duration(age)
    if old:
        return f"{words['seen_by']} {protocol}, {words['old']}, {shown}", "warn", True
    return f"{words['seen_by']} {protocol}, {words['data_age']} {shown} {words['data_age_after']}".strip(), "ok", False


def _protocol(peer: str) -> str:
    """`OPC UA 192.168.10.21:4840` -> `OPC UA`: the address is for the links page."""
    kept = [word for word in peer.split() if not any(sign in word for sign in (":", "/", "."))]
    return " ".join(kept) or peer


def _whole_percent(ratio: float | None, formats: Formats) -> str:
    """Without the sign, which is set smaller."""
    return formats.number(None if ratio is None else 100 * ratio)


def _trs_label(unit: UnitStatus, line: Mapping[str, Any] | None, words: Mapping[str, str]) -> str:
    if line is None or not line.get("planned_s"):
        return words["no_time"]
    if line.get("degraded"):
        return words["trs_degraded"]
    return words["trs_shift"] if unit.view.windows.get("shift") else words["trs_hour"]


def _strip_title(unit: UnitStatus, reader: Reader) -> str:
    view, words, formats = unit.view, reader.words, reader.formats
    spoken = [
        f"{words['loss.stop']} {formats.minutes(_spent(unit, 'stop'))} min",
        f"{words['loss.unknown']} {formats.minutes(_spent(unit, 'unknown'))} min",
    ]
    state = words[f"state.{view.state}"].lower()
    spoken.append(f"{state} {words['since']} {formats.clock(view.since)}")
    spoken.append(f"{len(view.micro_stops)} {words['micro_stops']}")
    colon = " : " if formats.french else ": "
    return f"{view.work_unit}, {formats.clock(view.shift_from)}–{formats.clock(view.shift_to)}{colon}" + ", ".join(spoken) + "."


def _spent(unit: UnitStatus, kind: str) -> float:
    end = unit.view.at
    return sum(((interval.to or end) - interval.from_).total_seconds() for interval in unit.view.intervals if interval.kind == kind)


def _segments(of: Losses | None, scale_s: float) -> tuple[Segment, ...]:
    if of is None or of.lost_s is None or scale_s <= 0:
        return ()
    parts = ((of.stop_s + of.setup_s, "l1"), (of.micro_s, "l2"), (of.slow_s, "l3"), (of.unknown_s, "unk"), (of.scrap_s, "l4"))
    places = spread([100 * seconds / scale_s for seconds, _ in parts])
    return tuple(Segment(x, width, css) for (x, width), (_, css) in zip(places, parts, strict=True) if width > 0)


def _loss_words(of: Losses | None, reader: Reader) -> tuple[LossWord, ...]:
    """Only what was lost; the heaviest is set in bold."""
    if of is None:
        return ()
    parts = {
        "loss.stop": of.stop_s + of.setup_s, "loss.micro": of.micro_s, "loss.slow": of.slow_s, "loss.unknown": of.unknown_s,
        "loss.scrap": of.scrap_s,
    }  # fmt: skip
    heaviest = max(parts.values())
    return tuple(
        LossWord(reader.words[word], reader.formats.minutes(seconds), seconds == heaviest) for word, seconds in parts.items() if seconds > 0
    )


_VERDICT_ICONS = {"on_time": "ok", "at_risk": "warn", "late": "warn", "unknown": "unk"}


def order_line(job: JobView, reader: Reader) -> OrderLine:
    formats, words, order = reader.formats, reader.words, job.order
    known = job.eta_likely is not None and job.eta_safe is not None
    end = words["no_rate"]
    if known:
        likely, safe = formats.when(job.eta_likely, reader.now), formats.when(job.eta_safe, reader.now)
        end = f"{words['end_at']} {likely}" + ("" if likely == safe else f"–{_without_day(likely, safe)}")
    promised = due(job)
    return OrderLine(
        order.job_order_id, order.product_id or "", formats.quantity(job.good), formats.quantity(order.quantity), _done(job), end,
        f"{words['due_at']} {formats.when(promised, reader.now)}" if promised else words["no_due"],
        words[f"verdict.{job.verdict}"], _VERDICT_ICONS[job.verdict], known,
    )  # fmt: skip


def _without_day(first: str, second: str) -> str:
    """`jeu. 26/11 06:28` and `jeu. 26/11 07:28` -> the second's clock alone."""
    day = first.rpartition(" ")[0]
    return second.removeprefix(f"{day} ") if day else second


def _done(job: JobView) -> float | None:
    quantity = job.order.quantity
    if not quantity:
        return None
    return round(float(min(max(100 * job.good / quantity, Decimal(0)), Decimal(100))), 2)


@dataclass(frozen=True)
class FlowBox:
    """One station of the data's way. `css`: warn or crit where something is wrong."""

    title: str
    icon: str
    value: str
    small: str
    css: str = ""


def devices_box(board: Board, reader: Reader) -> FlowBox:
    words, formats = reader.words, reader.formats
    devices = [link for link in board.links if link.kind == "device"]
    up = sum(seen(link) for link in devices)
    rate = f"{formats.number(board.readings_per_s)} {words['readings_s']}" if board.readings_per_s is not None else formats.clock(board.at)
    value = f"{up} {words['seen_of']} {len(devices)} {words['seen']}"
    return FlowBox(words["plcs"], "ok" if up == len(devices) else "crit", value, rate, "" if up == len(devices) else "crit")


def journal_box(board: Board, reader: Reader) -> FlowBox:
    words, formats, journal = reader.words, reader.formats, board.journal
    ago = (
        f"{words['last_write']} {formats.age(journal.last_commit_at, reader.now)} {words['ago']}".strip() if journal.last_commit_at else "–"
    )
    if not journal.committing or journal.disk in ("full", "read_only"):
        return FlowBox(words["local_journal"], "crit", words["not_written"], ago, "crit")
    value = f"{words['written']} {formats.number(journal.dropped)} {words['dropped']}"
    wrong = journal.dropped > 0 or journal.disk != "ok"
    return FlowBox(words["local_journal"], "warn" if wrong else "ok", value, ago, "warn" if wrong else "")


def uplink_box(board: Board, uplink: UplinkStatus, reader: Reader) -> FlowBox:
    words, formats = reader.words, reader.formats
    link = board.link(uplink.name)
    title = f"{uplink.name} ({uplink.type.upper()})"
    waiting = f"{formats.number(uplink.rows)} {words['waiting']}"
    acked = f"{words['acked']} {formats.age(uplink.last_ack_at, reader.now)} {words['ago']}".strip() if uplink.last_ack_at else waiting
    if link is not None and link.state is LinkState.CONNECTING and link.attempt == 0:
        return FlowBox(title, "idle", words["connecting"], waiting)
    if not seen(link) and link is not None:
        trying = f"{words['next_try']} {formats.lasted((link.next_try_at - reader.now).total_seconds())}" if link.next_try_at else ""
        return FlowBox(
            title, "warn", f"{words['mute']} {formats.since(link.since, reader.now)}", ", ".join(filter(None, (waiting, trying))), "warn"
        )
    if uplink.parked:
        return FlowBox(title, "warn", f"{formats.number(uplink.parked)} {words['parked'].lower()}", waiting, "warn")
    asked = uplink.bookings.orders["blocked"] + uplink.bookings.orders["refused"] if uplink.bookings is not None else 0
    if asked:
        return FlowBox(title, "warn", f"{formats.number(asked)} {words['erp.asked']}", waiting, "warn")
    behind = uplink.oldest_at is not None and (reader.now - uplink.oldest_at).total_seconds() > FROZEN_AFTER_S
    if behind and uplink.rows:
        return FlowBox(title, "idle", words["catching_up"], waiting)
    return FlowBox(title, "ok", words["up_to_date"], acked)


def frozen(board: Board, now: datetime) -> bool:
    """Whether the board itself stands still."""
    return (now - board.at).total_seconds() > FROZEN_AFTER_S


def autonomy(board: Board, reader: Reader) -> str:
    hours = board.journal.hours_left
    return reader.words["autonomy_unknown"] if hours is None else reader.formats.duration(hours * 3600)


def filled(board: Board) -> float:
    """Of the journal's cap, in per cent, at most 100."""
    journal = board.journal
    return round(min(100 * journal.bytes / journal.cap_bytes, 100.0), 2) if journal.cap_bytes else 0.0
