"""The OPC UA driver where the server pushes: monitored items, made anew wherever the server and the configuration differ."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence

from asyncua import ua

from drivers.base import LinkError, Quality, Reading, silence_limit
from drivers.opcua import NOT_SERVED, REFUSED_RETRY_S, SOON_S, SURVEY_S, OpcUaDriver
from drivers.opcua_stream import TagStream
from drivers.opcua_values import status_name

# An item that falls silent this often on one connection is not made again, its tag is polled.
RESTLESS = 3


class OpcUaSubscriber(OpcUaDriver):
    """The driver in mode subscribe: satisfies `drivers.base.Subscribing` as well."""

    _deaths: dict[str, int]
    """How often a tag's item fell silent."""
    _remade_at: float
    _round_at: float

    async def subscribe(self, tags: Sequence[str]) -> AsyncIterator[Sequence[Reading]]:
        self._deaths = {}
        self._remade_at, self._round_at = -math.inf, self._clock.monotonic()
        stream = TagStream(
            self._clock,
            peer=self._settings.peer,
            interval_s=self._settings.interval,
            silence_s=silence_limit(self._settings.interval),
            per_read=self._bounds.per_read,
            bands={tag: self._settings.tags[tag].deadband for tag in tags},
            read=self._read_tags,
            convert=self._reading,
            refused=self._refused,
            device_clock=self._device_clock,
        )
        first = await stream.first(tags)
        yield first
        if any(reading.source_time is None and reading.quality is Quality.GOOD for reading in first):
            self._stamps = ua.TimestampsToReturn.Both
        async with self._session.guard(2 * self._settings.timeout):
            pushed = await stream.open(self._session.services, self._stamps)
        if pushed:
            await self._monitor(stream, tags)
        else:
            self._log.warning("opcua_subscription_refused", fallback="poll", reason=stream.refusal)
        tended_at = self._clock.monotonic()
        while True:
            now = self._clock.monotonic()
            self._review(now)
            pause_s = self._retry_s(now) if self._refused else SOON_S if stream.forgotten else REFUSED_RETRY_S
            if now - tended_at >= pause_s:
                await self._tend(stream, tags)
                tended_at = self._clock.monotonic()
            try:
                batches = await stream.next(tended_at + pause_s)
            except LinkError:
                self._session.distrust()
                raise
            for batch in batches:
                yield batch

    async def _tend(self, stream: TagStream, tags: Sequence[str]) -> None:
        """Compare what is monitored with what is configured, ask the refused again, and make items anew where the server has none."""
        now = self._clock.monotonic()
        is_round = now - self._round_at >= SURVEY_S
        if self._refused or is_round:
            await self._survey()
        if is_round:
            self._round_at = now
            # What was not to be monitored for a passing reason may be now; a server that is full says so again.
            for tag in stream.polled:
                if self._deaths.get(tag, 0) < RESTLESS:
                    self._monitored.pop(tag, None)
            async with self._session.guard(self._settings.timeout):
                await stream.compare()
        gone = [tag for tag in self._refused if tag not in self._monitored and tag in self._nodes]
        if gone:
            # One request's worth, the first ones again only after all others.
            part = gone[: self._bounds.per_read]
            await self._read_tags(part)
            for tag in part:
                if tag in self._refused:
                    self._refused[tag] = self._refused.pop(tag)
        await self._monitor(stream, tags)

    async def _monitor(self, stream: TagStream, tags: Sequence[str]) -> None:
        """Make an item for every tag that should have one and has none, or one of another node."""
        lost = self._lost(stream)
        wanted = {
            tag: node
            for tag in tags
            if (node := self._nodes.get(tag)) is not None
            and (tag in lost or (self._monitored.get(tag) != node and tag not in self._refused))
        }
        wanted = self._within_room(stream, wanted)
        if not wanted:
            return
        per_call = self._bounds.per_monitor
        async with self._session.guard((2 + 2 * len(wanted) // per_call) * 2 * self._settings.timeout):
            refused = await stream.monitor(wanted, per_call)
        self._monitored.update(wanted)
        polled: dict[str, str] = {}
        for tag, status in refused.items():
            name = status_name(status)
            if name.startswith(NOT_SERVED):
                self._refuse(tag, name)
                self._monitored.pop(tag, None)
            else:
                polled[tag] = name
        self._poll(stream, polled)

    def _lost(self, stream: TagStream) -> set[str]:
        """Tags whose item has to be made anew. At first in a while that is all: a constant value cannot show that its item is dead."""
        found = stream.forgotten & self._monitored.keys()
        stream.forgotten.clear()
        if not found:
            return found
        self._incidents["forgotten"] += len(found)
        restless: dict[str, str] = {}
        for tag in found:
            self._deaths[tag] = self._deaths.get(tag, 0) + 1
            if self._deaths[tag] >= RESTLESS:
                restless[tag] = f"its item fell silent {RESTLESS} times"
        self._poll(stream, restless)
        now = self._clock.monotonic()
        if now - self._remade_at >= SURVEY_S:
            self._remade_at = now
            found = {tag for tag in self._monitored if tag not in stream.polled}
        return found - restless.keys()

    def _within_room(self, stream: TagStream, wanted: dict[str, ua.NodeId]) -> dict[str, ua.NodeId]:
        """As many of `wanted` as the server monitors; the others are polled."""
        limit = self._bounds.items
        if limit is None or stream.items is None:
            return wanted
        kept = sum(tag not in wanted for tag in stream.items)
        over = list(wanted)[max(limit - kept, 0) :]
        self._poll(stream, dict.fromkeys(over, f"BadTooManyMonitoredItems: the server monitors {limit}"))
        return {tag: node for tag, node in wanted.items() if tag not in stream.polled} if over else wanted

    def _poll(self, stream: TagStream, tags: Mapping[str, str]) -> None:
        """Readable, but not to be monitored (a small PLC has 1,000 items in all): read at the interval instead."""
        news = [tag for tag in tags if tag not in stream.polled]
        if news:
            self._log.warning("opcua_tags_polled", count=len(news), first=news[0], reason=tags[news[0]])
        if tags:
            stream.poll(tags)
            self._monitored.update((tag, self._nodes[tag]) for tag in tags if tag in self._nodes)
