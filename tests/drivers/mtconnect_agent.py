"""A small MTConnect agent for tests: a buffer of observations behind `current` and `sample`, in the shapes of a real agent's answers."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from aiohttp import web

from simulators.loopback import HOST

NAMESPACE = "urn:mtconnect.org:MTConnectStreams:1.8"


class Entry(NamedTuple):
    sequence: int
    item: str
    element: str
    text: str
    at: str
    code: str


class Agent:
    """`elements`: data item -> name of its element; those of `conditions` are told by the element. `device`: its machine's name."""

    def __init__(self, port: int, elements: dict[str, str], *, conditions: tuple[str, ...] = (), size: int = 64, device: str = "") -> None:
        self.port = port
        self.instance = 1_649_989_201
        self.size = size
        self.requests: list[str] = []
        self.broken: bytes | None = None
        """Sent instead of every answer."""
        self.encoding = ""
        """How that is encoded: gzip."""
        self._elements = elements
        self._conditions = conditions
        self._device = device
        self._runner: web.AppRunner | None = None
        self._forget()

    def _forget(self) -> None:
        self._buffer: deque[Entry] = deque(maxlen=self.size)
        self._latest: dict[tuple[str, str], Entry] = {}
        self._next = 1
        for item in self._elements:
            self.observe(item, "UNAVAILABLE")

    def restart(self) -> None:
        """As an agent that was restarted: another instance, sequence numbers from 1, nothing known."""
        self.instance += 1
        self._forget()

    def observe(self, item: str, text: str, *, at: datetime | None = None, code: str = "") -> None:
        """A new value; of a condition `text` is Normal, Warning, Fault or UNAVAILABLE and `code` its native code."""
        stamp = (at or datetime.now(UTC)).isoformat().replace("+00:00", "Z")
        element = self._elements[item]
        if item in self._conditions:
            element, text = ("Unavailable" if text == "UNAVAILABLE" else text), ""
            if not code:
                self._latest = {key: entry for key, entry in self._latest.items() if key[0] != item}
        entry = Entry(self._next, item, element, text, stamp, code)
        self._next += 1
        self._buffer.append(entry)
        self._latest[item, code] = entry

    async def start(self) -> None:
        app = web.Application()
        prefix = f"/{self._device}" if self._device else ""
        app.router.add_get(f"{prefix}/current", self._current)
        app.router.add_get(f"{prefix}/sample", self._sample)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _current(self, request: web.Request) -> web.Response:
        self.requests.append(request.path_qs)
        return self._streams(list(self._latest.values()), self._next)

    async def _sample(self, request: web.Request) -> web.Response:
        self.requests.append(request.path_qs)
        start, count = int(request.query["from"]), int(request.query["count"])
        first = self._buffer[0].sequence
        if not first <= start <= self._next:
            return self._error("OUT_OF_RANGE", f"'from' must be greater than {first}")
        found = [entry for entry in self._buffer if start <= entry.sequence < start + count]
        return self._streams(found, found[-1].sequence + 1 if found else self._next)

    def _header(self, more: str = "") -> str:
        return f'<Header creationTime="2026-11-28T06:13:20Z" sender="test" instanceId="{self.instance}" version="2.0.0.1"{more}/>'

    def _streams(self, entries: list[Entry], following: int) -> web.Response:
        groups: dict[str, list[str]] = {"Samples": [], "Events": [], "Condition": []}
        # Grouped and not in sequence, as agents do it.
        for entry in sorted(entries, key=lambda entry: (entry.item, -entry.sequence)):
            code = f" nativeCode={quoteattr(entry.code)}" if entry.code else ""
            head = f'{entry.element} dataItemId="{entry.item}" sequence="{entry.sequence}" timestamp="{entry.at}"{code}'
            body = entry.text if entry.text.startswith("<Entry") else escape(entry.text)
            group = "Condition" if entry.item in self._conditions else "Samples" if entry.element == "Load" else "Events"
            groups[group].append(f"<{head}>{body}</{entry.element}>")
        inside = "".join(f"<{group}>{''.join(lines)}</{group}>" for group, lines in groups.items() if lines)
        more = f' bufferSize="{self.size}" firstSequence="{self._buffer[0].sequence}"'
        header = self._header(f'{more} lastSequence="{self._next - 1}" nextSequence="{following}"')
        stream = f'<DeviceStream name="lathe" uuid="000"><ComponentStream componentId="p">{inside}</ComponentStream></DeviceStream>'
        return self._xml(f'<MTConnectStreams xmlns="{NAMESPACE}">{header}<Streams>{stream}</Streams></MTConnectStreams>')

    def _error(self, code: str, text: str) -> web.Response:
        errors = f'<Errors><Error errorCode="{code}">{escape(text)}</Error></Errors>'
        return self._xml(f'<MTConnectError xmlns="urn:mtconnect.org:MTConnectError:1.8">{self._header()}{errors}</MTConnectError>', 404)

    def _xml(self, body: str, status: int = 200) -> web.Response:
        text = self.broken if self.broken is not None else f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode()
        headers = {"Content-Encoding": self.encoding} if self.encoding else {}
        return web.Response(body=text, status=status, headers=headers, content_type="text/xml")
