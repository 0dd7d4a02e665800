"""`/api/readings`: what the machines say from now on, as a recording that `lineside replay` reads."""

from __future__ import annotations

import asyncio
import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
from aiohttp import web

from drivers.base import Clock, Quality, Reading
from drivers.recording import HEADER, write_value
from gateway.domain.instants import timestamp
from gateway.metrics import Metrics

Present = Mapping[str, Mapping[str, Reading]]
"""Device -> tag -> its last reading."""

MAX_RECORDINGS = 4
"""A technician makes one; beyond, somebody leaks connections."""
PENDING_BYTES = 2_000_000
"""What one recording may have waiting for its reader: minutes of a busy line. Beyond, rows are dropped and the recording says so."""
IDLE_S = 5.0
"""An empty line this often tells the other end that machines are silent, and not the gateway."""
WRITE_TIMEOUT_S = 20.0
"""A reader that takes nothing for so long is gone."""
_OLDEST = timedelta(seconds=10)
"""Source times are at most so old (`gateway.acquisition.sampling`): what holds is told with a time before any that may come."""


@dataclass(slots=True)
class _Tag:
    """The last reading of one tag: since when it is in the recording, and until when it was seen unchanged."""

    value: object
    quality: Quality
    written: datetime
    seen: datetime


class Recording:
    """One recording on its way: first what every tag says, then each change.

    A value that stood still is told once more, with the last time at which it was read, before it changes: when the machine was last
    looked at decides what a counter may have made since. Rows of one device never go back in time, as the gateway takes them.
    """

    def __init__(self, present: Present, recorded: frozenset[str], now: datetime) -> None:
        self.wake = asyncio.Event()
        self.gaps = 0
        self._tags: dict[tuple[str, str], _Tag] = {}
        self._latest: dict[str, datetime] = {}
        self._rows = io.StringIO()
        self._table = csv.writer(self._rows, lineterminator="\n")
        self._table.writerow(HEADER)
        self._unsent_from: datetime | None = None
        self._lost_from: datetime | None = None
        for device, tags in present.items():
            newest = max((reading.received_at for reading in tags.values()), default=now)
            self._latest[device] = begin = newest if device in recorded else max(newest, now - _OLDEST)
            for reading in tags.values():
                self._take(device, begin, reading)

    def note(self, device: str, readings: Iterable[tuple[datetime, Reading]]) -> None:
        """What one device said, with the instants that the work units took it for; never waits."""
        latest = self._latest.get(device)
        if latest is None:
            return
        for at, reading in readings:
            latest = max(at, latest)
            self._take(device, latest, reading)
        self._latest[device] = latest
        if self._rows.tell() > PENDING_BYTES:
            self._drop()
        self.wake.set()

    def _take(self, device: str, at: datetime, reading: Reading) -> None:
        key = device, reading.tag
        known = self._tags.get(key)
        if known is None:
            self._tags[key] = _Tag(reading.value, reading.quality, at, at)
        elif known.value == reading.value and known.quality is reading.quality:
            known.seen = at
            return
        else:
            self._tell_seen(key, known)
            known.value, known.quality, known.written, known.seen = reading.value, reading.quality, at, at
        self._row(key, at, reading.value, reading.quality)

    def _tell_seen(self, key: tuple[str, str], tag: _Tag) -> None:
        if tag.seen > tag.written:
            self._row(key, tag.seen, tag.value, tag.quality)
            tag.written = tag.seen

    def _row(self, key: tuple[str, str], at: datetime, value: object, quality: Quality) -> None:
        if self._lost_from is not None:
            return
        if self._unsent_from is None:
            self._unsent_from = at
        text = write_value(value)  # type: ignore[arg-type]  # it came with a reading
        # An empty text has no place in a recording: it says as little as a bad reading.
        self._table.writerow((timestamp(at), *key, text, quality.value if text else Quality.BAD.value))

    def _drop(self) -> None:
        """The reader is too slow: what waits is lost, and so is what comes until it takes something again."""
        self._lost_from = self._unsent_from
        self._clear()

    def _clear(self) -> None:
        self._rows.seek(0)
        self._rows.truncate()
        self._unsent_from = None

    def rows(self) -> bytes:
        """What was not handed out yet, whole lines; after a gap first that nothing is known of it, then what holds now."""
        if self._lost_from is not None:
            since, self._lost_from = self._lost_from, None
            self.gaps += 1
            for key in self._tags:
                self._row(key, since, None, Quality.BAD)
            for key, tag in self._tags.items():
                tag.written = max(since, self._latest[key[0]])
                self._row(key, tag.written, tag.value, tag.quality)
        said = self._rows.getvalue().encode()
        self._clear()
        return said

    def end(self) -> bytes:
        """The last rows: until when each tag was seen as it is."""
        said = self.rows()
        for key, tag in self._tags.items():
            self._tell_seen(key, tag)
        return said + self.rows()


class Recordings:
    """All recordings that are being written. `present` gives the last reading of every tag; devices in `recorded` live in another time."""

    def __init__(self, present: Callable[[], Present], recorded: frozenset[str], clock: Clock, metrics: Metrics) -> None:
        self._present = present
        self._recorded = recorded
        self._clock = clock
        self._metrics = metrics
        self._running: set[Recording] = set()
        self._closing = False

    @property
    def wanted(self) -> bool:
        """Whether anybody records."""
        return bool(self._running)

    def note(self, device: str, readings: Iterable[tuple[datetime, Reading]]) -> None:
        """What one device said, with the instants that the work units took it for; never waits."""
        told = list(readings)
        for recording in self._running:
            recording.note(device, told)

    def close(self) -> None:
        """Let every reader go, so that the server can stop."""
        self._closing = True
        for recording in self._running:
            recording.wake.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One recording: `device` alone where given, for `seconds` where given, else until the reader goes or the gateway stops."""
        present, device = self._present(), request.query.get("device")
        if device is not None:
            if device not in present:
                return _refusal(404, f"no device {device}", sorted(present))
            present = {device: present[device]}
        try:
            seconds = float(request.query["seconds"]) if "seconds" in request.query else None
        except ValueError:
            seconds = math.nan
        if seconds is not None and not 0 < seconds < math.inf:
            return _refusal(400, "seconds is no number of seconds", sorted(present))
        headers = {"Content-Type": "text/csv; charset=utf-8", "Cache-Control": "no-store"}
        if request.method == "HEAD":
            return web.Response(headers=headers)
        if len(self._running) >= MAX_RECORDINGS:
            return _refusal(503, "too many recordings at a time", sorted(present))
        response = web.StreamResponse(headers=headers)
        recording = Recording(present, self._recorded, self._clock.now())
        self._running.add(recording)
        try:
            await response.prepare(request)
            await self._write(recording, response, seconds)
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._running.discard(recording)
        return response

    async def _write(self, recording: Recording, response: web.StreamResponse, seconds: float | None) -> None:
        until = None if seconds is None else self._clock.monotonic() + seconds
        gaps = 0
        while not self._closing:
            left = IDLE_S if until is None else min(until - self._clock.monotonic(), IDLE_S)
            if left <= 0:
                break
            async with self._clock.timeout(WRITE_TIMEOUT_S):
                await response.write(recording.rows() or b"\n")
            if recording.gaps > gaps:
                self._metrics.recording_gaps.inc(recording.gaps - gaps)
                gaps = recording.gaps
            with suppress(TimeoutError):
                async with self._clock.timeout(left):
                    await recording.wake.wait()
            recording.wake.clear()
        async with self._clock.timeout(WRITE_TIMEOUT_S):
            await response.write(recording.end())


def _refusal(status: int, error: str, devices: list[str]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps({"error": error, "devices": devices}), content_type="application/json")
