"""The replay driver: a CSV recording played through the daemon as if a device pushed it, with the recording's own time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from drivers.base import Clock, Quality, Reading, TagError, Value
from drivers.recording import Recording, Row, by_instant, moment
from drivers.settings import COUNTER_TYPES, DeviceSettings, FilePath, IntegerType, Name, Secret, TagSettings
from drivers.values import carried

# The event loop gets a turn after this many batches, so that page and uplinks live while a year is played.
_BATCHES_PER_TURN = 20


class ReplayTag(TagSettings):
    """A tag of the recording. `type`: the counter's integer type, where it rolls over."""

    type: IntegerType | Literal["float32", "float64", "bool", "string"] | None = None


class ReplaySettings(DeviceSettings):
    """`device`: the name in the recording, when it is not the device's own. `speed`: max, or a number, which means the same for now.

    Without `tags` every tag that the recording has for this device is yielded.
    """

    recorded: ClassVar[bool] = True

    driver: Literal["replay"]
    file: FilePath
    device: str | None = Field(default=None, min_length=1)
    speed: Literal["max"] | float = "max"
    tags: dict[Name, ReplayTag] = Field(default_factory=dict)

    @property
    def peer(self) -> str:
        return f"replay {self.file}"

    def counter_type(self, tag: str) -> tuple[int, bool] | None:
        """(bits, signed) where the tag says its type; None: a decrease means a reset."""
        found = self.tags.get(tag)
        return COUNTER_TYPES.get(found.type or "") if found else None


class ReplayDriver:
    """Satisfies `drivers.base.Driver` and `Subscribing`. Its source times are authoritative, and equal to `received_at`.

    A recording that cannot be read is a wrong configuration: `connect` raises RecordingError, which is not retried. It is never in
    memory as a whole.
    """

    recorded: ClassVar[bool] = True

    def __init__(
        self, settings: ReplaySettings, clock: Clock, *, name: str, secrets: Callable[[Secret], str], state_dir: Path | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._device = settings.device or name
        self._recording: Recording | None = None
        self._last: dict[str, Reading] = {}

    async def connect(self) -> None:
        # The whole file is read once, which takes a while for a year of readings.
        self._recording = await asyncio.to_thread(Recording.open, self._settings.file)

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        """What the recording said last, at the point where `subscribe` stands; BAD before its first reading."""
        missing = self._clock.now()
        return [self._last.get(tag) or Reading(tag, None, Quality.BAD, None, missing, "not in the recording yet") for tag in tags]

    async def subscribe(self, tags: Sequence[str]) -> AsyncIterator[Sequence[Reading]]:
        for count, batch in enumerate(self._batches(frozenset(tags)), start=1):
            yield batch
            if count % _BATCHES_PER_TURN == 0:
                await self._clock.sleep(0)

    def _batches(self, tags: frozenset[str]) -> Iterator[list[Reading]]:
        wanted = self._settings.tags
        for at, rows in by_instant(self._recording.rows() if self._recording is not None else ()):
            then = moment(at)
            batch = [
                self._reading(row, then)
                for row in rows
                if row[1] == self._device and (not wanted or row[2] in wanted) and (not tags or row[2] in tags)
            ]
            self._last.update((reading.tag, reading) for reading in batch)
            if batch:
                yield batch

    def _reading(self, row: Row, at: datetime) -> Reading:
        _, _, tag, value, quality = row
        settings = self._settings.tags.get(tag)
        if settings is not None and settings.invert and value is not None and not isinstance(value, str):
            value = not value
        if type(value) is int:
            # A recording may count beyond 64 bits; the live topics of this gateway cannot.
            value = carried(value)
        return Reading(tag, value, quality, at, at, "recorded as bad" if quality is Quality.BAD else "")

    async def write(self, tag: str, value: Value) -> None:
        raise TagError(f"tag {tag}: a recording cannot be written")

    async def close(self) -> None:
        if self._recording is not None:
            self._recording.close()
            self._recording = None
