"""The MTConnect driver: what an agent's documents say, and what becomes of its buffer, its restarts and its mistakes."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from drivers import make_driver, make_explorer
from drivers.base import LinkError, Quality, Reading, ReplyError, SilentLinkError, Subscribing, TagError, Watching
from drivers.mtconnect import COUNT, LARGEST, MTConnectDriver, MTConnectSettings, parse_document
from drivers.mtconnect_browse import MTConnectExplorer
from gateway.clock import SystemClock
from simulators.loopback import HOST, free_port
from tests.drivers.devices import by_tag, within
from tests.drivers.mtconnect_agent import NAMESPACE, Agent

ELEMENTS = {"execution": "Execution", "parts": "PartCount", "load": "Load", "fault": "", "program": "Program", "offsets": "OffsetDataSet"}
AT = datetime(2026, 11, 28, 6, 0, 0, 250_000, tzinfo=UTC)


def settings(port: int = 5000, **more: Any) -> MTConnectSettings:
    tags: dict[str, Any] = {item: {"data_item": item} for item in ELEMENTS}
    tags["program"]["type"] = "string"
    base = {"driver": "mtconnect", "url": f"http://{HOST}:{port}", "interval": 0.02, "tags": tags}
    return MTConnectSettings.model_validate(base | more)


@asynccontextmanager
async def linked(size: int = 64, **more: Any) -> AsyncIterator[tuple[Agent, MTConnectDriver]]:
    agent = Agent(free_port(), ELEMENTS, conditions=("fault",), size=size, device=more.get("device", ""))
    await agent.start()
    driver = make_driver(settings(agent.port, **more), SystemClock(), name="lathe", secrets=lambda secret: "")
    assert isinstance(driver, MTConnectDriver)
    await driver.connect()
    try:
        yield agent, driver
    finally:
        await driver.close()
        await agent.stop()


class Heard:
    """What a subscription yields, collected beside the test."""

    def __init__(self, driver: MTConnectDriver, tags: Sequence[str] = tuple(ELEMENTS)) -> None:
        self.batches: list[list[Reading]] = []
        self._task = asyncio.create_task(self._listen(driver, tags), name="heard")

    async def _listen(self, driver: MTConnectDriver, tags: Sequence[str]) -> None:
        async for batch in driver.subscribe(tags):
            self.batches.append(list(batch))

    def values(self, tag: str) -> list[Any]:
        return [reading.value for batch in self.batches for reading in batch if reading.tag == tag]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def hearing(driver: MTConnectDriver, tags: Sequence[str] = tuple(ELEMENTS)) -> AsyncIterator[Heard]:
    heard = Heard(driver, tags)
    await within(5, lambda: heard.batches)
    yield heard
    await heard.close()


def document(body: str, *, header: str = 'instanceId="7" nextSequence="12" lastSequence="11"') -> bytes:
    return f'<m:MTConnectStreams xmlns:m="{NAMESPACE}"><m:Header {header}/><m:Streams>{body}</m:Streams></m:MTConnectStreams>'.encode()


def event(text: str, more: str = "") -> str:
    head = f'dataItemId="x" sequence="11" timestamp="2026-11-28T06:00:00.25Z"{more}'
    return f"<m:Events><m:PartCount {head}>{text}</m:PartCount></m:Events>"


# --- documents ---


def test_an_observation_has_its_sequence_its_time_and_its_text() -> None:
    found = parse_document(document(event(" 17 ")))
    assert (found.instance, found.next, found.last, found.error) == ("7", 12, 11, "")
    (seen,) = found.observations
    assert (seen.sequence, seen.data_item, seen.text, seen.at, seen.kind) == (11, "x", "17", AT, "PartCount")
    assert not seen.is_condition


@pytest.mark.parametrize("stamp", ["2026-11-28T06:00:00.250000000Z", "2026-11-28T06:00:00.25", "2026-11-28T08:00:00.25+02:00"])
def test_times_are_utc(stamp: str) -> None:
    text = event("1").replace("2026-11-28T06:00:00.25Z", stamp)
    assert parse_document(document(text)).observations[0].at == AT


# Both are right in all else, and a parser that expands entities takes the first.
BOMB = b'<!DOCTYPE a [<!ENTITY b "1111"><!ENTITY c "&b;&b;&b;&b;">]>' + document(event("&c;"))
OUTSIDE = b'<!DOCTYPE a [<!ENTITY c SYSTEM "file:///etc/hostname">]>' + document(event("&c;"))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html><body>busy</body></html>", b"<MTConnectStreams>", b"\xff\xfe", BOMB, OUTSIDE,
        document(event("1"), header='instanceId="7"'), document(event("1"), header='instanceId="7" nextSequence="a" lastSequence="1"'),
        document(event("1").replace('sequence="11"', "")), document(event("1").replace("2026-11-28T06", "yesterday")),
        b"<MTConnectDevices><Header/></MTConnectDevices>",
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_whole(body: bytes) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        parse_document(body)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("17", None, 17), ("17.5", None, 17.5), ("-1e3", None, -1000.0), ("ACTIVE", None, "ACTIVE"), ("17", "string", "17"),
        ("17", "uint32", 17), ("17.5", "uint32", None), ("many", "uint32", None), ("17", "float64", 17.0), ("on", "bool", True),
        ("OFF", "bool", False), ("AJAR", "bool", None), ("", None, ""), ("9" * 25, None, "9" * 25), ("9" * 25, "uint64", None),
        ("nan", "float64", None), ("65535", "uint16", 65535), ("65536", "uint16", None), ("-1", "uint32", None), ("-1", "int16", -1),
        ("9999999999999999999", None, 9999999999999999999), ("-9999999999999999999", None, -1e19),
    ],
)  # fmt: skip
def test_text_becomes_the_value_that_the_tag_says(text: str, kind: str | None, value: object) -> None:
    tags = {"t": {"data_item": "x"} | ({"type": kind} if kind else {})}
    driver = MTConnectDriver(settings(tags=tags), SystemClock(), name="lathe", secrets=lambda secret: "")
    (reading,) = driver._present(["t"], parse_document(document(event(text))))
    assert (reading.value, type(reading.value)) == (value, type(value))
    assert reading.source_time == AT
    assert (reading.quality is Quality.BAD) is (value is None)
    assert bool(reading.detail) is (value is None)


@pytest.mark.parametrize(
    ("text", "more", "value", "says"),
    [
        ("80", {"valid": [0, 100]}, 80, ""),
        ("101", {"valid": [0, 100]}, None, "101 is outside 0 to 100"), ("IDLE", {"valid": [0, 100]}, "IDLE", ""),
        ("ON", {"type": "bool", "invert": True}, False, ""), ("IDLE", {"invert": True}, None, "'IDLE' is not a bit"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_bad_counted_and_told(text: str, more: dict[str, Any], value: object, says: str) -> None:
    driver = MTConnectDriver(settings(tags={"t": {"data_item": "x"} | more}), SystemClock(), name="lathe", secrets=lambda secret: "")
    (reading,) = driver._present(["t"], parse_document(document(event(text))))
    assert (reading.value, reading.detail) == (value, says)
    assert driver.incidents["invalid_value"] == (value is None)
    assert set(driver.concerns) == ({"values"} if value is None else set())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"url": "opc.tcp://agent"}, "no address of an agent"),
        ({"url": "http://user@agent:5000"}, "no address of an agent"),
        ({"url": "http://agent:5000/current?path=//x"}, "no address of an agent"),
        ({"tags": {"a": {"data_item": "x", "writable": True}}}, "can only be read"),
        ({"tags": {"a": {"data_item": ""}}}, "at least 1 character"),
    ],
)
def test_settings_that_cannot_work(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(**change)


# --- an agent on loopback ---


@pytest.mark.slow
async def test_every_change_between_two_looks_comes_in_its_order() -> None:
    async with linked(interval=0.2) as (agent, driver), hearing(driver) as heard:
        assert isinstance(driver, Subscribing)
        assert isinstance(driver, Watching)
        for number, state in ((1, "ACTIVE"), (2, "STOPPED"), (3, "ACTIVE")):
            agent.observe("parts", str(number), at=AT)
            agent.observe("execution", state)
        await within(5, lambda: heard.values("execution")[-1:] == ["ACTIVE"] and heard.values("parts")[-1:] == [3])
        assert heard.values("parts") == [None, 1, 2, 3]
        assert heard.values("execution") == [None, "ACTIVE", "STOPPED", "ACTIVE"]
        assert all(len({reading.tag for reading in batch}) == len(batch) for batch in heard.batches)
        assert [r.source_time for batch in heard.batches for r in batch if r.tag == "parts"][-1] == AT


@pytest.mark.slow
async def test_a_quiet_agent_is_alive() -> None:
    async with linked() as (agent, driver), hearing(driver) as heard:
        await within(5, lambda: len(heard.batches) >= 3)
        assert heard.batches[1:] == [[] for _ in heard.batches[1:]]
        assert [request for request in agent.requests if "sample" in request][-1] == f"/sample?from=7&count={COUNT}"


@pytest.mark.slow
async def test_unavailable_is_bad_and_comes_back() -> None:
    async with linked() as (agent, driver), hearing(driver) as heard:
        first = by_tag(heard.batches[0])
        assert {reading.quality for reading in first.values()} == {Quality.BAD}
        assert {first[tag].detail for tag in ("parts", "execution", "fault")} == {"UNAVAILABLE"}
        agent.observe("parts", "5")
        await within(5, lambda: heard.values("parts") == [None, 5])
        agent.observe("parts", "UNAVAILABLE")
        await within(5, lambda: heard.values("parts") == [None, 5, None])


@pytest.mark.slow
async def test_a_buffer_that_moved_on_is_a_counted_gap_and_what_stands_is_read() -> None:
    async with linked(size=8, interval=0.3) as (agent, driver), hearing(driver) as heard:
        for number in range(100):
            agent.observe("load", str(number))
        await within(5, lambda: heard.values("load")[-1:] == [99])
        assert driver.incidents == {"gap": 1, "restart": 0, "invalid_value": 0}
        agent.observe("load", "7.5")
        await within(5, lambda: heard.values("load")[-1:] == [7.5])


@pytest.mark.slow
async def test_an_agent_that_began_anew_is_counted_and_read_anew() -> None:
    async with linked() as (agent, driver), hearing(driver) as heard:
        for number in range(20):
            agent.observe("parts", str(number))
        await within(5, lambda: heard.values("parts")[-1:] == [19])
        agent.restart()
        await within(5, lambda: heard.values("parts")[-1:] == [None])
        agent.observe("parts", "3")
        await within(5, lambda: heard.values("parts")[-1:] == [3])
        assert driver.incidents == {"gap": 0, "restart": 1, "invalid_value": 0}


@pytest.mark.slow
async def test_a_restart_is_seen_although_its_sequence_numbers_fit() -> None:
    async with linked() as (agent, driver), hearing(driver) as heard:
        agent.restart()
        agent.observe("parts", "1")
        await within(5, lambda: heard.values("parts")[-1:] == [1])
        assert driver.incidents["restart"] == 1


@pytest.mark.slow
async def test_more_than_one_response_holds_is_fetched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.mtconnect.COUNT", 10)
    async with linked(size=512, interval=0.5) as (agent, driver), hearing(driver) as heard:
        for number in range(95):
            agent.observe("load", str(number))
        await within(5, lambda: heard.values("load")[-1:] == [94])
        assert heard.values("load") == [None, *range(95)]
        assert len([request for request in agent.requests if "sample" in request]) <= 12


@pytest.mark.slow
async def test_a_condition_is_the_code_of_the_fault_that_stands() -> None:
    async with linked() as (agent, driver), hearing(driver) as heard:
        steps = (("Normal", "", ""), ("Fault", "E17", "E17"), ("Warning", "W3", "E17"), ("Fault", "E20", "E17"), ("Normal", "E17", "E20"))
        for level, code, expected in (*steps, ("Normal", "", ""), ("Fault", "", "Fault"), ("Normal", "", "")):
            agent.observe("fault", level, code=code)
            await asyncio.sleep(0.05)
            await within(5, lambda expected=expected: heard.values("fault")[-1:] == [expected])
        agent.observe("fault", "Fault", code="E1")
        agent.observe("fault", "Fault", code="E2")
        await within(5, lambda: heard.values("fault")[-1:] == ["E1"])
        assert by_tag(await driver.read(["fault"]))["fault"].value == "E1", "a look at what stands says the same"


@pytest.mark.slow
async def test_a_fault_that_ended_in_a_gap_does_not_stand() -> None:
    async with linked(size=8, interval=0.3) as (agent, driver), hearing(driver) as heard:
        agent.observe("fault", "Fault", code="E1")
        await within(5, lambda: heard.values("fault")[-1:] == ["E1"])
        agent.observe("fault", "Normal")
        agent.observe("fault", "Fault", code="E2")
        for number in range(100):
            agent.observe("load", str(number))
        await within(5, lambda: driver.incidents["gap"] and heard.values("load")[-1:] == [99])
        assert heard.values("fault")[-1] == "E2"


@pytest.mark.slow
async def test_an_answer_that_stops_in_the_middle_is_a_silent_link() -> None:
    ended = asyncio.Event()

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 5000\r\n\r\n<MTConnectStreams>")
        await writer.drain()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(half, HOST, 0)
    driver = make_driver(settings(server.sockets[0].getsockname()[1], timeout=0.2), SystemClock(), name="lathe", secrets=lambda secret: "")
    with pytest.raises(SilentLinkError, match="current within"):
        await driver.connect()
    await driver.close()
    await asyncio.wait_for(ended.wait(), 5)
    server.close()
    await server.wait_closed()


@pytest.mark.slow
async def test_a_set_of_values_is_no_tag_and_fails_no_other() -> None:
    async with linked() as (agent, driver):
        agent.observe("offsets", '<Entry key="G54">1.5</Entry>')
        agent.observe("parts", "5")
        found = by_tag(await driver.read(tuple(ELEMENTS)))
        assert found["parts"].value == 5
        assert found["offsets"].detail == "a set of values cannot be a tag"


@pytest.mark.slow
async def test_looking_around_gives_tags_that_a_configuration_takes() -> None:
    async with linked() as (agent, _):
        agent.observe("execution", "ACTIVE")
        agent.observe("fault", "Fault", code="E17")
        agent.observe("offsets", '<Entry key="G54">1.5</Entry>')
        explorer = make_explorer(settings(agent.port), SystemClock(), name="lathe", secrets=lambda secret: "")
        assert isinstance(explorer, MTConnectExplorer)
        await explorer.connect()
        told: list[str] = []
        found = [one for batch in [batch async for batch in explorer.browse("", told.append)] for one in batch]
        assert {one.path: one.value for one in found} == {
            "Execution/execution": "ACTIVE", "PartCount/parts": "UNAVAILABLE", "Load/load": "UNAVAILABLE", "Condition/fault": "Fault E17",
            "Program/program": "UNAVAILABLE", "OffsetDataSet/offsets": "",
        }  # fmt: skip
        assert {one.path: one.remark for one in found if not one.tag} == {"OffsetDataSet/offsets": "a set of values cannot be a tag"}
        assert settings(tags={one.path.replace("/", "_"): one.tag for one in found if one.tag})
        for path, number in (("exec", 1), ("partcount/", 1), ("p", 2)):
            assert [len(batch) async for batch in explorer.browse(path, told.append)] == [number]
        with pytest.raises(TagError, match="no data item that begins with spindle"):
            await anext(explorer.browse("spindle", told.append))
        (raw,) = await explorer.inspect(["execution"])
        assert (raw.reading.value, raw.raw) == ("ACTIVE", "Execution ACTIVE #7")
        await explorer.close()


@pytest.mark.slow
async def test_one_machine_of_an_agent_is_asked_by_its_name() -> None:
    async with linked(device="VMC-3") as (agent, driver):
        agent.observe("parts", "5")
        assert by_tag(await driver.read(["parts"]))["parts"].value == 5
        assert set(agent.requests) == {"/VMC-3/current"}


@pytest.mark.slow
@pytest.mark.parametrize("body", [b"<html>login</html>", b"", BOMB])
async def test_an_answer_that_cannot_be_trusted_ends_the_link(body: bytes) -> None:
    async with linked() as (agent, driver):
        agent.broken = body
        with pytest.raises(ReplyError) as caught:
            await driver.read(["parts"])
        assert "cannot be trusted" in str(caught.value)
        assert caught.value.remedy_fr


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [False, True])
async def test_a_document_without_end_is_refused_before_it_fills_the_memory(zipped: bool) -> None:
    async with linked() as (agent, driver):
        # An agent's own document but for its length; a thousand times shorter on its way when zipped.
        endless = document(event("1")) + b" " * (4 * LARGEST)
        agent.broken, agent.encoding = (gzip.compress(endless), "gzip") if zipped else (endless, "")
        with pytest.raises(ReplyError, match=f"a document of more than {LARGEST} bytes") as caught:
            await driver.read(["parts"])
        assert "`device`" in caught.value.remedy_en
        agent.broken, agent.encoding = None, ""
        assert (await driver.read(["parts"]))[0].detail == "UNAVAILABLE"


@pytest.mark.slow
async def test_a_path_that_no_agent_serves_is_told() -> None:
    agent = Agent(free_port(), ELEMENTS)
    await agent.start()
    driver = make_driver(settings(agent.port, device="nowhere"), SystemClock(), name="lathe", secrets=lambda secret: "")
    with pytest.raises(LinkError, match="HTTP 404"):
        await driver.connect()
    await agent.stop()
