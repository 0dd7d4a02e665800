"""Looking around in a Modbus device: which registers and bits answer, and what stands in them. It only reads.

The protocol cannot list anything, so ranges are asked for as a whole and halved where the device refuses, down to the single register.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace

from drivers.base import Found, LinkError, Quality, Raw, Reading, SilentLinkError, TagError
from drivers.modbus import EXCEPTIONS, ModbusDriver
from drivers.modbus_codec import BIT_TABLES, TYPES, Block, Point
from drivers.modbus_settings import FUNCTIONS

USUAL_RANGE = (0, 999)
"""What is looked at where no range is named; a range of refused registers costs about two requests for each of them."""
LAST_ADDRESS = 65535

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")

# A controller does its own work between two of our questions.
_PAUSE_S = 0.005
_BUSY = frozenset({5, 6})
_BUSY_PAUSE_S = 0.2
_BUSY_TRIES = 5
_NO_FUNCTION = 1
# The unit behind a gateway is not there: asking for other registers changes nothing.
_NO_PATH = frozenset({10, 11})
# Some devices stay silent instead of refusing; each time costs a time-out and a new connection.
_MOST_SILENCES = 20

_PLACE = re.compile(r"(?P<table>[a-z]+)(?::(?P<first>\d{1,5})(?:(?P<sign>[-,])(?P<second>\d{1,5}))?)?")


def parse_range(text: str) -> tuple[str, int, int]:
    """`holding`, `holding:100`, `holding:100-199` or `holding:100,2` -> table, first and last address. Raises TagError."""
    found = _PLACE.fullmatch(text)
    if found is None or found["table"] not in FUNCTIONS:
        raise TagError(f"{text!r} is no range of registers; write for example holding:0-999, with one of {', '.join(FUNCTIONS)}")
    if found["first"] is None:
        return found["table"], *USUAL_RANGE
    first = last = int(found["first"])
    if found["second"] is not None:
        last = int(found["second"]) if found["sign"] == "-" else first + int(found["second"]) - 1
    if not first <= last <= LAST_ADDRESS:
        raise TagError(f"{text!r} ends at {last}; addresses go upwards and the last one is {LAST_ADDRESS}")
    return found["table"], first, last


class Refused(TagError):
    """The device answered with an exception code."""

    def __init__(self, table: str, address: int, count: int, code: int) -> None:
        name = EXCEPTIONS.get(code, "exception")
        super().__init__(f"{table} {address}{f' to {address + count - 1}' if count > 1 else ''}: the device answered {name} ({code})")
        self.code = code


class ModbusExplorer(ModbusDriver):
    """Satisfies `drivers.base.Explorer`. `_asked`, `_silences`: requests of this browse, and those that stayed without an answer."""

    _asked = _silences = 0

    async def fetch(self, table: str, address: int, count: int) -> list[int]:
        """Raw registers (0..65535) or bits by one request. Raises LinkError, Refused for what the device does not have, TagError."""
        for other, low, high in self._settings.limits.forbidden:
            if other == table and address <= high and low < address + count:
                raise TagError(f"{table} {address} lies in the forbidden range {low}-{high}; the configuration says never to read it")
        reply = await self._request(FUNCTIONS[table], address, count)
        if reply.isError():
            raise Refused(table, address, count, int(reply.exception_code))
        return [int(bit) for bit in reply.bits[:count]] if table in BIT_TABLES else list(reply.registers)

    async def inspect(self, tags: Sequence[str]) -> Sequence[Raw]:
        return [await self._inspected(self._points[tag]) for tag in tags]

    async def _inspected(self, point: Point) -> Raw:
        block = Block([point])
        received_at = self._clock.now()
        try:
            words = await self.fetch(point.table, point.address, block.count)
        except Refused as error:
            return Raw(Reading(point.tag, None, Quality.BAD, None, received_at, str(error)), "")
        received_at = self._clock.now()
        values, faults = block.decode(words)
        quality = Quality.BAD if faults else Quality.GOOD
        reading = Reading(point.tag, values[0], quality, None, received_at, faults.get(0, ""))
        return Raw(reading, f"{point.table} {point.address}: {hexadecimal(point.table, words)}")

    async def browse(self, path: str, told: Callable[[str], None]) -> AsyncIterator[Sequence[Found]]:
        """`path`: nothing (all four tables, the usual range), a table, or a range such as `holding:400-499`."""
        wanted = [parse_range(path)] if path else [(table, *USUAL_RANGE) for table in FUNCTIONS]
        self._asked = self._silences = 0
        for table, first, last in wanted:
            async for address, words in self._answering(table, first, last, told):
                yield [_found(table, address + place, word) for place, word in enumerate(words)]

    async def _answering(self, table: str, first: int, last: int, told: Callable[[str], None]) -> AsyncIterator[tuple[int, list[int]]]:
        limits = self._settings.limits
        largest = limits.max_bits if table in BIT_TABLES else limits.max_registers
        allowed = list(_without(first, last, sorted((low, high) for other, low, high in limits.forbidden if other == table)))
        pieces = ((start, min(start + largest, end + 1) - start) for begin, end in allowed for start in range(begin, end + 1, largest))
        ranges = deque(pieces)
        while ranges:
            address, count = ranges.popleft()
            told(f"{table} {address} of {first} to {last}, {self._asked} requests")
            try:
                words = await self._asked_for(table, address, count)
            except Refused as error:
                if error.code == _NO_FUNCTION:
                    return
                if error.code in _NO_PATH:
                    raise
                words = []
            if words:
                yield address, words
            elif count > 1:
                half = count // 2
                ranges.extendleft([(address + half, count - half), (address, half)])

    async def _asked_for(self, table: str, address: int, count: int) -> list[int]:
        """Empty where the device stays silent; a busy device is asked again."""
        for _ in range(_BUSY_TRIES):
            self._asked += 1
            await self._clock.sleep(_PAUSE_S)
            try:
                return await self.fetch(table, address, count)
            except Refused as error:
                if error.code not in _BUSY:
                    raise
                await self._clock.sleep(_BUSY_PAUSE_S)
            except SilentLinkError as error:
                self._silences += 1
                if self._silences > _MOST_SILENCES:
                    raise LinkError(
                        f"{self._settings.peer} did not answer {self._silences} requests: {error}",
                        remedy_fr="L'appareil ne répond pas au lieu de refuser : nommer une plage plus petite, par exemple holding:0-99.",
                        remedy_en="The device stays silent instead of refusing: name a smaller range, for example holding:0-99.",
                    ) from error
                await self.close()
                await self.connect()
                return []
        raise TagError(f"{table} {address}: the device was busy {_BUSY_TRIES} times; try again later")


def _without(first: int, last: int, holes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of first..last, as ranges with their last address, without the ascending `holes`."""
    for low, high in holes:
        if first < low:
            yield first, min(low - 1, last)
        first = max(first, high + 1)
    if first <= last:
        yield first, last


def _found(table: str, address: int, word: int) -> Found:
    type_ = "bool" if table in BIT_TABLES else "uint16"
    tag = {table: str(address), "type": type_}
    access = "rw" if table in ("coil", "holding") else "r"
    return Found(f"{table} {address}", tag, type_, access, str(word) if table in BIT_TABLES else f"{word} (0x{word:04X})")


def ranges_of(found: Sequence[Found]) -> list[str]:
    """`holding 0-127` for each run of addresses that answered."""
    runs: list[tuple[str, int, int]] = []
    for one in found:
        table, address = one.path.split()
        last = runs[-1] if runs else ("", 0, 0)
        if last[0] == table and int(address) == last[2] + 1:
            runs[-1] = (table, last[1], int(address))
        else:
            runs.append((table, int(address), int(address)))
    return [f"{table} {first}" if first == last else f"{table} {first}-{last}" for table, first, last in runs]


def hexadecimal(table: str, words: Sequence[int]) -> str:
    """Registers as hexadecimal words, bits as they are."""
    return " ".join(str(word) if table in BIT_TABLES else f"0x{word:04X}" for word in words)


def every_order(words: Sequence[int]) -> Iterator[tuple[str, str, str]]:
    """(order, type, value) of two or four registers read in every byte order and as every type of that size; `-` for what is none.

    Raises ValueError for another number of registers.
    """
    types = [name for name, (width, _) in TYPES.items() if width == len(words) > 1]
    if not types:
        raise ValueError(f"{len(words)} registers make no 32-bit or 64-bit value")
    for order in ORDERS:
        for type_ in types:
            point = Point("", "holding", 0, type_)
            (value,), _ = Block([replace(point, order=order)]).decode(words)
            yield order, type_, "-" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
