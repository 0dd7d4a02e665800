"""Looking around in an OPC UA server: which variables it has, how a tag names them, and what they show.

Many nodes go into one Browse call, long lists come by continuation points, each node is opened once, however many ways lead to it.
Values are asked for with the largest `MaxAge`: a server that sits before other devices answers from its cache (OPC 10000-4, 5.11.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import NamedTuple

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers import remedies
from drivers.base import Found, Quality, Raw, TagError
from drivers.opcua import OpcUaDriver
from drivers.opcua_arrays import index_of, misfit
from drivers.opcua_settings import NODE_PATTERN
from drivers.opcua_values import Place, bad, resolve, status_name, to_reading


def _well_known(number: int) -> ua.NodeId:
    """A node of the standard's own namespace (OPC 10000-6, annex A)."""
    return ua.NodeId.from_string(f"i={number}")


_OBJECTS, _SERVER = _well_known(ObjectIds.ObjectsFolder), _well_known(ObjectIds.Server)
_PROPERTY = _well_known(ObjectIds.HasProperty)
_LIMITS = [
    _well_known(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse),
    _well_known(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead),
]
# What a server that announces no limit is given in one call.
_NODES_PER_CALL = 50
# Whatever a server announces: each node of a Browse call may bring a thousand references, a value may be long.
_MOST_OPENED, _MOST_READ = 100, 1000
_REFERENCES_PER_NODE = 1000
_CACHED = float(2**31 - 1)
# A server that is built on itself ends here.
MAX_NODES = 1_000_000
# A server may give fewer references than it has; one that gives none so often never will.
_MOST_IDLE = 100
_ARRAY_SHOWN = 32
_LONGEST_VALUE = 60

_TOO_LARGE = frozenset({StatusCodes.BadResponseTooLarge, StatusCodes.BadEncodingLimitsExceeded, StatusCodes.BadTooManyOperations})
_TAG_TYPES = {
    ua.VariantType.Int16: "int16", ua.VariantType.UInt16: "uint16", ua.VariantType.Int32: "int32", ua.VariantType.UInt32: "uint32",
    ua.VariantType.Int64: "int64", ua.VariantType.UInt64: "uint64", ua.VariantType.Float: "float32", ua.VariantType.Double: "float64",
    ua.VariantType.Boolean: "bool", ua.VariantType.String: "string",
}  # fmt: skip


class _Node(NamedTuple):
    id: ua.NodeId
    path: str
    is_variable: bool
    is_property: bool = False


class OpcUaExplorer(OpcUaDriver):
    """Satisfies `drivers.base.Explorer`. `_per_browse`, `_per_value`: nodes in one Browse call, variables in one Read call."""

    _per_browse = _per_value = _NODES_PER_CALL

    async def browse(self, path: str, told: Callable[[str], None]) -> AsyncIterator[Sequence[Found]]:
        """`path`: nothing (all below Objects but the server's own Server), a node id, or browse names such as `Press/Counters`."""
        self._uris = await self._namespaces()
        self._per_browse, self._per_value = await self._call_sizes()
        start = await self._start(path)
        seen = {start.id}
        shut = deque([start])
        if not path:
            seen.add(_SERVER)
        opened = variables = 0
        if start.is_variable:
            yield await self._describe([start])
        while shut:
            batch = [shut.popleft() for _ in range(min(self._per_browse, len(shut)))]
            fresh: list[_Node] = []
            for below in await self._open(batch):
                for node in below:
                    if node.id in seen:
                        continue
                    seen.add(node.id)
                    fresh.append(node)
            opened += len(batch)
            # A property has nothing below it (OPC 10000-3, 4.4.2).
            shut.extend(node for node in fresh if not node.is_property)
            found = [node for node in fresh if node.is_variable]
            for first in range(0, len(found), self._per_value):
                part = found[first : first + self._per_value]
                yield await self._describe(part)
                variables += len(part)
                told(f"{opened} nodes opened, {len(shut)} to go, {variables} variables")
            if len(seen) > MAX_NODES:
                raise TagError(f"more than {MAX_NODES} nodes; name a PATH to look at a part of them")
            told(f"{opened} nodes opened, {len(shut)} to go, {variables} variables")

    async def inspect(self, tags: Sequence[str]) -> Sequence[Raw]:
        known = [tag for tag in tags if tag in self._nodes]
        answers = await self._read([(self._nodes[tag], AttributeIds.Value) for tag in known], max_age=0.0)
        received_at = self._clock.now()
        found = {
            tag: Raw(to_reading(self._places[tag], data, received_at, self._structures.opened), _raw(data))
            for tag, data in zip(known, answers, strict=True)
        }
        return [found.get(tag) or Raw(bad(tag, received_at, self._refused.get(tag, "not connected")), "") for tag in tags]

    # -- where to begin

    async def _namespaces(self) -> list[str]:
        (data,) = await self._read([(_well_known(ObjectIds.Server_NamespaceArray), AttributeIds.Value)])
        return list(data.Value.Value) if data.Value is not None and isinstance(data.Value.Value, list) else []

    async def _call_sizes(self) -> tuple[int, int]:
        """Nodes in one Browse call, and variables in one Read call (two attributes each)."""
        found = await self._read([(node, AttributeIds.Value) for node in _LIMITS])
        given = [data.Value.Value if data.Value is not None else None for data in found]
        browse, read = (limit if isinstance(limit, int) and limit > 0 else _NODES_PER_CALL for limit in given)
        return min(browse, _MOST_OPENED), max(1, min(read, _MOST_READ) // 2)

    async def _start(self, path: str) -> _Node:
        if not path:
            return _Node(_OBJECTS, "", is_variable=False)
        if NODE_PATTERN.fullmatch(path):
            node = resolve(path, self._uris)
            if node is None:
                raise TagError(f"the server has no namespace of {path}; see those of the node ids that browse without a PATH prints")
            (kind,) = await self._read([(node, AttributeIds.NodeClass)])
            if kind.Value is None or kind.Value.Value is None:
                raise TagError(f"the server has no node {path} ({_status(kind)}); browse without a PATH to see what it has")
            return _Node(node, path, is_variable=kind.Value.Value == ua.NodeClass.Variable)
        node_here = _Node(_OBJECTS, "", is_variable=False)
        for name in _split(path):
            if not node_here.path and name == "Objects":
                continue
            (below,) = await self._open([node_here])
            found = next((node for node in below if _split(node.path)[-1] == name), None)
            if found is None:
                known = ", ".join(_split(node.path)[-1] for node in below[:12])
                raise TagError(
                    f"there is no {name} below {node_here.path or 'Objects'}; "
                    + (f"there is {known}{' ...' if len(below) > 12 else ''}" if known else "nothing is below it")
                )
            node_here = found
        return node_here

    # -- Browse

    async def _open(self, nodes: Sequence[_Node]) -> list[list[_Node]]:
        """What is below each of `nodes`, by one Browse call and as many BrowseNext as it takes."""
        parameters = ua.BrowseParameters(
            RequestedMaxReferencesPerNode=_REFERENCES_PER_NODE, NodesToBrowse=[_description(node.id) for node in nodes]
        )
        async with self._session.guard(self._settings.timeout):
            results = await self._session.services.browse(parameters)
        self._same_number(results, nodes)
        below: list[list[_Node]] = [self._nodes_of(node, result) for node, result in zip(nodes, results, strict=True)]
        no_point_left = [i for i, result in enumerate(results) if result.StatusCode.value == StatusCodes.BadNoContinuationPoints]
        waiting = {i: result.ContinuationPoint for i, result in enumerate(results) if result.ContinuationPoint}
        idle = 0
        while waiting:
            async with self._session.guard(self._settings.timeout):
                more = await self._session.services.browse_next(
                    ua.BrowseNextParameters(ReleaseContinuationPoints=False, ContinuationPoints=list(waiting.values()))
                )
            self._same_number(more, waiting)
            idle = 0 if any(result.References for result in more) else idle + 1
            if idle > _MOST_IDLE:
                raise remedies.untrustworthy(self._settings.peer, "continuation points without end and without a reference")
            for i, result in zip(list(waiting), more, strict=True):
                below[i] += self._nodes_of(nodes[i], result)
                waiting[i] = result.ContinuationPoint
                if len(below[i]) > MAX_NODES:
                    raise TagError(f"more than {MAX_NODES} references below {nodes[i].path}; name another PATH")
            waiting = {i: point for i, point in waiting.items() if point}
        for i in no_point_left if len(nodes) > 1 else ():
            # A server has few continuation points, and those of this call are free again.
            (below[i],) = await self._open([nodes[i]])
        return below

    def _same_number(self, results: Sequence[object], asked: Sequence[object] | dict[int, bytes]) -> None:
        if len(results) != len(asked):
            raise remedies.untrustworthy(self._settings.peer, f"{len(results)} browse results for {len(asked)} nodes")

    def _nodes_of(self, above: _Node, result: ua.BrowseResult) -> list[_Node]:
        nodes = []
        for reference in result.References or ():
            node = self._local(reference.NodeId)
            if node is not None:
                name = _escaped(reference.BrowseName.Name or "")
                path = f"{above.path}/{name}" if above.path else name
                is_variable = reference.NodeClass == ua.NodeClass.Variable
                nodes.append(_Node(node, path, is_variable, reference.ReferenceTypeId == _PROPERTY))
        return nodes

    def _local(self, expanded: ua.NodeId) -> ua.NodeId | None:
        """The node id without namespace URI; None: it lives in another server."""
        if getattr(expanded, "ServerIndex", 0):
            return None
        index = expanded.NamespaceIndex
        uri = getattr(expanded, "NamespaceUri", None)
        if uri:
            if uri not in self._uris:
                return None
            index = ua.Int16(self._uris.index(uri))
        return ua.NodeId(expanded.Identifier, index, expanded.NodeIdType)

    # -- Read

    async def _read(self, wanted: Sequence[tuple[ua.NodeId, AttributeIds]], *, max_age: float = _CACHED) -> list[ua.DataValue]:
        """Any number of attributes; an answer that would be too large is asked for in halves."""
        if not wanted:
            return []
        parameters = ua.ReadParameters(
            MaxAge=max_age,
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            NodesToRead=[ua.ReadValueId(NodeId=node, AttributeId=attribute) for node, attribute in wanted],
        )
        async with self._session.guard(self._settings.timeout):
            try:
                results = await self._session.services.read(parameters)
            except UaStatusCodeError as error:
                if error.code not in _TOO_LARGE:
                    raise
                results = None
        if results is None:
            if len(wanted) == 1:
                return [ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(StatusCodes.BadResponseTooLarge)))]
            middle = len(wanted) // 2
            return [*await self._read(wanted[:middle], max_age=max_age), *await self._read(wanted[middle:], max_age=max_age)]
        if len(results) != len(wanted):
            raise remedies.untrustworthy(self._settings.peer, f"{len(results)} values for {len(wanted)} nodes")
        return list(results)

    async def _describe(self, nodes: Sequence[_Node]) -> list[Found]:
        wanted = [(node.id, attribute) for node in nodes for attribute in (AttributeIds.Value, AttributeIds.UserAccessLevel)]
        answers = await self._read(wanted)
        return [
            found
            for node, value, access in zip(nodes, answers[::2], answers[1::2], strict=True)
            for found in self._found(node, value, _access(access))
        ]

    def _found(self, node: _Node, data: ua.DataValue, access: str) -> Iterable[Found]:
        name = self.named(node.id)
        variant = data.Value
        kind, values, dimensions = (variant.VariantType, variant.Value, variant.Dimensions) if variant is not None else (None, None, None)
        type_ = kind.name if kind is not None and kind is not ua.VariantType.Null else ""
        if any("\ud800" <= sign <= "\udfff" for sign in name):
            yield Found(node.path, {}, type_, access, "", "its node id is no Unicode, so that no configuration can name it")
            return
        if not isinstance(values, list):
            yield self._one(node.path, name, None, data, kind, type_, access)
            return
        wrong = misfit(values, dimensions)
        if wrong:
            yield Found(node.path, {}, f"{type_}[]", access, "", wrong)
            return
        sizes = dimensions if dimensions and len(dimensions) > 1 else [len(values)]
        type_ = f"{type_}[{','.join(str(size) for size in sizes)}]"
        for number in range(min(len(values), _ARRAY_SHOWN)):
            index = index_of(number, sizes)
            where = ",".join(str(part) for part in index)
            yield self._one(f"{node.path}[{where}]", name, index, data, kind, type_, access)
        if len(values) > _ARRAY_SHOWN or not values:
            remark = f"an array of {len(values)}, of which the first {_ARRAY_SHOWN} are shown" if values else "an empty array"
            yield Found(node.path, {}, type_, access, "", remark)

    def _one(
        self,
        path: str,
        name: str,
        index: tuple[int, ...] | None,
        data: ua.DataValue,
        kind: ua.VariantType | None,
        type_: str,
        access: str,
    ) -> Found:
        reading = to_reading(Place(path, name, index), data, self._clock.now())
        if reading.quality is Quality.BAD:
            return Found(path, {}, type_, access, "", reading.detail)
        tag = {"node": name}
        if index is not None:
            tag["index"] = ",".join(str(part) for part in index)
        if kind in _TAG_TYPES:
            tag["type"] = _TAG_TYPES[kind]
        text = str(reading.value)
        return Found(path, tag, type_, access, text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}...", reading.detail)

    def named(self, node: ua.NodeId) -> str:
        """The node id as a configuration writes it: with the namespace's URI, since its index differs from server to server."""
        text = str(node.to_string())
        index = node.NamespaceIndex
        uri = self._uris[index] if 0 < index < len(self._uris) else ""
        return f"nsu={uri};{text.split(';', 1)[1]}" if uri and ";" not in uri else text


def _description(node: ua.NodeId) -> ua.BrowseDescription:
    return ua.BrowseDescription(
        NodeId=node,
        BrowseDirection=ua.BrowseDirection.Forward,
        ReferenceTypeId=_well_known(ObjectIds.HierarchicalReferences),
        IncludeSubtypes=True,
        NodeClassMask=ua.NodeClass.Object | ua.NodeClass.Variable,
        ResultMask=ua.BrowseResultMask.ReferenceTypeId | ua.BrowseResultMask.NodeClass | ua.BrowseResultMask.BrowseName,
    )


def _escaped(name: str) -> str:
    return name.replace("&", "&&").replace("/", "&/")


def _split(path: str) -> list[str]:
    """Browse names of a path, escaped as they stand in it: `&/` is no separator (OPC 10000-4, A.2)."""
    names, name, escaped = [], "", False
    for sign in path:
        if sign == "/" and not escaped:
            names.append(name)
            name = ""
            continue
        escaped = sign == "&" and not escaped
        name += sign
    return [part for part in [*names, name] if part]


def _access(data: ua.DataValue) -> str:
    level = data.Value.Value if data.Value is not None else None
    if not isinstance(level, int):
        return ""
    return ("r" if level & 1 else "") + ("w" if level & 2 else "")


def _status(data: ua.DataValue) -> str:
    return status_name(0 if data.StatusCode is None else int(data.StatusCode.value))


def _raw(data: ua.DataValue) -> str:
    variant = data.Value
    shown = "no value"
    if variant is not None and variant.Value is not None:
        sizes = ",".join(str(size) for size in (variant.Dimensions or ())[:6])
        shown = f"{variant.VariantType.name}{f'[{sizes}]' if sizes else ''} {variant.Value!r}"
    server = f", server {data.ServerTimestamp.isoformat()}" if data.ServerTimestamp is not None else ""
    code = 0 if data.StatusCode is None else int(data.StatusCode.value)
    return f"{shown if len(shown) <= 2 * _LONGEST_VALUE else shown[: 2 * _LONGEST_VALUE] + '...'}, {_status(data)} 0x{code:08X}{server}"
