"""Raw tags by exception: what changed since it was last told, per tag and per device batch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from drivers.base import Quality, Reading
from gateway.domain.cloud_event import encode
from gateway.domain.instants import instant

_GOOD = Quality.GOOD


def timestamp_ms(reading: Reading) -> int:
    """The source's own time, else the time of receipt, in milliseconds since 1970 UTC."""
    return instant(reading.source_time or reading.received_at) // 1000


def tag_payload(reading: Reading) -> bytes:
    """Body of the retained topic `/tag/{tag}`."""
    return encode({"timestamp_ms": timestamp_ms(reading), "value": reading.value, "quality": reading.quality.value})


def batch_payload(readings: Sequence[Reading]) -> bytes:
    """The `values` of one `/device/{device}` message, of at least one reading: `[[tag, timestamp_ms, value, quality], ...]`."""
    # The readings of one poll share one time: it is worked out once.
    shared = readings[0].source_time or readings[0].received_at
    stamp = instant(shared) // 1000
    return encode(
        [
            (
                reading.tag,
                stamp if (reading.source_time or reading.received_at) is shared else timestamp_ms(reading),
                reading.value,
                "good" if reading.quality is _GOOD else reading.quality.value,
            )
            for reading in readings
        ]
    )


class Telemetry:
    """The last reading of every configured tag, and which of those with a topic of their own (`shown`, per device) were not told yet.

    The first good reading of a tag is always told: from this value on its pieces are counted.
    """

    def __init__(self, tags: Iterable[str], shown: Mapping[str, Collection[str]]) -> None:
        self.last: dict[str, dict[str, Reading]] = {device: {} for device in tags}
        self._shown = {device: frozenset(shown.get(device, ())) for device in self.last}
        self._changed: dict[str, dict[str, Reading]] = {device: {} for device in self.last}
        self._never_good = {device: set(tags) for device, tags in self._shown.items()}
        self._first_good: dict[str, dict[str, Reading]] = {device: {} for device in self.last}

    def update(self, device: str, batch: Sequence[Reading]) -> list[Reading]:
        """Note a batch; returns its readings that differ from the last of their tag."""
        last = self.last[device]
        told = []
        for reading in batch:
            tag = reading.tag
            known = last.get(tag)
            if known is None or known.value != reading.value or known.quality is not reading.quality:
                told.append(reading)
            last[tag] = reading
        if told:
            shown, changed, never_good = self._shown[device], self._changed[device], self._never_good[device]
            for reading in told:
                if reading.tag in shown:
                    changed[reading.tag] = reading
                    if never_good and reading.quality is _GOOD and reading.tag in never_good:
                        never_good.remove(reading.tag)
                        self._first_good[device][reading.tag] = reading
        return told

    def take(self) -> dict[str, list[Reading]]:
        """Per device the readings that changed since the call before: of several of one tag the latest, and before it the tag's
        first good one."""
        taken = {}
        for device, changed in self._changed.items():
            if changed:
                first, self._changed[device] = self._first_good[device], {}
                taken[device] = [*first.values(), *(reading for tag, reading in changed.items() if first.get(tag) is not reading)]
                self._first_good[device] = {}
        return taken
