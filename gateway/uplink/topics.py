"""Where everything stands below `{root}/{enterprise}/{site}`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import orjson

from gateway.domain.entry import Entry


def escape(job_order_id: str) -> str:
    """An order id as one topic level: percent-encoded, dots too (some brokers read a dot as a level)."""
    return quote(job_order_id, safe="").replace(".", "%2E")


class Topics:
    """`units`: work unit -> `area/work_center/work_unit`. A suffix is what follows `{root}/{enterprise}/{site}/`."""

    def __init__(self, *, root: str, enterprise: str, site: str, gateway_id: str, units: Mapping[str, str]) -> None:
        self._base = f"{root}/{enterprise}/{site}"
        self._site = f"/{enterprise}/{site}/"
        self._gateway = f"_gateway/{gateway_id}"
        self._units = dict(units)
        self._events: dict[tuple[str | None, str], str] = {}

    def full(self, suffix: str) -> str:
        return f"{self._base}/{suffix}"

    def unit(self, work_unit: str, leaf: str) -> str:
        """Suffix of a work unit's topic: `unit("press-07", "state")`. Raises KeyError for a unit that is not configured."""
        return f"{self._units[work_unit]}/{leaf}"

    def job(self, work_unit: str, job_order_id: str) -> str:
        """Suffix of the retained JobResponse of one order."""
        return self.unit(work_unit, f"job/{escape(job_order_id)}")

    def below_site(self, source: str, leaf: str) -> str:
        """Suffix of a topic of what has a CloudEvents `source` and is no work unit: a line of them."""
        return f"{self._place(source)}/{leaf}"

    def gateway(self, leaf: str) -> str:
        """Suffix of one of the gateway's own topics: `gateway("health")`."""
        return f"{self._gateway}/{leaf}"

    def device(self, device: str) -> str:
        """Full topic of a device's bulk telemetry."""
        return self.full(self.gateway(f"device/{device}"))

    def event(self, entry: Entry) -> str:
        """Full topic of a ledger event: the dots of its type become levels."""
        key = entry.work_unit, entry.type
        topic = self._events.get(key)
        if topic is None:
            place = self._gateway if entry.work_unit is None else self._units.get(entry.work_unit) or self._place_of(entry)
            topic = self._events[key] = self.full(f"{place}/event/{entry.type.replace('.', '/')}")
        return topic

    def inbound(self) -> dict[str, tuple[str, str | None]]:
        """Full topic -> (what comes there, its work unit) of all this gateway listens to: job, fact, ack, replay."""
        found: dict[str, tuple[str, str | None]] = {}
        for work_unit in self._units:
            found[self.full(self.unit(work_unit, "job/command"))] = ("job", work_unit)
            found[self.full(self.unit(work_unit, "command"))] = ("fact", work_unit)
        found[self.full(self.gateway("ack"))] = ("ack", None)
        found[self.full(self.gateway("replay"))] = ("replay", None)
        return found

    def _place_of(self, entry: Entry) -> str:
        # A line's row, or that of a unit that is no longer configured, goes where its own `source` says it happened.
        return self._place(orjson.loads(entry.body)["source"])

    def _place(self, source: str) -> str:
        return source.removeprefix(self._site).strip("/")
