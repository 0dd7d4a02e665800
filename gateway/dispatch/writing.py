"""Values into one device: one write at a time, each sent once, and read back before it is believed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from drivers.base import Clock, Driver, LinkError, Quality, Reading, TagError, Value

ANSWER_S = 10.0
"""Drivers bound themselves; this holds when one does not."""
LINK_WAIT_S = 60.0
"""How long a link that was lost during a write is waited for, to read what became of it."""
SETTLE_S = 2.0
"""A PLC may take a few cycles before it shows what was written."""
LOOK_S = 0.2


class DeviceWriter:
    """The only one that writes to its device. `driver` gives the connected driver, None while the link is down."""

    def __init__(self, device: str, driver: Callable[[], Driver | None], clock: Clock) -> None:
        self.device = device
        self._driver = driver
        self._clock = clock
        self._turn = asyncio.Lock()

    @property
    def is_up(self) -> bool:
        return self._driver() is not None

    async def write(self, tag: str, value: Value, *, check: bool = True) -> str | None:
        """Write once. None: the device has the value; else what went wrong, for the expert.

        A link lost meanwhile leaves open whether the value arrived: it is read when the link is back, never written again.
        `check` False: what the device makes of it is not looked at (a strobe that it resets by itself).
        """
        async with self._turn:
            driver = self._driver()
            if driver is None:
                return "the link is down"
            lost = ""
            try:
                async with self._clock.timeout(ANSWER_S):
                    await driver.write(tag, value)
            except TagError as error:
                return str(error)
            except (LinkError, TimeoutError) as error:
                lost = str(error) or "no answer"
            if not check:
                return lost or None
            problem = await self._read_back(tag, value)
            return f"{lost}; {problem}" if lost and problem else problem

    async def read(self, tag: str) -> Reading | None:
        """The tag as the device has it now; None while it cannot be asked."""
        driver = self._driver()
        if driver is None:
            return None
        try:
            async with self._clock.timeout(ANSWER_S):
                return (await driver.read([tag]))[0]
        except (LinkError, TimeoutError):
            # Whoever keeps the link alive meets the same error and builds it anew.
            return None

    async def _read_back(self, tag: str, value: Value) -> str | None:
        give_up = self._clock.monotonic() + LINK_WAIT_S
        problem, answered = "not read back: the link did not come back", False
        while True:
            reading = await self.read(tag)
            now = self._clock.monotonic()
            if reading is not None:
                give_up, answered = (give_up if answered else now + SETTLE_S), True
                found = difference(value, reading)
                if found is None:
                    return None
                problem = found
            if now >= give_up:
                return problem
            await self._clock.sleep(LOOK_S)


def difference(value: Value, reading: Reading) -> str | None:
    """How a reading differs from the value that should stand there; None: it does not."""
    if reading.quality is Quality.BAD:
        return f"{reading.tag} cannot be read: {reading.detail}"
    return None if same(value, reading.value) else f"{reading.tag} reads {reading.value!r} instead of {value!r}"


def same(written: Value, found: Value) -> bool:
    """Equal as a machine holds it: whole numbers exactly, others to single precision, a number in a text by its digits."""
    if isinstance(written, str) or isinstance(found, str):
        return str(written) == str(found)
    if written is None or found is None:
        return written is found
    return math.isclose(written, found, rel_tol=1e-6) if isinstance(written, float) else written == found
