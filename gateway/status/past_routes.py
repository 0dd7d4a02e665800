"""`/report/...`, `/api/windows/...` and `/api/stops/...`: what the journal remembers, a bounded piece at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from aiohttp import web

from gateway.domain.events import Text
from gateway.domain.report import NoSuchWindow, PastUnreadable
from gateway.status.answers import html, json
from gateway.status.board import UnitStatus
from gateway.status.payloads import Payload
from gateway.status.report import Archive, stop_payload
from gateway.status.surroundings import Surroundings

T = TypeVar("T")

KINDS = ("hour", "shift", "job")
USUAL = 200
MOST = 1_000
"""Windows or stops of one answer: a month of hours; who wants more asks again from the last one."""
WEEK = timedelta(days=7)
LONGEST = timedelta(days=400)
WAITING = 4
"""Questions at once; the journal answers one after the other."""
TIMEOUT_S = 5.0
_UNREADABLE = Text(
    "Le journal ne peut pas être lu maintenant. Vérifier le disque du PC de ligne, puis recharger la page.",
    "The journal cannot be read now. Check the disk of the line PC, then load the page again.",
)
_BUSY = Text("Trop de rapports sont demandés à la fois. Recharger la page.", "Too many reports are asked for at once. Load the page again.")


class _Refused(Exception):
    """A question that makes no sense, with the sentence that says why."""


class PastRoutes:
    def __init__(self, archive: Archive, around: Surroundings) -> None:
        self._archive = archive
        self._around = around
        self._asking = 0

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/report/{work_unit}/{shift}", self._report)
        router.add_get("/api/windows/{work_unit}", self._windows)
        router.add_get("/api/windows/{work_center}/_line", self._line_windows)
        router.add_get("/api/stops/{work_unit}", self._stops)

    async def _report(self, request: web.Request) -> web.StreamResponse:
        unit = self._around.present().unit(request.match_info["work_unit"])
        if unit is None:
            raise web.HTTPNotFound
        try:
            found = await self._ask(lambda: self._archive.shift(unit.view.work_unit, request.match_info["shift"]))
        except NoSuchWindow as none:
            return self._around.sentence(request, none.text, 404)
        except PastUnreadable:
            return self._around.sentence(request, _UNREADABLE, 503)
        if found is None:
            return self._around.sentence(request, _BUSY, 503)
        return html(self._around.pages.report(unit, found, self._around.language(request)))

    async def _windows(self, request: web.Request) -> web.StreamResponse:
        def ask(unit: UnitStatus) -> Callable[[], Awaitable[Payload]]:
            kind, start, end, limit = self._kind_and_bounds(request)
            name = unit.view.work_unit

            async def found() -> Payload:
                lines = await self._archive.windows(name, kind, start, end, limit + 1)
                return {"work_unit": name, "kind": kind, "from": start, "to": end, **_cut("windows", lines, limit)}

            return found

        return await self._data(request, ask)

    async def _line_windows(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["work_center"]
        board = self._around.present()

        async def found() -> Payload:
            lines = await self._archive.line_windows(name, kind, start, end, limit + 1)
            if lines is None:
                return {}
            return {"work_center": name, "kind": kind, "from": start, "to": end, **_cut("windows", lines, limit)}

        try:
            kind, start, end, limit = self._kind_and_bounds(request)
            body = await self._ask(found)
        except _Refused as refused:
            return json({"error": str(refused)}, 400)
        except PastUnreadable:
            return json({"error": _UNREADABLE.en}, 503)
        if body is None:
            return json({"error": _BUSY.en}, 503)
        return json(body) if body else json({"error": "no such line of several machines", "work_centers": list(board.lines)}, 404)

    async def _stops(self, request: web.Request) -> web.StreamResponse:
        def ask(unit: UnitStatus) -> Callable[[], Awaitable[Payload]]:
            start, end, limit = self._bounds(request, set())
            name = unit.view.work_unit

            async def found() -> Payload:
                stops, more = await self._archive.stops(name, start, end, limit)
                return {"work_unit": name, "from": start, "to": end, "stops": [stop_payload(stop) for stop in stops], "more": more}

            return found

        return await self._data(request, ask)

    async def _data(self, request: web.Request, ask: Callable[[UnitStatus], Callable[[], Awaitable[Payload]]]) -> web.StreamResponse:
        board = self._around.present()
        unit = board.unit(request.match_info["work_unit"])
        if unit is None:
            return json({"error": "no such work unit", "work_units": [known.view.work_unit for known in board.units]}, 404)
        try:
            body = await self._ask(ask(unit))
        except _Refused as refused:
            return json({"error": str(refused)}, 400)
        except PastUnreadable:
            return json({"error": _UNREADABLE.en}, 503)
        return json({"error": _BUSY.en}, 503) if body is None else json(body)

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T | None:
        """None: too many ask already. Raises PastUnreadable, also where the journal takes too long."""
        if self._asking >= WAITING:
            return None
        self._asking += 1
        try:
            async with self._around.clock.timeout(TIMEOUT_S):
                return await question()
        except TimeoutError as error:
            self._around.metrics.past_unreadable.inc()
            raise PastUnreadable("no answer in time") from error
        except PastUnreadable:
            self._around.metrics.past_unreadable.inc()
            raise
        finally:
            self._asking -= 1

    def _kind_and_bounds(self, request: web.Request) -> tuple[str, datetime, datetime, int]:
        kind = request.query.get("kind", "shift")
        if kind not in KINDS:
            raise _Refused(f"kind {kind!r} is none of {', '.join(KINDS)}")
        return (kind, *self._bounds(request, {"kind"}))

    def _bounds(self, request: web.Request, others: set[str]) -> tuple[datetime, datetime, int]:
        """`from`, `to` and `limit`; by default the last seven days. Raises _Refused."""
        unknown = set(request.query) - {"from", "to", "limit"} - others
        if unknown:
            raise _Refused(f"{sorted(unknown)[0]!r} is no parameter here; there are {', '.join(sorted({'from', 'to', 'limit'} | others))}")
        end = _moment(request, "to") or self._around.clock.now()
        start = _moment(request, "from") or end - WEEK
        if start >= end:
            raise _Refused("`from` is not before `to`; exchange them")
        if end - start > LONGEST:
            raise _Refused(f"from {start:%Y-%m-%d} to {end:%Y-%m-%d} is more than {LONGEST.days} days; ask for less at a time")
        text = request.query.get("limit", str(USUAL))
        if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MOST):
            raise _Refused(f"limit {text!r} is no whole number from 1 to {MOST}")
        return start, end, int(text)


def _cut(name: str, lines: Sequence[Any], limit: int) -> Payload:
    """Of one more than was asked for: those, and whether there are more."""
    return {name: lines[:limit], "more": len(lines) > limit}


def _moment(request: web.Request, name: str) -> datetime | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        # In a query a bare plus is a space.
        at = datetime.fromisoformat(text.replace(" ", "+"))
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _Refused(f"{name} {text!r} is no time with its offset; write for example 2026-11-24T05:00:00Z")
