"""OPC UA client driver: a subscription (or polling) on nodes named by namespace URI, with per-node status."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import structlog
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers import remedies
from drivers.base import Clock, Concern, Quality, Reading, TagError, Value
from drivers.opcua_clock import DeviceClock
from drivers.opcua_profiles import LIMIT_NODES, PROFILES, TOO_MUCH, Limits
from drivers.opcua_security import make_security, make_user
from drivers.opcua_session import Session
from drivers.opcua_settings import OpcUaSettings, OpcUaTag
from drivers.opcua_structures import UNUSABLE, Structures
from drivers.opcua_translate import PathBook
from drivers.opcua_values import Place, bad, has_overflowed, resolve, status_name, to_reading, to_variant, unfit
from drivers.settings import Secret
from drivers.values import InvalidValues

# A node the server refuses is asked again this often: someone may load the missing program block meanwhile.
REFUSED_RETRY_S = 30.0
# Just refused it is asked more often, for as long as a program download takes: its nodes go, and come back.
SOON_S, SOON_FOR_S = 2.0, 300.0
# Namespaces and the monitored items are compared with the server's this often.
SURVEY_S = 60.0
# Reading the definitions of all structures of a server takes many requests.
STRUCTURES_S = 15.0
# An overflow is told this long after the last one.
OVERFLOW_TOLD_S = 300.0

_NAMESPACES = ua.NodeId.from_string("i=2255")

# The tag itself is at fault, not the moment: named on the page as refused.
NOT_SERVED = (
    "BadNodeId", "BadAttributeId", "BadNotReadable", "BadUserAccessDenied", "BadIndexRange", "BadTypeMismatch", "BadNoMatch",
    "BadDataTypeIdUnknown", "BadDataEncoding",
)  # fmt: skip
# The node is gone, and with it whatever monitored it.
_GONE = ("BadNodeId", "BadAttributeId")


class OpcUaDriver:
    """Satisfies `drivers.base.Driver`, `Paced`, `Refusing`, `Watching` and `Certified`.

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
        self._places = {tag: _place(tag, found) for tag, found in settings.tags.items()}
        self._paths = PathBook({tag: (found.node, found.path) for tag, found in settings.tags.items() if found.path is not None})
        self._session = Session(settings.url, clock, timeout_s=settings.timeout, peer=settings.peer)
        self._nodes: dict[str, ua.NodeId] = {}
        self._uris: list[str] = []
        self._bounds = Limits.of(PROFILES[settings.profile])
        self._structures = Structures(settings.url)
        self._stamps = ua.TimestampsToReturn.Source
        self._refused: dict[str, str] = {}
        self._too_large: dict[str, tuple[float, ua.DataValue]] = {}
        """Tags whose value fits into no answer: until when they are not asked again, and what the server said."""
        self._monitored: dict[str, ua.NodeId] = {}
        """Of the subscriber: tags that are looked after (by an item, or polled where the server wants none), and the node meant."""
        self._troubled_at = self._surveyed_at = -math.inf
        self._device_clock = DeviceClock(settings.interval)
        self._overflows: dict[str, float] = {}
        self._incidents = {"clock": 0, "forgotten": 0, "invalid_value": 0, "overflow": 0}
        self._invalid = InvalidValues()
        self._concerns: dict[str, Concern] = {}
        self._log = structlog.get_logger("lineside.opcua").bind(device=name)

    @property
    def refused(self) -> Mapping[str, str]:
        return self._refused

    @property
    def concerns(self) -> Mapping[str, Concern]:
        return self._concerns

    @property
    def incidents(self) -> Mapping[str, int]:
        return self._incidents

    def read_limit_s(self, tags: Sequence[str]) -> float:
        return (3 + len(tags) // self._bounds.per_read) * self._settings.timeout

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
        """How much the server takes in one call, its namespaces, which number differently on each server, its structures."""
        namespaces, *limits = await self._values([_NAMESPACES, *LIMIT_NODES])
        self._bounds = Limits.announced(PROFILES[self._settings.profile], limits)
        await self._find_nodes(namespaces)
        await self._load_structures()

    async def _load_structures(self) -> None:
        """One server's odd definitions cost the tags that need them, not the link."""
        if not any(place.member for place in self._places.values()):
            return
        async with self._session.guard(STRUCTURES_S + self._settings.timeout):
            try:
                async with self._clock.timeout(STRUCTURES_S):
                    await self._structures.load(self._session.client, self._bounds.per_read)
            except (TimeoutError, *UNUSABLE) as error:
                self._structures.give_up()
                self._log.warning("opcua_structures_unknown", error=f"{type(error).__name__}: {error}")

    async def _survey(self) -> None:
        """Namespaces and structures again: a program download may have changed their order, and what they mean."""
        await self._find_nodes(*await self._values([_NAMESPACES]))
        await self._load_structures()

    async def _values(self, nodes: Sequence[ua.NodeId]) -> list[object]:
        async with self._session.guard(self._settings.timeout):
            found = await self._session.services.read(_reading(nodes))
        if len(found) != len(nodes):
            raise remedies.untrustworthy(self._settings.peer, f"{len(found)} values for {len(nodes)} nodes")
        return [data.Value.Value if data.Value is not None else None for data in found]

    async def _find_nodes(self, namespaces: object) -> None:
        """The node of each tag, where it is not known or the server numbers its namespaces anew."""
        self._surveyed_at = self._clock.monotonic()
        uris = namespaces if isinstance(namespaces, list) else []
        moved = uris != self._uris
        self._uris = uris
        if self._paths and (moved or any(tag in self._paths and tag not in self._nodes for tag in self._places)):
            per_call = self._bounds.per_translate
            async with self._session.guard((1 + len(self._paths) // per_call) * self._settings.timeout):
                translated, unknown = await self._paths.translate(self._session.services, uris, per_call)
            self._nodes.update(translated)
            for tag, why in unknown.items():
                self._refuse(tag, why)
        for tag, place in self._places.items():
            if tag in self._paths or (tag in self._nodes and not moved):
                continue
            node = resolve(place.node, uris)
            if node is None:
                self._refuse(tag, f"BadNodeIdUnknown: the server has no namespace of {place.node}")
                self._nodes.pop(tag, None)
            else:
                self._nodes[tag] = node

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        now = self._clock.monotonic()
        if now - self._surveyed_at >= (self._retry_s(now) if self._refused else SURVEY_S):
            await self._survey()
        readings = await self._read_tags(tags)
        self._review(now)
        return readings

    async def _read_tags(self, tags: Sequence[str]) -> list[Reading]:
        # Another read, or a look for nodes that moved, may come between two requests: these ids are the ones that count here.
        now, bounds = self._clock.monotonic(), self._bounds
        values = {tag: data for tag, (until, data) in self._too_large.items() if now < until}
        nodes = {tag: self._nodes[tag] for tag in tags if tag in self._nodes and tag not in values}
        known, done = list(nodes), 0
        while done < len(known):
            chunk = known[done : done + self._bounds.per_read]
            async with self._session.guard(self._settings.timeout):
                try:
                    results = await self._session.services.read(_reading([nodes[tag] for tag in chunk], self._stamps))
                except UaStatusCodeError as error:
                    if error.code not in TOO_MUCH:
                        raise
                    if len(chunk) > 1:
                        self._bounds = replace(self._bounds, per_read=len(chunk) // 2)
                        continue
                    # This one alone does not fit into an answer: the others go on, as many in a request as before.
                    results = [ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(error.code)))]
                    self._too_large[chunk[0]] = (now + REFUSED_RETRY_S, results[0])
                    self._bounds = bounds
            if len(results) != len(chunk):
                raise remedies.untrustworthy(self._settings.peer, f"{len(results)} values for {len(chunk)} nodes")
            values.update(zip(chunk, results, strict=True))
            done += len(chunk)
        received_at = self._clock.now()
        corrected = self._device_clock.corrected
        return [
            corrected(self._reading(tag, values[tag], received_at)) if tag in values else bad(tag, received_at, self._why(tag))
            for tag in tags
        ]

    def _reading(self, tag: str, data: ua.DataValue, received_at: datetime) -> Reading:
        reading = to_reading(self._places[tag], data, received_at, self._structures.opened)
        if reading.detail:
            if has_overflowed(data):
                self._incidents["overflow"] += 1
                self._overflows[tag] = self._clock.monotonic()
            if reading.quality is Quality.BAD:
                if reading.detail.startswith(NOT_SERVED):
                    self._refuse(tag, reading.detail)
                    return reading
                if not data.StatusCode or data.StatusCode.is_good():
                    # The PLC calls it good, and yet it cannot be true: out of range, not finite.
                    self._incidents["invalid_value"] += 1
                    self._invalid.note(tag, reading.detail, self._clock.monotonic())
        if tag in self._refused and tag in self._nodes:
            del self._refused[tag]
        return reading

    def _why(self, tag: str) -> str:
        return self._refused.get(tag, "not connected")

    def _refuse(self, tag: str, why: str) -> None:
        if tag not in self._refused:
            self._troubled_at = self._clock.monotonic()
        self._refused[tag] = why
        if why.startswith(_GONE):
            self._monitored.pop(tag, None)
        if tag in self._paths and why.startswith((*_GONE, "BadNoMatch")):
            # A program download gives the node another id: the path is translated anew.
            self._nodes.pop(tag, None)

    def _retry_s(self, now: float) -> float:
        """Seconds between two tries of what is refused."""
        return SOON_S if now - self._troubled_at < SOON_FOR_S else REFUSED_RETRY_S

    def _review(self, now: float) -> None:
        """What a technician should put right, as it stands now."""
        self._incidents["clock"] = self._device_clock.unusable
        clock = self._device_clock.concern(self._clock.now())
        for tag in [tag for tag, at in self._overflows.items() if now - at >= OVERFLOW_TOLD_S]:
            del self._overflows[tag]
        overflow = _overflow(sorted(self._overflows), self._settings.interval) if self._overflows else None
        found = {"clock": clock, "overflow": overflow, "values": self._invalid.concern(now)}
        self._concerns = {kind: concern for kind, concern in found.items() if concern is not None}

    async def write(self, tag: str, value: Value) -> None:
        found = self._settings.tags.get(tag)
        if found is None or not found.writable:
            raise TagError(f"tag {tag} is not writable")
        node = self._nodes.get(tag)
        if node is None:
            raise TagError(f"tag {tag}: {self._why(tag)}")
        wrong = unfit(self._places[tag], value)
        if wrong:
            raise TagError(f"tag {tag}: {wrong}")
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
            part = None
            if found.index is not None:
                # A range of one element in each dimension, and a value of that shape (OPC 10000-4, NumericRange).
                part = ",".join(str(number) for number in found.index)
                shape = [ua.Int32(1)] * len(found.index) if len(found.index) > 1 else None
                variant = ua.Variant([variant.Value], variant.VariantType, shape)
            item = ua.WriteValue(NodeId=node, AttributeId=AttributeIds.Value, IndexRange=part)
            # Only the value: many PLCs refuse a write that carries a time stamp.
            item.Value = ua.DataValue(variant, StatusCode=None)
            result = (await services.write(ua.WriteParameters(NodesToWrite=[item])))[0]
        if not result.is_good():
            raise TagError(f"tag {tag}: the server answered {status_name(int(result.value))}")

    async def close(self) -> None:
        await self._session.close()


def _place(tag: str, found: OpcUaTag) -> Place:
    return Place(
        tag, found.node or "", found.index, found.invert, tuple(found.member.split(".")) if found.member else (), found.bit_range,
        found.type, found.length, found.valid,
    )  # fmt: skip


def _overflow(tags: Sequence[str], interval_s: float) -> Concern:
    named = ", ".join(tags[:5]) + ("…" if len(tags) > 5 else "")
    return Concern(
        "warning",
        f"L'automate change plus vite qu'il n'envoie : des valeurs intermédiaires de {named} sont perdues.",
        f"The PLC changes faster than it sends: values of {named} in between are lost.",
        f"Allonger le signal dans l'automate, ou raccourcir `interval` (maintenant {interval_s:g} s).",
        f"Make the signal last longer in the PLC, or shorten `interval` (now {interval_s:g} s).",
        "Overflow bit set by the server (OPC 10000-4, 7.38.1)",
    )


def _status(data: ua.DataValue) -> str:
    return status_name(0 if data.StatusCode is None else int(data.StatusCode.value))


def _reading(nodes: Sequence[ua.NodeId], stamps: ua.TimestampsToReturn = ua.TimestampsToReturn.Source) -> ua.ReadParameters:
    return ua.ReadParameters(
        MaxAge=0.0,
        TimestampsToReturn=stamps,
        NodesToRead=[ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value) for node in nodes],
    )
