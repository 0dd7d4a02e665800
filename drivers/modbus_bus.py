"""One queue for everything that goes over one line: a serial line, or one address with any number of units behind it.

Devices of the same line share its connection: writes come first, then reads in the order they were asked, one request of a device at a
time, so that a long poll never holds up a short one; last come units that have not answered of late. After a timeout or a reply that does
not fit, the connection is closed, because a late reply would shift all later ones; the other devices get a new one with their next
request and notice nothing. A unit that fails twice in a row on a shared line is asked at a growing interval: each try costs the others
its whole timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from pymodbus.pdu import ModbusPDU

from drivers import remedies
from drivers.base import Clock, LinkError
from drivers.modbus_address import Address
from drivers.modbus_wire import Refusal, Wire

# Growth of the interval at which a dead unit of a shared line is asked; and the share of the line that all its dead units may cost.
DEGRADED_AFTER = 2
DEGRADED_BASE_S, DEGRADED_CAP_S = 1.0, 30.0
DEGRADED_SHARE, FIRST_SHARE = 0.1, 0.25
# Who has not answered of late waits behind all others, but every so many turns is its own: it shall not wait for ever on a busy line.
WRITE, READ, UNPROVEN = range(3)
UNPROVEN_TURN = 8
# A unit that comes and goes is forgiven only after it has answered for this long: each of its failures costs the others a time-out.
FORGIVEN_AFTER_S = 60.0
# Polls of the devices of one line are spread over their interval, at most over this: the first values shall not wait long.
SPREAD_S = 2.0
_GOLDEN = 0.618033988749895

_BUSES: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Bus]] = WeakKeyDictionary()
"""The open lines of each event loop: a line lives from its first device to its last."""


@dataclass(slots=True)
class _Unit:
    """How a unit of the line has answered of late, kept while its driver is built anew."""

    failures: int = 0
    ask_at: float = 0.0
    well_since: float | None = None
    """Monotonic time of the first answer after the last failure, or at all; None: it has not answered since."""


class Bus:
    """A line and its queue. `wires`: connections, as many as requests may be under way at the same time."""

    def __init__(self, address: Address, clock: Clock) -> None:
        self.address = address
        self.line = address.line
        """Its name at the start: that of a serial port that is pulled out changes."""
        self.clock = clock
        self.seats: set[Seat] = set()
        self.joined = 0
        self.units: dict[int, _Unit] = {}
        self.drops = 0
        """How often the line was found closed from outside or could not be opened: every device of it must know."""
        self.refusal: Refusal | None = None
        self.moved_at = clock.monotonic()
        """Monotonic time of the end of the last request, whoever's it was."""
        self._wires: list[Wire] = []
        self._free: list[Wire] = []
        self._queues: tuple[deque[asyncio.Future[Wire]], ...] = (deque(), deque(), deque())
        self._turns = 0

    def widen(self, connections: int) -> None:
        while len(self._wires) < connections:
            wire = Wire(self.address, self.clock, self._dropped)
            self._wires.append(wire)
            self._leave(wire)

    @property
    def is_open(self) -> bool:
        return any(wire.is_open for wire in self._wires)

    def close(self) -> None:
        for wire in self._wires:
            wire.close()

    @contextlib.asynccontextmanager
    async def turn(self, rank: int) -> AsyncIterator[Wire]:
        """A wire of one's own for one request. `rank`: WRITE, READ, UNPROVEN."""
        if self._free:
            wire = self._free.pop()
        else:
            waiting: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()
            self._queues[rank].append(waiting)
            try:
                wire = await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    # It was this one's turn in the very moment in which it gave up.
                    self._leave(waiting.result())
                raise
        try:
            yield wire
        finally:
            self.moved_at = self.clock.monotonic()
            self._leave(wire)

    def _leave(self, wire: Wire) -> None:
        self._turns += 1
        order = (WRITE, READ, UNPROVEN) if self._turns % UNPROVEN_TURN else (WRITE, UNPROVEN, READ)
        for rank in order:
            queue = self._queues[rank]
            while queue:
                waiting = queue.popleft()
                if not waiting.done():
                    waiting.set_result(wire)
                    return
        self._free.append(wire)

    def _dropped(self) -> None:
        self.drops += 1

    async def open(self, wire: Wire, timeout_s: float) -> None:
        """Raises Refusal; everybody else on the line is told by `drops`."""
        if wire.is_open:
            return
        try:
            await wire.open(timeout_s)
        except Refusal as error:
            self.drops += 1
            self.refusal = error
            raise
        self.refusal = None

    def rank(self, unit_id: int) -> int:
        """READ, or UNPROVEN for a unit that has not answered since its last failure or the start."""
        unit = self.units.get(unit_id)
        return READ if unit is not None and unit.well_since is not None else UNPROVEN

    def has_neighbours(self, unit_id: int) -> bool:
        """Whether there is anybody whom this unit could hold up: where nobody answers, nobody is."""
        return any(seat.unit_id != unit_id and self.rank(seat.unit_id) == READ for seat in self.seats)

    def failed(self, unit_id: int, timeout_s: float) -> float | None:
        """A unit did not answer, or not as it should. Returns the seconds to leave it alone; None: the usual back-off."""
        now = self.clock.monotonic()
        unit = self.units.setdefault(unit_id, _Unit())
        if unit.well_since is not None and now - unit.well_since >= FORGIVEN_AFTER_S:
            unit.failures = 0
        unit.failures, unit.well_since = unit.failures + 1, None
        # Without transaction numbers a reply that comes late would be taken for that of a later request: it gets time to pass.
        delay = 2 * timeout_s if self.address.is_rtu else 0.0
        if unit.failures >= DEGRADED_AFTER and self.has_neighbours(unit_id):
            failing = sum(other.failures > 0 and other.well_since is None for other in self.units.values())
            floor = failing * timeout_s / FIRST_SHARE if failing > 1 else 0.0
            cap = max(DEGRADED_CAP_S, failing * timeout_s / DEGRADED_SHARE)
            grown = min(cap, max(floor, DEGRADED_BASE_S * 2.0 ** min(unit.failures - DEGRADED_AFTER, 30)))
            # Staggered: units that died together are not all asked in the same moment.
            delay = max(delay, grown * random.uniform(0.75, 1.25))
        unit.ask_at = now + delay
        return delay or None

    def answered(self, unit_id: int) -> None:
        unit = self.units.get(unit_id)
        if unit is None:
            unit = self.units[unit_id] = _Unit()
        if unit.well_since is None:
            unit.ask_at, unit.well_since = 0.0, self.clock.monotonic()

    def rest_s(self, unit_id: int) -> float:
        """Seconds for which the unit is still left alone."""
        unit = self.units.get(unit_id)
        return max(0.0, unit.ask_at - self.clock.monotonic()) if unit is not None else 0.0


class Seat:
    """One device's place on its line, for one connection of its driver. It is of no use any more after its first LinkError."""

    def __init__(self, address: Address, clock: Clock, *, unit_id: int, peer: str, timeout_s: float, pause_s: float) -> None:
        self.unit_id = unit_id
        self.peer = peer
        self.timeout_s = timeout_s
        self.pause_s = max(pause_s, address.silence_s)
        self._address = address
        self._clock = clock
        self._bus: Bus | None = None
        self._drops = 0

    @property
    def request_limit_s(self) -> float:
        """Seconds one request may take: each other device's turn comes once before, and the line may have to be opened anew."""
        seats = self._bus.seats if self._bus is not None else (self,)
        return sum(seat.timeout_s + seat.pause_s + seat._transfer_s(256) for seat in seats) + 2 * self.timeout_s

    @property
    def moved_at(self) -> float:
        """Monotonic time of the last sign that the line moves: who waits for a turn on it does not hang."""
        return self._bus.moved_at if self._bus is not None else 0.0

    @property
    def is_alone(self) -> bool:
        return self._bus is None or not self._bus.has_neighbours(self.unit_id)

    @property
    def rest_s(self) -> float:
        """Seconds for which this unit, which the line's gateway could not reach, is left alone."""
        return self._bus.rest_s(self.unit_id) if self._bus is not None and not self.is_alone else 0.0

    async def open(self, *, connections: int, interval_s: float) -> None:
        """Take the place; open the line unless it is. Raises LinkError."""
        buses = _BUSES.setdefault(asyncio.get_running_loop(), {})
        bus = buses.get(self._address.line)
        if bus is None:
            bus = Bus(self._address, self._clock)
            buses[bus.line] = bus
        bus.seats.add(self)
        self._bus = bus
        bus.widen(connections)
        place, bus.joined = bus.joined, bus.joined + 1
        if place and len(bus.seats) > 1:
            await self._clock.sleep(place * _GOLDEN % 1 * min(interval_s, SPREAD_S))
        before = self._drops = bus.drops
        if bus.is_open:
            # Its turn comes with its first request; many dead units in a row may take long.
            return
        async with bus.turn(READ) as wire:
            if bus.drops != before and bus.refusal is not None and not wire.is_open:
                # Others have tried while this one waited: once is enough.
                raise self._refused(bus.refusal)
            try:
                await bus.open(wire, self.timeout_s)
            except Refusal as error:
                raise self._refused(error) from error
            self._drops = bus.drops

    async def request(self, function: int, address: int, count: int = 0, values: Sequence[int] | None = None) -> ModbusPDU:
        """One request, sent once, and its reply after all checks that hold for any. Raises LinkError."""
        bus = self._bus
        if bus is None:
            raise remedies.dropped(self.peer, "connection lost")
        async with bus.turn(WRITE if values is not None else bus.rank(self.unit_id)) as wire:
            if self._bus is None or bus.drops != self._drops:
                self._fail()
                raise remedies.dropped(self.peer, "connection lost")
            try:
                await bus.open(wire, self.timeout_s)
            except Refusal as error:
                self._fail()
                raise self._refused(error) from error
            limit = self.timeout_s + self._transfer_s(8 + 2 * len(values or ()) + 5 + 2 * count)
            try:
                return await wire.ask(self, function, address, count, values, limit)
            except LinkError as error:
                error.retry_after_s = bus.failed(self.unit_id, self.timeout_s)
                self._fail()
                raise

    def answered(self) -> None:
        """The unit itself spoke, were it to refuse."""
        if self._bus is not None:
            self._bus.answered(self.unit_id)

    def unreached(self) -> None:
        """The line's gateway says that it cannot reach the unit."""
        if self._bus is not None and not self.is_alone:
            self._bus.failed(self.unit_id, self.timeout_s)

    def close(self) -> None:
        bus, self._bus = self._bus, None
        if bus is None:
            return
        bus.seats.discard(self)
        if not bus.seats:
            bus.close()
            buses = _BUSES.get(asyncio.get_running_loop(), {})
            if buses.get(bus.line) is bus:
                del buses[bus.line]

    def _fail(self) -> None:
        # The driver is thrown away after any LinkError: until then it must not speak again.
        self._drops = -1

    def _transfer_s(self, characters: int) -> float:
        return self._address.transfer_s(characters)

    def _refused(self, refusal: Refusal) -> LinkError:
        return refusal.make(self.peer)
