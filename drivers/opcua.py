"""OPC UA client driver: a subscription (or polling) on nodes named by namespace URI, with per-node status."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import structlog
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from drivers import remedies
from drivers.base import Clock, LinkError, Quality, Reading, TagError, Value, silence_limit
from drivers.opcua_security import make_security, make_user
from drivers.opcua_session import Session
from drivers.opcua_settings import OpcUaSettings
from drivers.opcua_stream import ITEMS_PER_CALL, TagStream
from drivers.opcua_translate import PathBook
from drivers.opcua_values import Place, bad, resolve, status_name, to_reading, to_variant
from drivers.settings import Secret

# A node the server refuses is asked again this often: someone may load the missing program block meanwhile.
REFUSED_RETRY_S = 30.0
# Above this a small PLC gets slow, whatever limit it announces.
MAX_NODES_PER_READ = 200

_NAMESPACES, _MAX_PER_READ, _MAX_PER_MONITOR = (ua.NodeId.from_string(i) for i in ("i=2255", "i=11705", "i=11714"))

# The tag itself is at fault, not the moment: named on the page as refused.
_NOT_SERVED = ("BadNodeId", "BadAttributeId", "BadNotReadable", "BadUserAccessDenied")


class OpcUaDriver:
    """Satisfies `drivers.base.Driver`, `Paced`, `Refusing` and `Certified`.

    `state_dir`: where the gateway's own certificate is kept; without one it is made anew for each start.
    """

    recorded: ClassVar[bool] = False

    def __init__(
        self, settings: OpcUaSettings, clock: Clock, *, name: str, secrets: Callable[[Secret], str], state_dir: Path | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._secrets = secrets
        self._state_dir = state_dir
        self._places = {tag: Place(tag, found.node or "", found.index, found.invert) for tag, found in settings.tags.items()}
        self._paths = PathBook({tag: (found.node, found.path) for tag, found in settings.tags.items() if found.path is not None})
        self._session = Session(settings.url, clock, timeout_s=settings.timeout, peer=settings.peer)
        self._nodes: dict[str, ua.NodeId] = {}
        self._per_read = self._per_monitor = ITEMS_PER_CALL
        self._refused: dict[str, str] = {}
        self._look_again_at = 0.0
        self._log = structlog.get_logger("lineside.opcua").bind(device=name)

    @property
    def refused(self) -> Mapping[str, str]:
        return self._refused

    def read_limit_s(self, tags: Sequence[str]) -> float:
        return (2 + len(tags) // self._per_read) * self._settings.timeout

    @property
    def certificates(self) -> Mapping[str, datetime]:
        return self._session.certificates

    async def connect(self) -> None:
        settings = self._settings
        user = make_user(settings.user, self._secrets, settings.peer)
        if settings.security.insecure:
            await self._session.open(None, user)
        else:
            made_anew = contextlib.nullcontext() if self._state_dir else tempfile.TemporaryDirectory(prefix="lineside-pki-")
            with made_anew as folder:
                await self._session.open(make_security(settings, self._state_dir or Path(str(folder))), user)
        try:
            await self._look_around()
        except BaseException:
            await self.close()
            raise

    async def _look_around(self) -> None:
        """The server's namespaces, which number differently on each server, and how much it takes in one call."""
        self._look_again_at = self._clock.monotonic() + REFUSED_RETRY_S
        async with self._session.guard(self._settings.timeout):
            found = await self._session.services.read(_reading([_NAMESPACES, _MAX_PER_READ, _MAX_PER_MONITOR]))
        namespaces, per_read, per_monitor = (data.Value.Value if data.Value is not None else None for data in found)
        if isinstance(per_read, int) and per_read > 0:
            self._per_read = min(per_read, MAX_NODES_PER_READ)
        if isinstance(per_monitor, int) and per_monitor > 0:
            self._per_monitor = min(per_monitor, ITEMS_PER_CALL)
        uris = namespaces if isinstance(namespaces, list) else []
        if self._paths:
            async with self._session.guard((1 + len(self._paths) // ITEMS_PER_CALL) * self._settings.timeout):
                translated, unknown = await self._paths.translate(self._session.services, uris, ITEMS_PER_CALL)
            self._nodes.update(translated)
            self._refused.update(unknown)
            for tag in unknown:
                self._nodes.pop(tag, None)
        for tag, place in self._places.items():
            if tag in self._paths:
                continue
            node = resolve(place.node, uris)
            if node is None:
                self._nodes.pop(tag, None)
                self._refused[tag] = f"BadNodeIdUnknown: the server has no namespace of {place.node}"
            else:
                self._nodes[tag] = node

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        if len(self._nodes) < len(self._places) and self._clock.monotonic() >= self._look_again_at:
            await self._look_around()
        known = [tag for tag in tags if tag in self._nodes]
        values: dict[str, ua.DataValue] = {}
        for start in range(0, len(known), self._per_read):
            chunk = known[start : start + self._per_read]
            async with self._session.guard(self._settings.timeout):
                results = await self._session.services.read(_reading([self._nodes[tag] for tag in chunk]))
            if len(results) != len(chunk):
                raise remedies.untrustworthy(self._settings.peer, f"{len(results)} values for {len(chunk)} nodes")
            values.update(zip(chunk, results, strict=True))
        received_at = self._clock.now()
        return [
            self._reading(tag, values[tag], received_at) if tag in values else bad(tag, received_at, self._refused[tag]) for tag in tags
        ]

    def _reading(self, tag: str, data: ua.DataValue, received_at: datetime) -> Reading:
        reading = to_reading(self._places[tag], data, received_at)
        if reading.quality is Quality.BAD and reading.detail.startswith(_NOT_SERVED):
            self._refused[tag] = reading.detail
            if tag in self._paths:
                # A program download gives the node another id: the path is translated anew.
                self._nodes.pop(tag, None)
        else:
            self._refused.pop(tag, None)
        return reading

    async def write(self, tag: str, value: Value) -> None:
        found = self._settings.tags.get(tag)
        if found is None or not found.writable:
            raise TagError(f"tag {tag} is not writable")
        node = self._nodes.get(tag)
        if node is None:
            raise TagError(f"tag {tag}: {self._refused.get(tag, 'not connected')}")
        if found.invert:
            value = not value
        async with self._session.guard(2 * self._settings.timeout):
            services = self._session.services
            # The node's own type: servers refuse an Int64 for a UInt32.
            present = (await services.read(_reading([node])))[0]
            if present.Value is None or present.Value.Value is None:
                raise TagError(f"tag {tag}: its type is not known, the node has no value ({_status(present)})")
            try:
                variant = to_variant(value, present.Value.VariantType)
            except ValueError as error:
                raise TagError(f"tag {tag}: {error}") from error
            if found.index is not None:
                variant = ua.Variant([variant.Value], variant.VariantType)
            item = ua.WriteValue(NodeId=node, AttributeId=AttributeIds.Value, IndexRange=None if found.index is None else str(found.index))
            # Only the value: many PLCs refuse a write that carries a time stamp.
            item.Value = ua.DataValue(variant, StatusCode=None)
            result = (await services.write(ua.WriteParameters(NodesToWrite=[item])))[0]
        if not result.is_good():
            raise TagError(f"tag {tag}: the server answered {status_name(int(result.value))}")

    async def close(self) -> None:
        await self._session.close()


class OpcUaSubscriber(OpcUaDriver):
    """The driver in mode subscribe: satisfies `drivers.base.Subscribing` as well."""

    async def subscribe(self, tags: Sequence[str]) -> AsyncIterator[Sequence[Reading]]:
        stream = TagStream(
            self._clock,
            peer=self._settings.peer,
            interval_s=self._settings.interval,
            silence_s=silence_limit(self._settings.interval),
            bands={tag: self._settings.tags[tag].deadband for tag in tags},
            read=self.read,
            convert=self._reading,
        )
        yield await stream.first(tags)
        async with self._session.guard(2 * self._settings.timeout):
            pushed = await stream.open(self._session.services)
        if not pushed:
            self._log.warning("opcua_subscription_refused", fallback="poll", reason=stream.refusal)
        retry_at = 0.0
        while True:
            if pushed and self._clock.monotonic() >= retry_at:
                await self._monitor(stream, tags, everything=retry_at == 0.0)
                retry_at = self._clock.monotonic() + REFUSED_RETRY_S
            try:
                batches = await stream.next(retry_at)
            except LinkError:
                self._session.distrust()
                raise
            for batch in batches:
                yield batch

    async def _monitor(self, stream: TagStream, tags: Sequence[str], *, everything: bool) -> None:
        """Monitor all tags at first, later those that are refused or that the server has forgotten."""
        if len(self._nodes) < len(self._places) and not everything:
            await self._look_around()
        wanted = {
            tag: self._nodes[tag] for tag in tags if tag in self._nodes and (everything or tag in self._refused or tag in stream.forgotten)
        }
        async with self._session.guard((1 + len(wanted) // self._per_monitor) * 2 * self._settings.timeout):
            refused = await stream.monitor(wanted, self._per_monitor)
        for tag, status in refused.items():
            name = status_name(status)
            if name.startswith(_NOT_SERVED):
                self._refused[tag] = name
            else:
                # Readable, but not to be monitored (a small PLC has 1,000 items in all): read at the interval instead.
                self._log.warning("opcua_tag_polled", tag=tag, reason=name)
                stream.poll(tag)


def _status(data: ua.DataValue) -> str:
    return status_name(0 if data.StatusCode is None else int(data.StatusCode.value))


def _reading(nodes: Sequence[ua.NodeId]) -> ua.ReadParameters:
    return ua.ReadParameters(
        MaxAge=0.0,
        TimestampsToReturn=ua.TimestampsToReturn.Source,
        NodesToRead=[ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value) for node in nodes],
    )
