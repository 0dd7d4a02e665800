"""From the readings of one batch to the samples of the work units that use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from drivers.base import Quality, Reading
from gateway.domain.sample import Input, Sample

_OLDEST = timedelta(seconds=10)
_NEWEST = timedelta(seconds=0.5)
"""A source time outside received_at - 10 s .. + 0.5 s is not used: it is the old time of an unchanged value after a reconnect, or that
of a clock whose error the driver does not know yet (it takes out a steady one). The time of receipt stands in for it."""


class Sampling:
    """`tags`: for each work unit the tag references it uses, with the device and tag that each means."""

    def __init__(self, tags: Mapping[str, Mapping[str, tuple[str, str]]]) -> None:
        self._uses: dict[str, dict[str, list[tuple[str, str]]]] = {}
        for unit, references in tags.items():
            for reference, (device, tag) in references.items():
                self._uses.setdefault(device, {}).setdefault(tag, []).append((unit, reference))
        self._places: dict[str, list[tuple[int, str]]] = {}

    def samples(self, device: str, batch: Sequence[Reading], *, pushed: bool, recorded: bool) -> list[Sample]:
        """One sample per unit and instant, in order of time.

        A poll is one instant, its time of receipt; what the device pushed has its source time where that is plausible;
        a recording's source times are what happened (`recorded`).
        """
        uses = self._uses.get(device)
        if not uses:
            return []
        found: dict[tuple[datetime, str], dict[str, Input]] = {}
        for reading in self._used(device, batch, uses):
            at = _source_time(reading, recorded) if pushed else batch[0].received_at
            value = Input(reading.value, reading.quality is Quality.BAD)
            for unit, reference in uses[reading.tag]:
                found.setdefault((at, unit), {})[reference] = value
        return [Sample(unit, at, inputs) for (at, unit), inputs in sorted(found.items(), key=lambda item: item[0][0])]

    def _used(self, device: str, batch: Sequence[Reading], uses: Mapping[str, object]) -> list[Reading]:
        """The readings of `batch` that some unit uses. A poll has them where the poll before had them."""
        places = self._places.get(device, [])
        if len(places) == len(uses) and places[-1][0] < len(batch) and all(batch[place].tag == tag for place, tag in places):
            return [batch[place] for place, _ in places]
        self._places[device] = [(place, reading.tag) for place, reading in enumerate(batch) if reading.tag in uses]
        return [batch[place] for place, _ in self._places[device]]


def instants(batch: Sequence[Reading], *, pushed: bool, recorded: bool) -> list[datetime]:
    """The instant of the sample into which each reading of a batch goes."""
    return [_source_time(reading, recorded) if pushed else batch[0].received_at for reading in batch]


def _source_time(reading: Reading, recorded: bool) -> datetime:
    source, received = reading.source_time, reading.received_at
    if source is None:
        return received
    if recorded or received - _OLDEST <= source <= received + _NEWEST:
        return source
    return received
