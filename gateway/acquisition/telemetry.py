"""Raw tags by exception: what changed since it was last told, per tag and per device batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from drivers.base import Reading
from gateway.domain.cloud_event import encode
from gateway.domain.instants import instant


def timestamp_ms(reading: Reading) -> int:
    """The source's own time, else the time of receipt, in milliseconds since 1970 UTC."""
    return instant(reading.source_time or reading.received_at) // 1000


def tag_payload(reading: Reading) -> bytes:
    """Body of the retained topic `/tag/{tag}`."""
    return encode({"timestamp_ms": timestamp_ms(reading), "value": reading.value, "quality": reading.quality.value})


def batch_payload(readings: Iterable[Reading]) -> bytes:
    """The `values` of one `/device/{device}` message: `[[tag, timestamp_ms, value, quality], ...]`."""
    return encode([[r.tag, timestamp_ms(r), r.value, r.quality.value] for r in readings])


class Telemetry:
    """The last reading of every configured tag, and which of them were not told yet."""

    def __init__(self, tags: Mapping[str, Sequence[str]]) -> None:
        self.last: dict[str, dict[str, Reading]] = {device: {} for device in tags}
        self._changed: dict[str, dict[str, Reading]] = {device: {} for device in tags}

    def update(self, device: str, batch: Sequence[Reading]) -> list[Reading]:
        """Note a batch; returns its readings that differ from the last of their tag. Of several changes of one tag the latest is
        what `take` tells."""
        last = self.last[device]
        told = []
        for reading in batch:
            known = last.get(reading.tag)
            if known is None or known.value != reading.value or known.quality is not reading.quality:
                told.append(reading)
            last[reading.tag] = reading
        if told:
            self._changed[device].update((reading.tag, reading) for reading in told)
        return told

    def take(self) -> dict[str, list[Reading]]:
        """Per device the readings that changed since the call before."""
        taken = {device: list(changed.values()) for device, changed in self._changed.items() if changed}
        for device in taken:
            self._changed[device] = {}
        return taken
