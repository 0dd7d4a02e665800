"""The read-only HTTP side: pages, data, metrics and probes, for those who name this host and for nobody else."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.metrics import Metrics
from gateway.status import api
from gateway.status.answers import html, json
from gateway.status.board import Board, Revisions
from gateway.status.formats import LANGUAGES
from gateway.status.page import SCREENS, Pages, Screen
from gateway.status.past_routes import PastRoutes
from gateway.status.payloads import Payload
from gateway.status.readings import Recordings
from gateway.status.report import Archive
from gateway.status.settings import Address
from gateway.status.stream import Stream
from gateway.status.surroundings import Surroundings
from gateway.status.trace_routes import Find, TraceRoutes
from gateway.status.whatif import Planner
from gateway.status.whatif_routes import WhatIfRoutes

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ALLOWED = ("GET", "HEAD")
STATIC = {"style.css": "text/css", "report.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}
SHUTDOWN_S = 2.0
"""Readers only look; there is nothing of theirs to wait for."""
_STARTING_LANGUAGE = "en"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _OwnFaults(logging.Filter):
    """What is no HTTP at all is answered with 400 and not logged: a port scan must not fill the journal with tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOGGER = logging.getLogger("lineside.page")
_LOGGER.addFilter(_OwnFaults())


class ListenError(Exception):
    """The page cannot be served at its address; `text` says why, `remedy` what to do."""

    def __init__(self, text: Text, remedy: Text, detail: str) -> None:
        super().__init__(f"{text.en} {remedy.en} ({detail})")
        self.text = text
        self.remedy = remedy
        self.detail = detail


class StatusServer:
    """Serves the board that `board` gives at each request; None while the gateway starts.

    `start` binds and raises ListenError; `run` feeds the event stream until cancelled; `stop` is bounded and safe to call twice.
    """

    def __init__(
        self, listen: Address, board: Callable[[], Board | None], metrics: Metrics, clock: Clock, recordings: Recordings | None = None,
        archive: Archive | None = None, planner: Planner | None = None, trace: Find | None = None,
    ) -> None:  # fmt: skip
        self._listen = listen
        self._board = board
        self._metrics = metrics
        revisions = Revisions()
        self._pages = Pages(self._present, clock, revisions)
        self._stream = Stream(board, clock, revisions)
        self._recordings = recordings or Recordings(dict, frozenset(), clock, metrics)
        around = Surroundings(self._pages, self._present, self._language, clock, metrics)
        self._past = None if archive is None else PastRoutes(archive, around)
        self._whatif = None if planner is None else WhatIfRoutes(planner, around)
        self._trace = None if trace is None else TraceRoutes(trace, self._pages, self._language, clock)
        self._runner: web.AppRunner | None = None
        self._port = listen.port
        self._names = _names(listen.host)

    @property
    def address(self) -> Address:
        """Where it really listens, once started."""
        return Address(self._listen.host, self._port)

    async def start(self) -> None:
        runner = await self.set_up()
        site = web.TCPSite(runner, self._listen.host, self._listen.port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ListenError(
                Text(f"La page ne peut pas s’ouvrir sur {self._listen}.", f"The page cannot be served at {self._listen}."),
                Text(
                    "Un autre programme tient ce port, ou l’adresse n’est pas de ce PC : changer gateway.listen.",
                    "Another program holds this port, or the address is not this machine's: change gateway.listen.",
                ),
                error.strerror or str(error),
            ) from error
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def set_up(self) -> web.AppRunner:
        """All that answers, without an address yet. Who asks for it cleans it up."""
        runner = web.AppRunner(self._application(), access_log=None, logger=_LOGGER, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        assert runner.server is not None
        runner.server.request_handler = _expecting(runner.server.request_handler)
        return runner

    async def run(self) -> None:
        await self._stream.run()

    async def stop(self) -> None:
        self._stream.close()
        self._recordings.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=1)
        application.on_response_prepare.append(_secured)
        add = application.router.add_get
        for name in SCREENS:
            if name != "machines":
                add(Screen(name).path, self._screen(name))
        add("/machines/{work_unit}", self._machine)
        add("/api/status", self._data(api.status_body))
        add("/api/orders", self._data(api.orders_body))
        if self._whatif is None:
            add("/api/availability", self._data(api.availability_body))
        else:
            self._whatif.add_to(application.router)
        add("/api/machines/{work_unit}", self._machine_data)
        add("/api/stream", self._stream.serve)
        add("/api/readings", self._recordings.serve)
        if self._past is not None:
            self._past.add_to(application.router)
        if self._trace is not None:
            self._trace.add_to(application.router)
        add("/metrics", self._scrape)
        add("/healthz", self._healthz)
        add("/readyz", self._readyz)
        contents = {name: files("gateway.status").joinpath("static", name).read_bytes() for name in STATIC}
        for name, body in contents.items():
            add(f"/static/{name}", _static(body, STATIC[name]))
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Method and Host before anything else."""
        refused = self._refusal(request)
        if refused is not None:
            answer: web.StreamResponse = refused
        else:
            try:
                answer = await handler(request)
            except web.HTTPNotFound:
                answer = html(self._pages.error("not_found", self._language(request)), 404)
        return answer

    def _refusal(self, request: web.Request) -> web.Response | None:
        if request.method not in ALLOWED:
            return web.Response(status=405, headers={"Allow": ", ".join(ALLOWED)}, text="this page only reads\n")
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or not hosts[0]:
            return web.Response(status=400, text="one Host header is needed\n")
        if not self._known(hosts[0].lower(), request):
            return web.Response(status=421, text="this gateway does not answer for that host\n")
        return None

    def _known(self, host: str, request: web.Request) -> bool:
        """A listed name or address, with or without our port; also the address at which this very connection arrived."""
        local = request.transport.get_extra_info("sockname") if request.transport is not None else None
        names = self._names | ({_bracketed(str(local[0]).lower())} if local else set())
        return any(host in (name, f"{name}:{self._port}") for name in names)

    def _present(self) -> Board:
        board = self._board()
        if board is None:
            raise web.HTTPServiceUnavailable(text="starting\n")
        return board

    def _language(self, request: web.Request) -> str:
        """`?lang`, then Accept-Language, then the site's."""
        asked = request.query.get("lang", "")
        if asked in LANGUAGES:
            return asked
        board = self._board()
        return accepted(request.headers.get("Accept-Language", "")) or (board.gateway.language if board else _STARTING_LANGUAGE)

    def _screen(self, name: str) -> Handler:
        async def show(request: web.Request) -> web.StreamResponse:
            return self._show(Screen(name), request)

        return show

    async def _machine(self, request: web.Request) -> web.StreamResponse:
        work_unit = request.match_info["work_unit"]
        board = self._board()
        if board is not None and board.unit(work_unit) is None:
            raise web.HTTPNotFound
        return self._show(Screen("machines", work_unit), request)

    def _show(self, screen: Screen, request: web.Request) -> web.Response:
        language = self._language(request)
        if self._board() is None:
            return html(self._pages.error("starting", language), 503)
        wanted = set(request.query.getall("part", []))
        return html(self._pages.parts(screen, language, wanted) if wanted else self._pages.page(screen, language))

    def _data(self, body: Callable[[Board], Payload]) -> Handler:
        async def give(request: web.Request) -> web.StreamResponse:
            return json(body(self._present()))

        return give

    async def _machine_data(self, request: web.Request) -> web.StreamResponse:
        board = self._present()
        unit = board.unit(request.match_info["work_unit"])
        if unit is None:
            return json({"error": "no such work unit", "work_units": [known.view.work_unit for known in board.units]}, 404)
        return json(api.machine_body(board, unit))

    async def _scrape(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n", headers={"Cache-Control": "no-store"})

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        board = self._board()
        ready = board is not None and board.journal.committing
        why = "ready\n" if ready else "starting\n" if board is None else f"nothing can be committed, disk {board.journal.disk}\n"
        return web.Response(status=200 if ready else 503, text=why, headers={"Cache-Control": "no-store"})


async def _secured(request: web.Request, answer: web.StreamResponse) -> None:
    """The same headers on every answer, a stream's too."""
    answer.headers.update(SECURITY_HEADERS)


def _expecting(answer: _Answer) -> _Answer:
    """RFC 9110 section 10.1.1. aiohttp refuses an unknown expectation ahead of every middleware, in the words of the request: without
    our headers, and with an error of its own where those are no UTF-8."""

    async def refusing(request: web.BaseRequest) -> web.StreamResponse:
        expected = request.headers.get("Expect", "")
        if request.version == HttpVersion11 and expected and expected.lower() != "100-continue":
            return web.Response(status=417, headers=SECURITY_HEADERS, text="no expectation but 100-continue can be met\n")
        return await answer(request)

    return refusing


def accepted(header: str) -> str | None:
    """The first of our languages by the weights of an Accept-Language header, None when it names neither."""
    ranked: list[tuple[float, int, str]] = []
    for place, item in enumerate(header.split(",")):
        tag, _, weight = item.strip().partition(";q=")
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        language = tag.strip().lower().partition("-")[0]
        if language in LANGUAGES and quality > 0:
            ranked.append((-quality, place, language))
    return min(ranked)[2] if ranked else None


def _names(host: str) -> set[str]:
    listed = {"localhost", "127.0.0.1", socket.gethostname().lower()}
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return listed | {host.lower()}
    return listed if address.is_unspecified else listed | {_bracketed(str(address))}


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _static(body: bytes, content_type: str) -> Handler:
    async def give(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers={"Cache-Control": "no-cache"})

    return give
