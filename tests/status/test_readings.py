"""What `lineside record` gets: the present first, then each change, never a wait for a slow reader."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Quality, Reading, Value
from drivers.recording import Recording as Played
from drivers.recording import moment
from gateway.metrics import Metrics
from gateway.status import readings
from gateway.status.readings import Recording, Recordings
from gateway.status.server import StatusServer
from gateway.status.settings import Address
from tests.manual_clock import ManualClock

T0 = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
LIVE: frozenset[str] = frozenset()


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def reading(seconds: float, tag: str, value: Value, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(tag, value, quality, None, at(seconds))


def say(recording: Recording, seconds: float, tag: str, value: Value, *, device: str = "plc") -> None:
    quality = Quality.BAD if value is None else Quality.GOOD
    recording.note(device, [(at(seconds), reading(seconds, tag, value, quality))])


def played(folder: Path, said: bytes) -> list[tuple[float, str, str, Value, Quality]]:
    """As a replay reads it: seconds after T0, device, tag, value, quality."""
    path = folder / "recording.csv"
    path.write_bytes(said)
    with closing(Played.open(path)) as recording:
        return [((moment(row[0]) - T0).total_seconds(), *row[1:]) for row in recording.rows()]


def short(rows: list[tuple[float, str, str, Value, Quality]]) -> list[tuple[float, str, Value]]:
    return [(seconds, tag, value) for seconds, _, tag, value, _ in rows]


def test_first_what_holds_then_each_change_and_at_the_end_until_when_it_was_seen(tmp_path: Path) -> None:
    present = {"plc": {"parts": reading(-3, "parts", 7), "running": reading(-3, "running", True)}, "scale": {}}
    recording = Recording(present, LIVE, at(0))
    for second, parts in ((1, 7), (2, 8), (3, 8), (4, 8), (5, 8)):
        say(recording, second, "parts", parts)
    assert short(played(tmp_path, recording.end())) == [
        (-3, "parts", 7), (-3, "running", True), (1, "parts", 7), (2, "parts", 8), (5, "parts", 8),
    ]  # fmt: skip


def test_a_value_that_stood_still_is_told_with_its_last_time_before_it_changes(tmp_path: Path) -> None:
    recording = Recording({"plc": {}}, LIVE, at(0))
    for second, parts in ((1, 7), (2, 7), (3, 7), (4, 9), (5, 10)):
        say(recording, second, "parts", parts)
    assert short(played(tmp_path, recording.rows())) == [(1, "parts", 7), (3, "parts", 7), (4, "parts", 9), (5, "parts", 10)]


def test_what_holds_is_told_with_a_time_that_no_source_time_is_before(tmp_path: Path) -> None:
    hour_ago = {"plc": {"state": reading(-3600, "state", 1)}, "film": {"state": reading(-9e6, "state", 2)}}
    recording = Recording(hour_ago, frozenset({"film"}), at(0))
    rows = played(tmp_path, recording.rows())
    assert [(seconds, device) for seconds, device, *_ in rows] == [(-9e6, "film"), (-10, "plc")], "a recording keeps its own time"


def test_rows_of_a_device_never_go_back_in_time_as_the_gateway_takes_them(tmp_path: Path) -> None:
    recording = Recording({"plc": {"parts": reading(0, "parts", 1)}}, LIVE, at(0))
    say(recording, 5, "parts", 2)
    say(recording, 4, "state", 1)
    assert short(played(tmp_path, recording.rows())) == [(0, "parts", 1), (5, "parts", 2), (5, "state", 1)]


@pytest.mark.parametrize("value", [0, -5, 2**70, 1.5, 1e300, True, False, "Coil 7", 'quo"ted, with comma', "007", None])
def test_every_value_is_read_back_as_it_was(tmp_path: Path, value: Value) -> None:
    recording = Recording({"plc": {}}, LIVE, at(0))
    say(recording, 1, "x", value)
    [(_, _, _, found, quality)] = played(tmp_path, recording.rows())
    assert (found, type(found), quality) == (value, type(value), Quality.BAD if value is None else Quality.GOOD)


def test_an_empty_text_says_as_little_as_a_bad_reading(tmp_path: Path) -> None:
    recording = Recording({"plc": {}}, LIVE, at(0))
    say(recording, 1, "order", "")
    assert played(tmp_path, recording.rows()) == [(1, "plc", "order", None, Quality.BAD)]


def test_other_devices_are_left_out() -> None:
    recording = Recording({"plc": {}}, LIVE, at(0))
    say(recording, 1, "x", 1, device="other")
    assert recording.rows() == b"at,device,tag,value,quality\n"


def test_a_slow_reader_gets_a_gap_that_says_so_and_memory_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "PENDING_BYTES", 1000)
    recording = Recording({"plc": {"parts": reading(0, "parts", 0), "running": reading(0, "running", 1)}}, LIVE, at(0))
    said = recording.rows()
    for second in range(1, 500):
        say(recording, second, "parts", second)
    rows = played(tmp_path, said + recording.rows())
    assert short(rows) == [
        (0, "parts", 0), (0, "running", 1),
        (1, "parts", None), (1, "running", None),
        (499, "parts", 499), (499, "running", 1),
    ], "nothing is known from the first row that was lost until now"  # fmt: skip
    assert recording.gaps == 1
    say(recording, 500, "parts", 500)
    assert b"500,good" in recording.rows()


# --- over HTTP --------------------------------------------------------------------------------------------------------------


class Site:
    """A server with one device whose last readings are `present`."""

    def __init__(self) -> None:
        self.clock = ManualClock(T0)
        self.metrics = Metrics()
        self.present: dict[str, dict[str, Reading]] = {"plc": {"parts": reading(0, "parts", 7)}, "scale": {}}
        self.recordings = Recordings(lambda: self.present, LIVE, self.clock, self.metrics)
        self.server = StatusServer(Address("127.0.0.1", 0), lambda: None, self.metrics, self.clock, self.recordings)

    async def ask(self, query: str = "", method: str = "GET") -> tuple[asyncio.StreamReader, bytes]:
        """The body's reader, behind the head."""
        reader, self.writer = await asyncio.open_connection("127.0.0.1", self.server.address.port)
        self.writer.write(f"{method} /api/readings{query} HTTP/1.0\r\nHost: {self.server.address}\r\n\r\n".encode())
        return reader, await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)

    async def line(self, reader: asyncio.StreamReader) -> bytes:
        return await asyncio.wait_for(reader.readline(), 5)


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_recording_over_http_ends_with_the_server(site: Site) -> None:
    await site.server.start()
    reader, head = await site.ask()
    assert b"200" in head.splitlines()[0]
    assert b"text/csv" in head
    assert await site.line(reader) == b"at,device,tag,value,quality\n"
    assert await site.line(reader) == b"2026-11-25T06:00:00Z,plc,parts,7,good\n"
    assert site.recordings.wanted
    site.recordings.note("plc", [(at(1), reading_ := reading(1, "parts", 8))])
    assert await site.line(reader) == b"2026-11-25T06:00:01Z,plc,parts,8,good\n"
    site.recordings.note("plc", [(at(2), reading_)])
    await site.server.stop()
    rest = await asyncio.wait_for(reader.read(), 5)
    assert rest.strip() == b"2026-11-25T06:00:02Z,plc,parts,8,good"
    assert not site.recordings.wanted
    site.writer.close()


async def test_a_recording_of_some_seconds_ends_by_itself(site: Site) -> None:
    await site.server.start()
    reader, _ = await site.ask("?device=plc&seconds=12")
    rest = asyncio.create_task(reader.read())
    for _ in range(100):
        if rest.done():
            break
        await asyncio.sleep(0.005)
        await site.clock.advance(1.0)
    assert (await asyncio.wait_for(rest, 5)).count(b"\n\n") >= 1, "empty lines meanwhile are signs of life"
    site.writer.close()
    await site.server.stop()


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("?device=mill", 404, b"no device mill"), ("?seconds=long", 400, b"no number"), ("?seconds=nan", 400, b"no number"),
        ("?seconds=-1", 400, b"no number"),
    ],
)  # fmt: skip
async def test_a_wrong_request_names_the_devices_there_are(site: Site, query: str, status: int, says: bytes) -> None:
    await site.server.start()
    reader, head = await site.ask(query)
    assert str(status).encode() in head.splitlines()[0]
    body = await reader.read()
    assert says in body
    assert b'["plc","scale"]' in body
    site.writer.close()
    await site.server.stop()


async def test_head_and_too_many_recordings(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.server.start()
    _, head = await site.ask(method="HEAD")
    assert b"text/csv" in head
    site.writer.close()
    monkeypatch.setattr(readings, "MAX_RECORDINGS", 0)
    _, head = await site.ask()
    assert b"503" in head.splitlines()[0]
    site.writer.close()
    await site.server.stop()


async def test_a_gap_is_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "PENDING_BYTES", 100)
    await site.server.start()
    reader, _ = await site.ask()
    await site.line(reader)
    await site.line(reader)
    for second in range(1, 20):
        site.recordings.note("plc", [(at(second), reading(second, "parts", second))])
    assert await site.line(reader) == b"2026-11-25T06:00:01Z,plc,parts,,bad\n"
    assert await site.line(reader) == b"2026-11-25T06:00:19Z,plc,parts,19,good\n"
    await site.server.stop()
    value: Any = site.metrics.registry.get_sample_value("lineside_recording_gaps_total")
    assert value == 1
    site.writer.close()
