"""Modbus TCP, RTU over TCP and RTU on a serial line: block reads, every reply checked before it is believed.

The line itself (its queue, its connection, its timeouts) is `drivers.modbus_bus`; here requests become readings.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

from pymodbus.pdu import ModbusPDU

from drivers.base import Clock, Concern, Quality, Reading, TagError, Value
from drivers.modbus_bus import Seat
from drivers.modbus_codec import BIT_TABLES, Block, encode, plan, split
from drivers.modbus_settings import FUNCTIONS, ModbusSettings
from drivers.settings import Secret
from drivers.values import InvalidValues

EXCEPTIONS = {
    1: "IllegalFunction", 2: "IllegalDataAddress", 3: "IllegalDataValue", 4: "ServerDeviceFailure", 5: "Acknowledge",
    6: "ServerDeviceBusy", 7: "NegativeAcknowledge", 8: "MemoryParityError", 10: "GatewayPathUnavailable",
    11: "GatewayTargetDeviceFailedToRespond",
}  # fmt: skip
"""Names of the Modbus application protocol specification v1.1b3, chapter 7."""

# These say "this request never works here"; the others (busy, gateway path) pass by themselves.
REFUSALS = frozenset({1, 2, 3})
# A gateway's word for "there is no unit behind me": each further request would cost its whole timeout. Some units stay silent about a
# single range, so it takes two such answers, and none of the unit itself, before the rest of a look is left out.
UNREACHED = frozenset({10, 11})
UNREACHED_AFTER = 2
# A refused register is asked again this often: someone may load the missing program block meanwhile.
REFUSED_RETRY_S = 30.0
# A device that answers nothing but exceptions is told after this long: one that is busy for a moment is not worth a word.
MUTE_AFTER_S = 5.0
# A few sets of tags are read by turns: all of them by the poller, single ones by whoever writes and reads back.
_PLANS = 16

Places = Sequence[int]
"""Where the values of a block stand among the readings; a range where they stand side by side, which is the usual case and cheaper."""

# `Reading._make` without its check of the length: one for every value of every poll.
_reading: Callable[[Iterable[Any]], Reading] = partial(tuple.__new__, Reading)


class _Plan:
    """The requests for one set of tags, with the place of each value among the readings.

    `is_whole`: these are all of the device's tags. Only a whole look judges the unit and keeps the clock of what is refused; whoever
    looks at a few tags, after a write, is answered, and the poll neither waits for it nor is stopped by it.
    """

    def __init__(self, blocks: Iterable[tuple[Block, Places]], tags: Sequence[str], *, is_whole: bool) -> None:
        self.blocks = list(blocks)
        self.tags = tags
        self.is_whole = is_whole

    @property
    def requests(self) -> int:
        """The most that one look may cost: refused blocks are asked again in parts, some of them at each look."""
        return 2 * len(self.blocks) + 16


class _Look:
    """One read under way. All its readings carry one time, that of its first reply: together they are one look at the machine."""

    def __init__(self, plan: _Plan, *, ask_refused: bool) -> None:
        self.readings: list[Reading | None] = [None] * len(plan.tags)
        self.pending = plan.blocks[::-1]
        self.wanted = len(plan.blocks)
        self.is_whole = plan.is_whole
        self.kept: list[tuple[Block, Places]] = []
        self.ask_refused = ask_refused
        self.splits = plan.requests - len(plan.blocks)
        self.received_at: datetime | None = None
        self.missed: list[tuple[Block, Places]] = []
        """Blocks for which the gateway did not reach the unit: asked last next time, so that they never stand before the others."""
        self.answered = False
        self.told = False
        """Whether any block brought values."""
        self.trouble = ""
        """The last exception that may pass by itself."""
        self.unreached = ""
        """Why the rest of this look is not asked for; empty: it is."""


class ModbusDriver:
    """Satisfies `drivers.base.Driver`, `Paced`, `Answering`, `Refusing` and `Watching`."""

    recorded: ClassVar[bool] = False

    def __init__(
        self, settings: ModbusSettings, clock: Clock, *, name: str, secrets: Callable[[Secret], str], state_dir: Path | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._name = name
        self._points = {tag: found.point(tag) for tag, found in settings.tags.items()}
        self._seat = Seat(
            settings.address, clock, unit_id=settings.unit_id, peer=settings.peer, timeout_s=settings.timeout, pause_s=settings.pause
        )
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._refused: dict[str, str] = {}
        self._retry_refused_at = 0.0
        self._unreached = ""
        self._incidents: Counter[str] = Counter()
        self._invalid = InvalidValues()
        self._mute_since: float | None = None
        self._trouble = ""

    @property
    def refused(self) -> Mapping[str, str]:
        return self._refused

    @property
    def incidents(self) -> Mapping[str, int]:
        return self._incidents

    @property
    def concerns(self) -> Mapping[str, Concern]:
        now = self._clock.monotonic()
        mute = self._mute_since is not None and now - self._mute_since >= MUTE_AFTER_S
        found = {"values": self._invalid.concern(now), "answers": _mute(self._trouble) if mute else None}
        return {kind: concern for kind, concern in found.items() if concern is not None}

    @property
    def answered_at(self) -> float:
        return self._seat.moved_at

    def read_limit_s(self, tags: Sequence[str]) -> float:
        return self._plan(tuple(tags)).requests * self._seat.request_limit_s

    async def connect(self) -> None:
        await self._seat.open(connections=self._settings.connections, interval_s=self._settings.interval)

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        plan = self._plan(tuple(tags))
        if plan.is_whole and self._unreached and self._seat.rest_s > 0:
            received_at = self._clock.now()
            return [Reading(tag, None, Quality.BAD, None, received_at, self._unreached) for tag in plan.tags]
        now = self._clock.monotonic()
        look = _Look(plan, ask_refused=not plan.is_whole or now >= self._retry_refused_at)
        if plan.is_whole and look.ask_refused:
            self._retry_refused_at = now + REFUSED_RETRY_S
        if self._settings.connections == 1 or len(plan.blocks) == 1:
            await self._ask(look)
        else:
            await self._ask_at_once(look)
        plan.blocks = look.kept + look.missed
        if plan.is_whole:
            self._judge(look, now)
        return [reading for reading in look.readings if reading is not None]

    def _judge(self, look: _Look, now: float) -> None:
        """What a look at all tags says of the unit."""
        self._unreached = look.unreached
        if look.told or not look.trouble:
            self._mute_since = None
        elif self._mute_since is None:
            self._mute_since, self._trouble = now, look.trouble

    def _plan(self, tags: tuple[str, ...]) -> _Plan:
        found = self._plans.get(tags)
        if found is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            place = {tag: position for position, tag in enumerate(tags)}
            blocks = plan((self._points[tag] for tag in place), self._settings.limits)
            placed = ((block, _side_by_side([place[tag] for tag in block.tags])) for block in blocks)
            found = self._plans[tags] = _Plan(placed, tags, is_whole=place.keys() == self._points.keys())
        return found

    async def _ask_at_once(self, look: _Look) -> None:
        """Several requests under way, each over a connection of its own: pymodbus has one at a time over each."""
        workers = [
            asyncio.create_task(self._ask(look), name=f"modbus {self._name} {number}")
            for number in range(min(self._settings.connections, len(look.pending)))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _ask(self, look: _Look) -> None:
        while look.pending:
            block, places = look.pending.pop()
            known = "" if look.ask_refused else self._refused.get(block.points[0].tag, "")
            known = known or look.unreached
            code = 0 if known else await self._read_block(block, places, look)
            look.answered = look.answered or not (known or code in UNREACHED)
            if code in (2, 3) and look.splits > 0 and (parts := split(block, self._settings.limits)):
                # Only the guilty register shall be bad: the smaller requests are kept for the life of this connection.
                by_tag = dict(zip(block.tags, places, strict=True))
                look.pending += [(part, _side_by_side([by_tag[tag] for tag in part.tags])) for part in reversed(parts)]
                look.splits -= len(parts)
                continue
            (look.missed if code in UNREACHED else look.kept).append((block, places))
            if code or known:
                if code and code not in REFUSALS:
                    look.trouble = _exception_name(code)
                is_told = look.is_whole and code in UNREACHED and not look.answered
                if is_told and len(look.missed) >= min(UNREACHED_AFTER, look.wanted):
                    look.unreached = _exception_name(code)
                    self._seat.unreached()
                # A block that waits for its split is not refused as a whole.
                lasting = not look.unreached and (bool(known) or (code in REFUSALS and len(block.points) == 1) or code == 1)
                self._mark_bad(block, places, look, known or _exception_name(code), lasting=lasting)

    def _mark_bad(self, block: Block, places: Places, look: _Look, detail: str, *, lasting: bool) -> None:
        received_at = look.received_at or self._clock.now()
        for tag, place in zip(block.tags, places, strict=True):
            look.readings[place] = Reading(tag, None, Quality.BAD, None, received_at, detail)
            if lasting:
                self._refused[tag] = detail
            else:
                self._refused.pop(tag, None)

    async def _read_block(self, block: Block, places: Places, look: _Look) -> int:
        """One request. Fills `look.readings` and returns 0, or returns the exception code the device answered."""
        reply = await self._request(FUNCTIONS[block.table], block.address, block.count)
        received_at = look.received_at = look.received_at or self._clock.now()
        if reply.isError():
            return _exception_code(reply)
        data: Sequence[int] = reply.bits[: block.count] if block.table in BIT_TABLES else reply.registers
        values, faults = block.decode(data)
        look.told = True
        readings = look.readings
        made = map(_reading, zip(block.tags, values, repeat(Quality.GOOD), repeat(None), repeat(received_at), repeat("")))
        if isinstance(places, range):
            readings[places.start : places.stop] = made
        else:
            for place, reading in zip(places, made, strict=True):
                readings[place] = reading
        for position, detail in faults.items():
            readings[places[position]] = Reading(block.tags[position], None, Quality.BAD, None, received_at, detail)
            self._incidents["invalid_value"] += 1
            self._invalid.note(block.tags[position], detail, self._clock.monotonic())
        if self._refused:
            for tag in block.tags:
                self._refused.pop(tag, None)
        return 0

    async def _request(self, function: int, address: int, count: int = 0, values: Sequence[int] | None = None) -> ModbusPDU:
        """One request, sent once, and its reply after all checks; it may be an exception reply. Raises LinkError."""
        reply = await self._seat.request(function, address, count, values)
        if reply.isError():
            self._incidents["exception_reply"] += 1
        if not reply.isError() or _exception_code(reply) not in UNREACHED:
            self._seat.answered()
        return reply

    async def write(self, tag: str, value: Value) -> None:
        found = self._settings.tags.get(tag)
        if found is None or not found.writable:
            raise TagError(f"tag {tag} is not writable")
        point = self._points[tag]
        try:
            values = encode(point, value)
        except ValueError as error:
            raise TagError(f"tag {tag}: {error}") from error
        single = len(values) == 1 and self._settings.write == "auto"
        function = (5 if single else 15) if point.table == "coil" else 6 if single else 16
        reply = await self._request(function, point.address, values=values)
        if reply.isError():
            raise TagError(f"tag {tag}: the device answered {_exception_name(_exception_code(reply))}")
        # What can be written is there: it is asked for again at once.
        self._refused.pop(tag, None)

    async def close(self) -> None:
        self._seat.close()


def _mute(trouble: str) -> Concern:
    return Concern(
        "warning",
        f"L'appareil est joint mais ne donne aucune valeur : {trouble}.",
        f"The device is reached but gives no value: {trouble}.",
        "Vérifier l'alimentation et le câblage de l'appareil derrière la passerelle, `unit_id`, et son propre diagnostic.",
        "Check power and wiring of the device behind the gateway, `unit_id`, and its own diagnosis.",
        f"every request is answered by an exception, the first {trouble}",
    )


def _side_by_side(places: list[int]) -> Places:
    whole = range(places[0], places[0] + len(places))
    return whole if places == list(whole) else places


def _exception_code(reply: ModbusPDU) -> int:
    # A code of 0 does not exist: an exception it is nevertheless.
    return int(reply.exception_code) or 4


def _exception_name(code: int) -> str:
    return f"{EXCEPTIONS.get(code, 'exception')} ({code})"
