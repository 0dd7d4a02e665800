"""Several devices on one line: who is asked when, and what one of them costs the others."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest

from drivers.base import LinkError, Quality, Reading, SilentLinkError
from drivers.modbus import ModbusDriver
from drivers.modbus_address import Address
from drivers.modbus_bus import Bus
from gateway.acquisition.poller import Poller
from gateway.clock import SystemClock
from gateway.metrics import Metrics
from tests.drivers.devices import within
from tests.drivers.modbus_line import Gateway, device, running
from tests.manual_clock import ManualClock


class Stepped(ManualClock):
    at = 0.0

    def monotonic(self) -> float:
        return self.at


@asynccontextmanager
async def connected(*drivers: ModbusDriver) -> AsyncIterator[tuple[ModbusDriver, ...]]:
    try:
        for driver in drivers:
            await driver.connect()
        yield drivers
    finally:
        for driver in drivers:
            await driver.close()


async def test_units_behind_one_address_share_one_connection_and_one_turn() -> None:
    async with running(Gateway()) as gateway:
        gateway.slow_s = dict.fromkeys((1, 2, 3), 0.01)
        url = f"tcp://127.0.0.1:{gateway.port}"
        async with connected(*(device(url, unit) for unit in (1, 2, 3))) as drivers:
            readings = await asyncio.gather(*(driver.read(["r0"]) for driver in drivers))
            assert [reading.value for (reading,) in readings] == [1000, 2000, 3000]
        assert (gateway.connections, gateway.most_under_way) == (1, 1)
        # The last one to leave closes the line.
        await within(5, lambda: gateway.open == 0)


async def test_writes_go_first_and_a_long_poll_does_not_hold_up_a_short_one() -> None:
    async with running(Gateway()) as gateway:
        url = f"tcp://127.0.0.1:{gateway.port}"
        long, short = device(url, 1, registers=6), device(url, 2)
        async with connected(long, short):
            await short.read(["r0"])
            await long.read(["r0"])
            gateway.asked.clear()
            gateway.gate.clear()
            poll = asyncio.create_task(long.read([f"r{200 * i}" for i in range(6)]))
            await within(5, lambda: gateway.asked)
            other = asyncio.create_task(short.read(["r0"]))
            await asyncio.sleep(0)
            write = asyncio.create_task(long.write("c0", True))
            await asyncio.sleep(0)
            gateway.gate.set()
            await asyncio.gather(poll, other, write)
    assert [(unit, function) for unit, function, _ in gateway.asked][:4] == [(1, 3), (1, 5), (2, 3), (1, 3)]


async def test_a_dead_unit_costs_the_others_their_turn_and_nothing_else() -> None:
    async with running(Gateway()) as gateway:
        gateway.dead = {1}
        url = f"tcp://127.0.0.1:{gateway.port}"
        async with connected(device(url, 1), device(url, 2)) as (dead, alive):
            waiting = asyncio.create_task(dead.read(["r0"]))
            await asyncio.sleep(0)
            assert (await alive.read(["r0"]))[0].value == 2000, "over a new connection"
            with pytest.raises(SilentLinkError) as caught:
                await waiting
            assert caught.value.retry_after_s is None, "once may be chance: the usual back-off"
            with pytest.raises(LinkError):
                await dead.read(["r0"])
            assert gateway.count[1] == 1, "a driver that failed asks nothing more"
        assert gateway.connections == 2


@pytest.mark.slow
async def test_a_unit_that_stays_dead_is_asked_at_a_growing_interval() -> None:
    async with running(Gateway()) as gateway:
        gateway.dead = {1}
        url = f"tcp://127.0.0.1:{gateway.port}"
        async with connected(device(url, 2)) as (alive,):
            await alive.read(["r0"])
            delays = []
            for _ in range(5):
                async with connected(device(url, 1)) as (dead,):
                    with pytest.raises(SilentLinkError) as caught:
                        await dead.read(["r0"])
                    delays.append(caught.value.retry_after_s)
            first, *grown = delays
            assert first is None
            for delay, middle in zip(grown, (1, 2, 4, 8), strict=True):
                assert delay is not None
                assert 0.75 * middle <= delay <= 1.25 * middle
            assert (await alive.read(["r0"]))[0].value == 2000


@pytest.mark.slow
async def test_alone_on_its_line_a_device_is_tried_again_soon() -> None:
    async with running(Gateway()) as gateway:
        gateway.dead = {1}
        for _ in range(4):
            async with connected(device(f"tcp://127.0.0.1:{gateway.port}", 1)) as (dead,):
                with pytest.raises(SilentLinkError) as caught:
                    await dead.read(["r0"])
                assert caught.value.retry_after_s is None


def test_all_dead_units_together_cost_a_tenth_of_the_line() -> None:
    bus = Bus(Address("tcp", "plc", 502), ManualClock())
    bus.has_neighbours = lambda unit_id: True  # type: ignore[method-assign]
    delays = [bus.failed(unit, 1.0) for _ in range(30) for unit in range(10)][-10:]
    assert all(delay is not None and 75 <= delay <= 125 for delay in delays), "ten units, a time-out of 1 s each: once in 100 s"
    assert len(set(delays)) == 10, "not all in the same moment"


def test_a_unit_that_comes_and_goes_is_forgiven_after_a_minute_without_failure() -> None:
    clock = Stepped()
    bus = Bus(Address("tcp", "plc", 502), clock)
    bus.has_neighbours = lambda unit_id: True  # type: ignore[method-assign]
    delays = []
    for _ in range(4):
        delays.append(bus.failed(1, 1.0))
        clock.at += 5
        bus.answered(1)
        assert bus.rest_s(1) == 0
        clock.at += 5
        bus.answered(1)
    assert delays[0] is None
    for delay, middle in zip(delays[1:], (1, 2, 4), strict=True):
        assert delay == pytest.approx(middle, rel=0.26)
    clock.at += 60
    bus.answered(1)
    assert bus.failed(1, 1.0) is None


def test_over_rtu_a_late_reply_gets_the_time_to_pass() -> None:
    bus = Bus(Address("rtu+tcp", "plc", 4001), ManualClock())
    assert bus.failed(1, 0.5) == 1.0


@pytest.mark.parametrize("code", [10, 11])
async def test_a_unit_that_its_gateway_cannot_reach_is_bad_and_left_alone(code: int) -> None:
    async with running(Gateway()) as gateway:
        gateway.refused = {1: code}
        url = f"tcp://127.0.0.1:{gateway.port}"
        async with connected(device(url, 1, registers=5), device(url, 2)) as (lost, alive):
            await alive.read(["r0"])
            for _ in range(4):
                readings = await lost.read([*(f"r{200 * i}" for i in range(5)), "c0"])
                assert {(reading.value, reading.quality, reading.detail) for reading in readings} == {
                    (None, Quality.BAD, {10: "GatewayPathUnavailable (10)", 11: "GatewayTargetDeviceFailedToRespond (11)"}[code])
                }
            assert gateway.count[1] == 4, "two requests a poll, and after two polls none for a while"
            assert lost.incidents == {"exception_reply": 4}
            assert lost.refused == {}
            assert (await alive.read(["r0"]))[0].value == 2000
        assert gateway.connections == 1


async def test_a_range_that_its_unit_is_silent_about_costs_the_others_nothing() -> None:
    class Choosy(Gateway):
        """Unit 1 does not answer its gateway for the first two ranges."""

        async def _answer(self, writer: asyncio.StreamWriter, tid: int, unit: int, request: bytes) -> None:
            self.refused = {1: 11} if struct.unpack(">H", request[1:3])[0] < 400 else {}
            await super()._answer(writer, tid, unit, request)

    async with running(Choosy()) as gateway:
        url = f"tcp://127.0.0.1:{gateway.port}"
        async with connected(device(url, 1, registers=5), device(url, 2)) as (choosy, _):
            tags = [f"r{200 * i}" for i in range(5)]
            await choosy.read([*tags, "c0"])
            for _ in range(3):
                assert [reading.value for reading in await choosy.read([*tags, "c0"])] == [None, None, 1400, 1600, 1800, None]
            # Nor does whoever looks at one of them after a write, time and again.
            for _ in range(5):
                assert [reading.value for reading in await choosy.read(["r0"])] == [None]
                assert [reading.value for reading in await choosy.read([*tags, "c0"])] == [None, None, 1400, 1600, 1800, None]
            assert choosy.refused == {}


async def test_who_waits_for_a_turn_sees_the_line_move() -> None:
    async with running(Gateway()) as gateway:
        gateway.dead = {1, 2, 3}
        url = f"tcp://127.0.0.1:{gateway.port}"
        async with connected(*(device(url, unit, timeout=0.05) for unit in range(1, 5))) as (*dead, alive):
            tasks = [asyncio.create_task(driver.read(["r0"])) for driver in (*dead, alive)]
            seen = {alive.answered_at}
            while not tasks[-1].done():
                await asyncio.sleep(0.01)
                seen.add(alive.answered_at)
            await asyncio.gather(*tasks, return_exceptions=True)
            assert len(seen) >= 4, "three time-outs of others before its own answer"
            assert alive.read_limit_s(["r0"]) > 4 * 0.05


async def test_who_waits_while_the_line_cannot_be_opened_does_not_try_as_well() -> None:
    async with running(Gateway()) as gateway:
        url = f"tcp://127.0.0.1:{gateway.port}"
    drivers = [device(url, unit) for unit in (1, 2, 3)]
    tried = await asyncio.gather(*(driver.connect() for driver in drivers), return_exceptions=True)
    assert all(isinstance(error, LinkError) and error.remedy_fr for error in tried)
    for driver in drivers:
        await driver.close()


async def test_a_line_that_is_cut_tells_every_device_at_its_next_request() -> None:
    async with running(Gateway()) as gateway:
        url = f"tcp://127.0.0.1:{gateway.port}"
        async with connected(device(url, 1), device(url, 2)) as drivers:
            for driver in drivers:
                await driver.read(["r0"])
            gateway.hang_up()
            await asyncio.sleep(0.05)
            for driver in drivers:
                with pytest.raises(LinkError, match="closed the connection"):
                    await driver.read(["r0"])
        async with connected(device(url, 1), device(url, 2)) as drivers:
            assert (await drivers[1].read(["r0"]))[0].value == 2000


async def test_a_cancelled_request_takes_its_connection_with_it() -> None:
    async with running(Gateway()) as gateway:
        url = f"tcp://127.0.0.1:{gateway.port}"
        async with connected(device(url, 1), device(url, 2)) as (slow, other):
            gateway.gate.clear()
            task = asyncio.create_task(slow.read(["r0"]))
            await within(5, lambda: gateway.asked)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            gateway.gate.set()
            assert [(await other.read(["r0"]))[0].value for _ in range(3)] == [2000] * 3
        assert gateway.connections == 2, "its late reply has nowhere to go"


async def test_who_has_not_answered_of_late_comes_last_but_comes() -> None:
    async with running(Gateway()) as gateway:
        gateway.dead = {1}
        url = f"tcp://127.0.0.1:{gateway.port}"
        async with connected(*(device(url, unit, registers=4) for unit in (1, 2, 3))) as (dead, one, other):
            tags = [f"r{200 * i}" for i in range(4)]
            await asyncio.gather(one.read(tags), other.read(tags))
            gateway.asked.clear()
            gateway.gate.clear()
            polls = [asyncio.create_task(one.read(tags))]
            await within(5, lambda: gateway.asked)
            polls += [asyncio.create_task(dead.read(tags)), asyncio.create_task(other.read(tags)), asyncio.create_task(one.read(tags))]
            await asyncio.sleep(0)
            gateway.gate.set()
            await asyncio.gather(*polls, return_exceptions=True)
    units = [unit for unit, _, _ in gateway.asked]
    assert units.count(1) == 1
    assert 2 <= units.index(1) <= 8, "behind those that wait with it, and not behind all that comes after"


def test_where_nobody_answers_nobody_is_held_up() -> None:
    bus = Bus(Address("tcp", "plc", 502), ManualClock())
    assert [bus.failed(unit, 1.0) for _ in range(3) for unit in range(10)] == [None] * 30


async def test_a_turn_that_is_given_up_is_passed_on() -> None:
    async with running(Gateway()) as gateway:
        url = f"tcp://127.0.0.1:{gateway.port}"
        async with connected(device(url, 1), device(url, 2), device(url, 3)) as drivers:
            gateway.gate.clear()
            tasks = [asyncio.create_task(driver.read(["r0"])) for driver in drivers]
            await within(5, lambda: gateway.asked)
            tasks[1].cancel()
            gateway.gate.set()
            assert (await asyncio.gather(*tasks, return_exceptions=True))[2][0].value == 3000  # type: ignore[index]
        assert gateway.count[2] == 0


async def test_connections_let_several_requests_be_under_way() -> None:
    async with running(Gateway()) as gateway:
        gateway.slow_s = {1: 0.02}
        tags = [f"r{200 * i}" for i in range(12)]
        async with connected(device(f"tcp://127.0.0.1:{gateway.port}", 1, registers=12, connections=4)) as (driver,):
            readings = await driver.read(tags)
            assert [reading.value for reading in readings] == [1000 + 200 * i for i in range(12)]
            assert len({reading.received_at for reading in readings}) == 1
            assert gateway.most_under_way == 4
            gateway.dead = {1}
            with pytest.raises(SilentLinkError):
                await driver.read(tags)
        assert gateway.connections == 4
        assert [task for task in asyncio.all_tasks() if "modbus" in task.get_name()] == []


async def test_the_polls_of_a_line_are_spread_over_their_interval() -> None:
    class Noting(SystemClock):
        slept: list[float] = []

        async def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)

    clock = Noting()
    async with running(Gateway()) as gateway:
        url = f"tcp://127.0.0.1:{gateway.port}"
        async with connected(*(device(url, unit, clock=clock, interval=1.0) for unit in range(1, 6))):
            begun = sorted([0.0, *clock.slept])
        gaps = [later - earlier for earlier, later in zip(begun, [*begun[1:], 1.0], strict=True)]
        assert len(begun) == 5
        assert max(gaps) <= 0.4, "nobody begins with another"
        assert min(gaps) >= 0.1
        clock.slept.clear()
        async with connected(device(url, 1, clock=clock, interval=1.0)):
            assert clock.slept == [], "alone, nobody waits"


async def test_a_pause_is_kept_between_two_requests() -> None:
    async with running(Gateway()) as gateway:
        async with connected(device(f"tcp://127.0.0.1:{gateway.port}", 1, registers=4, pause=0.03)) as (driver,):
            await driver.read([f"r{200 * i}" for i in range(4)])
        gaps = [later - earlier for earlier, later in zip(gateway.at[1], gateway.at[1][1:], strict=False)]
        assert len(gaps) == 3
        assert min(gaps) >= 0.029


@pytest.mark.parametrize(("write", "functions"), [("auto", [5, 6, 16]), ("multiple", [15, 16, 16])])
async def test_single_values_are_written_as_the_device_wants_them(write: str, functions: list[int]) -> None:
    tags = {
        "c": {"coil": 3, "writable": True},
        "w": {"holding": 1, "writable": True},
        "d": {"holding": 2, "type": "uint32", "writable": True},
    }
    async with running(Gateway()) as gateway:
        async with connected(device(f"tcp://127.0.0.1:{gateway.port}", 1, tags=tags, write=write)) as (driver,):
            await driver.write("c", True)
            await driver.write("w", 5)
            await driver.write("d", 70_000)
        assert [function for _, function, _ in gateway.asked] == functions


@pytest.mark.slow
async def test_behind_a_poller_a_dead_neighbour_is_asked_less_and_less_while_the_others_go_on() -> None:
    clock, metrics, taken = SystemClock(), Metrics(), Counter[str]()

    def take(name: str, batch: Sequence[Reading], pushed: bool) -> None:
        taken[name] += batch[0].quality is Quality.GOOD

    async with running(Gateway()) as gateway:
        gateway.dead = {1}
        url = f"tcp://127.0.0.1:{gateway.port}"
        pollers = [
            Poller(f"u{unit}", partial(device, url, unit), ["r0"], 0.1, clock, metrics, take, lambda status: None, "gateway")
            for unit in (1, 2, 3)
        ]
        tasks = [asyncio.create_task(poller.run()) for poller in pollers]
        await asyncio.sleep(5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert 3 <= gateway.count[1] <= 5, "at 0, 0.3, about 1.5 and 4 s"
        assert taken["u1"] == 0
        assert min(taken["u2"], taken["u3"]) >= 20
