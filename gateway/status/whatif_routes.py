"""`/whatif/...`, `/api/whatif` and `/api/availability`: questions to the plan. They are answered beside the loop and change nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from aiohttp import web

from gateway.domain.events import Text
from gateway.domain.whatif import Answer, Question, Queue
from gateway.status import api
from gateway.status.answers import html, json
from gateway.status.board import Board
from gateway.status.surroundings import Surroundings
from gateway.status.whatif import Offer, Planner, offers_payload, units_with, whatif_payload

T = TypeVar("T")

ASKING = 2
"""Questions at once: each may take a processor for a moment, and the machines come first."""
TIMEOUT_S = 10.0
LONGEST = 4_000
"""Characters of a calendar in a question; a year of shifts and closed days has some hundred."""
_BUSY = Text(
    "Trop de questions sont posées à la fois. Recharger la page dans un instant.",
    "Too many questions are asked at once. Load the page again in a moment.",
)


class _Refused(Exception):
    """A question that makes no sense, with the sentence that says why."""

    def __init__(self, text: str, status: int = 400, french: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.french = french or text


class _Busy(Exception):
    """Too many ask already, or the answer takes too long."""


class WhatIfRoutes:
    def __init__(self, planner: Planner, around: Surroundings) -> None:
        self._planner = planner
        self._around = around
        self._asking = 0

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/whatif/{work_unit}", self._page)
        router.add_get("/api/whatif", self._whatif)
        router.add_get("/api/availability", self._availability)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        unit = self._around.present().unit(request.match_info["work_unit"])
        if unit is None:
            raise web.HTTPNotFound
        try:
            question = self._question(request, {"lang"})
            queue, answer = await self._ask(unit.view.work_unit, question)
        except _Refused as refused:
            return self._around.sentence(request, Text(refused.french, str(refused)), refused.status)
        except _Busy:
            return self._around.sentence(request, _BUSY, 503)
        return html(self._around.pages.whatif(unit, queue, question, answer, self._around.language(request)))

    async def _whatif(self, request: web.Request) -> web.StreamResponse:
        board = self._around.present()
        try:
            question = self._question(request, {"work_unit"})
            name = self._unit(board, request.query.get("work_unit"), question)
            queue, answer = await self._ask(name, question)
        except _Refused as refused:
            return json({"error": str(refused)}, refused.status)
        except _Busy:
            return json({"error": _BUSY.en}, 503)
        return json(whatif_payload(name, queue, question, answer))

    async def _availability(self, request: web.Request) -> web.StreamResponse:
        board = self._around.present()
        if not request.query:
            return json(api.availability_body(board))
        try:
            _known(request, {"product", "quantity"})
            product, quantity = _one(request, "product"), _quantity(_one(request, "quantity"))
            if not product:
                raise _Refused("product is missing; write ?product=PF-100&quantity=500")
            asked = {}
            for unit in board.units:
                name = unit.view.work_unit
                asked[name] = (self._planner.queue(name), *self._planner.new_order(name, product, quantity))

            def estimate() -> dict[str, Offer]:
                return {name: Offer(queue.offer(work), here) for name, (queue, work, here) in asked.items()}

            offers = await self._beside(estimate)
        except _Refused as refused:
            return json({"error": str(refused)}, refused.status)
        except _Busy:
            return json({"error": _BUSY.en}, 503)
        return json(offers_payload(board, product, quantity, offers))

    def _question(self, request: web.Request, others: set[str]) -> Question:
        """`first`, `priority` (several times) and `calendar` of a query. Raises _Refused."""
        _known(request, {"first", "priority", "calendar"} | others)
        priorities: dict[str, int] = {}
        for text in request.query.getall("priority", []):
            job, _, number = text.rpartition(":")
            if not job or re.fullmatch(r"-?[0-9]{1,9}", number) is None:
                raise _Refused(f"priority {text!r} names no job and number; write JOB:N, for example OF-48213-0020:90")
            priorities[job] = int(number)
        text = _one(request, "calendar")
        if len(text) > LONGEST:
            raise _Refused(f"the calendar has {len(text)} characters, more than {LONGEST}; leave out what is past")
        try:
            calendar = self._planner.calendar(text) if text else None
        except ValueError as error:
            raise _Refused(f"calendar: {error}") from error
        return Question(_one(request, "first") or None, priorities, calendar)

    def _unit(self, board: Board, named: str | None, question: Question) -> str:
        """The unit that is asked about: the one named, or the only one where these jobs wait. Raises _Refused."""
        names = [unit.view.work_unit for unit in board.units]
        if named is not None:
            if named not in names:
                raise _Refused(f"there is no work unit {named}; there are {', '.join(names)}", 404)
            return named
        jobs = [*([question.first] if question.first else []), *(question.priorities or {})]
        if not jobs and len(names) != 1:
            raise _Refused(f"say which work unit (work_unit=, or --unit): {' or '.join(names)}")
        found = units_with({name: self._planner.queue(name) for name in names}, jobs)
        if len(found) == 1:
            return found[0]
        if not found:
            raise _Refused(f"{' and '.join(jobs)}: no work unit has it released and waiting", 404)
        raise _Refused(f"{' and '.join(jobs)} waits on several work units; say which (work_unit=, or --unit): {' or '.join(found)}")

    async def _ask(self, work_unit: str, question: Question) -> tuple[Queue, Answer]:
        """Raises _Refused for a job that does not wait there, and _Busy."""
        queue = self._planner.queue(work_unit)
        jobs = [*([question.first] if question.first else []), *(question.priorities or {})]
        missing = next((job for job in jobs if job not in queue.waiting_ids), None)
        if missing is not None:
            waiting = ", ".join(queue.waiting_ids[:12]) or "–"
            raise _Refused(
                f"{missing} does not wait on {work_unit}, or is not released; there wait: {waiting}.", 404,
                f"{missing} n’attend pas sur {work_unit}, ou n’est pas libéré ; y attendent : {waiting}.",
            )  # fmt: skip
        return queue, await self._beside(lambda: queue.ask(question))

    async def _beside(self, question: Callable[[], T]) -> T:
        """Raises _Busy; a search that takes too long ends by itself a little later."""
        if self._asking >= ASKING:
            self._around.metrics.questions_unanswered.inc()
            raise _Busy
        self._asking += 1
        searching = asyncio.get_running_loop().run_in_executor(None, question)
        searching.add_done_callback(self._answered)
        try:
            async with self._around.clock.timeout(TIMEOUT_S):
                return await asyncio.shield(searching)
        except TimeoutError as error:
            self._around.metrics.questions_unanswered.inc()
            raise _Busy from error

    def _answered(self, _: object) -> None:
        self._asking -= 1


def _known(request: web.Request, names: set[str]) -> None:
    unknown = sorted(set(request.query) - names)
    if unknown:
        raise _Refused(f"{unknown[0]!r} is no parameter here; there are {', '.join(sorted(names))}")


def _one(request: web.Request, name: str) -> str:
    given = request.query.getall(name, [])
    if len(given) > 1:
        raise _Refused(f"{name} is given {len(given)} times; give it once")
    return given[0].strip() if given else ""


def _quantity(text: str) -> Decimal:
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text) is None or not Decimal(text):
        raise _Refused(f"quantity {text!r} is no number above 0; write for example 500")
    return Decimal(text)
