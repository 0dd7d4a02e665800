"""How much an OPC UA server takes: what is known of its make, and what it announces itself; the smaller wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes


@dataclass(frozen=True, slots=True)
class Profile:
    """`unannounced`: nodes a call until the server has said more. `per_call`: never more, whatever it says. `items`: monitored in all."""

    unannounced: int
    per_call: int
    items: int | None = None


# 500: a longer answer would hold up everything else in this process while it is decoded.
_LONGEST_CALL = 500

PROFILES: Mapping[str, Profile] = {
    "generic": Profile(unannounced=50, per_call=_LONGEST_CALL),
    # Siemens: 1,000 items in all; above 200 nodes a call it answers about 50 times slower.
    "s7-1200": Profile(unannounced=100, per_call=200, items=1_000),
    # Siemens: 10,000 items on the largest CPU; 1,000 nodes a call are hard-coded.
    "s7-1500": Profile(unannounced=200, per_call=_LONGEST_CALL, items=10_000),
    # Its limits are a setting of the server and are announced by it.
    "kepware": Profile(unannounced=50, per_call=_LONGEST_CALL),
}
"""Key of the setting `profile` -> limits. docs/opcua.md says where they come from."""

TOO_MUCH = frozenset(
    {
        StatusCodes.BadTooManyOperations, StatusCodes.BadRequestTooLarge, StatusCodes.BadResponseTooLarge,
        StatusCodes.BadEncodingLimitsExceeded,
    }
)  # fmt: skip
"""A server that takes fewer nodes a call than it announces, or announces nothing: half as many are tried."""

LIMIT_NODES: tuple[ua.NodeId, ...] = tuple(
    ua.NodeId(ua.Int32(node))
    for node in (
        ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
        ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
        ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds,
        ObjectIds.Server_ServerCapabilities_MaxMonitoredItemsPerSubscription,
        ObjectIds.Server_ServerCapabilities_MaxMonitoredItems,
    )
)
"""What `Limits.announced` takes the values of, in its order (OPC 10000-5, 6.3.11 and 6.3.2)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What this connection keeps to; `items` None: nothing is known, the server says when it has enough."""

    per_read: int
    per_monitor: int
    per_translate: int
    items: int | None

    @classmethod
    def of(cls, profile: Profile) -> Limits:
        """Before the server has been asked."""
        return cls(profile.unannounced, profile.unannounced, profile.unannounced, profile.items)

    @classmethod
    def announced(cls, profile: Profile, values: Sequence[object]) -> Limits:
        """With the server's own figures; 0 and none mean that it announces nothing."""
        told = [value if isinstance(value, int) and value > 0 else None for value in values]
        read, monitor, translate = (profile.unannounced if value is None else min(value, profile.per_call) for value in told[:3])
        items = [value for value in (*told[3:], profile.items) if value is not None]
        return cls(read, monitor, translate, min(items, default=None))
