"""`/trace/{lot}` and `/api/trace/{lot}`: the genealogy of whatever is named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from drivers.base import Clock
from gateway.domain.trace import Trace, TraceUnreadable, trace_body
from gateway.status.answers import html, json
from gateway.status.page import Pages

LONGEST_NAME = 128
"""As of every id that comes down; what is longer was never one."""
ANSWER_S = 10.0
Find = Callable[[str], Awaitable[Trace]]
"""What the journal knows of a name. Raises TraceUnreadable."""


class TraceRoutes:
    """`find` reads the journal in a thread of its own; one question at a time, so that a crowd of them does not."""

    def __init__(self, find: Find, pages: Pages, language: Callable[[web.Request], str], clock: Clock) -> None:
        self._find = find
        self._pages = pages
        self._language = language
        self._clock = clock
        self._is_busy = False

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/trace/{lot:.+}", self._page)
        router.add_get("/api/trace/{lot:.+}", self._data)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        language = self._language(request)
        found, problem = await self._ask(request)
        if found is None:
            return html(self._pages.error(problem, language), 503)
        if not found.found_as:
            return html(self._pages.error("trace_unknown", language), 404)
        return html(self._pages.trace(found, language))

    async def _data(self, request: web.Request) -> web.StreamResponse:
        found, problem = await self._ask(request)
        if found is None:
            return json({"error": "the journal cannot be read now" if problem == "trace_unreadable" else "busy, ask again"}, 503)
        if not found.found_as:
            return json({"error": "no lot, serial number or order of this name is known", "name": found.name[:LONGEST_NAME]}, 404)
        return json(trace_body(found))

    async def _ask(self, request: web.Request) -> tuple[Trace | None, str]:
        name = request.match_info["lot"]
        if len(name) > LONGEST_NAME:
            return Trace(name, (), (), (), (), (), ()), ""
        if self._is_busy:
            return None, "trace_busy"
        self._is_busy = True
        try:
            async with self._clock.timeout(ANSWER_S):
                return await self._find(name), ""
        except TraceUnreadable:
            return None, "trace_unreadable"
        except TimeoutError:
            return None, "trace_busy"
        finally:
            self._is_busy = False
