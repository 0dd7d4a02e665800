"""Looking around in servers that a real one seldom is: long lists in pieces, few continuation points, loops, answers too large."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.base import Found, LinkError, TagError
from drivers.opcua_browse import OpcUaExplorer
from drivers.opcua_settings import OpcUaSettings
from gateway.clock import SystemClock

URI = "urn:test:plc"
OBJECTS = "i=85"


def node_id(text: str) -> ua.NodeId:
    return ua.NodeId.from_string(text)


class Services:
    """An address space given as node -> children, and values by node; it has its limits and counts the calls."""

    def __init__(self, children: dict[str, list[str]], values: dict[str, Any], **limits: int) -> None:
        self.children = children
        self.values = values
        self.limits = {"i=11710": limits.get("browse", 0), "i=11705": limits.get("read", 0)}
        self.page = limits.get("page", 1000)
        self.points = limits.get("points", 100)
        self.largest = limits.get("largest", 10_000)
        self.asked: list[int] = []
        self.largest_read = 0
        self._held: dict[bytes, list[ua.ReferenceDescription]] = {}

    async def browse(self, parameters: ua.BrowseParameters) -> list[ua.BrowseResult]:
        self.asked.append(len(parameters.NodesToBrowse))
        return [self._page(self._references(wanted.NodeId), parameters) for wanted in parameters.NodesToBrowse]

    def _references(self, node: ua.NodeId) -> list[ua.ReferenceDescription]:
        found = []
        for name in self.children.get(node.to_string(), []):
            reference = ua.ReferenceDescription()
            reference.NodeId = ua.ExpandedNodeId(node_id(name).Identifier, node_id(name).NamespaceIndex, node_id(name).NodeIdType)
            reference.BrowseName = ua.QualifiedName(name.split("=")[-1], 2)
            reference.NodeClass = ua.NodeClass.Variable if name in self.values else ua.NodeClass.Object
            reference.ReferenceTypeId = node_id("i=46" if name.endswith("Property") else "i=47")
            found.append(reference)
        return found

    def _page(self, references: list[ua.ReferenceDescription], parameters: ua.BrowseParameters) -> ua.BrowseResult:
        assert parameters.RequestedMaxReferencesPerNode
        result = ua.BrowseResult()
        if len(references) > self.page and len(self._held) >= self.points:
            result.StatusCode = ua.StatusCode(ua.StatusCodes.BadNoContinuationPoints)
            return result
        result.References = references[: self.page]
        if references[self.page :]:
            result.ContinuationPoint = f"{id(result)}".encode()
            self._held[result.ContinuationPoint] = references[self.page :]
        return result

    async def browse_next(self, parameters: ua.BrowseNextParameters) -> list[ua.BrowseResult]:
        whole = ua.BrowseParameters(RequestedMaxReferencesPerNode=1)
        return [self._page(self._held.pop(point), whole) for point in parameters.ContinuationPoints]

    async def read(self, parameters: ua.ReadParameters) -> list[ua.DataValue]:
        if len(parameters.NodesToRead) > self.largest:
            raise UaStatusCodeError(ua.StatusCodes.BadResponseTooLarge)
        self.largest_read = max(self.largest_read, len(parameters.NodesToRead))
        return [self._value(wanted) for wanted in parameters.NodesToRead]

    def _value(self, wanted: ua.ReadValueId) -> ua.DataValue:
        name = wanted.NodeId.to_string()
        if name == "i=2255":
            return ua.DataValue(ua.Variant(["http://opcfoundation.org/UA/", "urn:server", URI]))
        if name in self.limits:
            return ua.DataValue(ua.Variant(self.limits[name], ua.VariantType.UInt32))
        if wanted.AttributeId == ua.AttributeIds.UserAccessLevel:
            return ua.DataValue(ua.Variant(3, ua.VariantType.Byte))
        if wanted.AttributeId == ua.AttributeIds.NodeClass:
            known = name in self.children or name in self.values
            status = ua.StatusCode(0 if known else ua.StatusCodes.BadNodeIdUnknown)
            kind = ua.NodeClass.Variable if name in self.values else ua.NodeClass.Object
            return ua.DataValue(ua.Variant(int(kind), ua.VariantType.Int32), status) if known else ua.DataValue(None, status)
        value = self.values[name]
        return value if isinstance(value, ua.DataValue) else ua.DataValue(ua.Variant(value))


class Session:
    def __init__(self, services: Services) -> None:
        self.services = services

    @contextlib.asynccontextmanager
    async def guard(self, limit_s: float) -> AsyncIterator[None]:
        try:
            yield
        except UaStatusCodeError as error:
            raise LinkError(str(error)) from error


async def browsed(services: Services, path: str = "", told: list[str] | None = None) -> list[Found]:
    settings = OpcUaSettings.model_validate(
        {"driver": "opcua", "url": "opc.tcp://plc:4840", "security": {"insecure": True}, "tags": {"a": {"node": "i=2258"}}}
    )
    explorer = OpcUaExplorer(settings, SystemClock(), name="plc", secrets=lambda secret: "")
    explorer._session = Session(services)  # type: ignore[assignment]
    heard = told if told is not None else []
    return [found async for batch in explorer.browse(path, heard.append) for found in batch]


def names(found: Sequence[Found]) -> list[str]:
    return [one.path for one in found]


def flat(count: int) -> dict[str, list[str]]:
    return {OBJECTS: ["ns=2;s=Hall"], "ns=2;s=Hall": [f"ns=2;s=V{number}" for number in range(count)]}


async def test_a_long_list_comes_in_pieces() -> None:
    services = Services(flat(2500), {f"ns=2;s=V{number}": number for number in range(2500)}, page=100)
    told: list[str] = []
    found = await browsed(services, told=told)
    assert names(found) == [f"Hall/V{number}" for number in range(2500)]
    assert found[7] == Found("Hall/V7", {"node": f"nsu={URI};s=V7", "type": "int64"}, "Int64", "rw", "7")
    assert told[-1] == "2502 nodes opened, 0 to go, 2500 variables"


async def test_many_nodes_go_into_one_call_and_never_more_than_the_server_takes() -> None:
    services = Services(flat(500), {f"ns=2;s=V{number}": number for number in range(500)}, browse=30, read=50)
    assert len(await browsed(services)) == 500
    assert max(services.asked) == 30
    assert len(services.asked) <= 2 + 500 // 30 + 1
    assert services.largest_read == 50


async def test_a_server_with_few_continuation_points_loses_nothing() -> None:
    cells = [f"ns=2;s=Cell{number}" for number in range(5)]
    children = {OBJECTS: cells} | {cell: [f"{cell}.V{number}" for number in range(20)] for cell in cells}
    values = {name: 1 for cell in cells for name in children[cell]}
    services = Services(children, values, page=7, points=1)
    assert len(await browsed(services)) == 100


async def test_a_loop_and_two_ways_to_one_node_end() -> None:
    children = {
        OBJECTS: ["ns=2;s=A", "ns=2;s=B"],
        "ns=2;s=A": ["ns=2;s=B", "ns=2;s=A", OBJECTS],
        "ns=2;s=B": ["ns=2;s=A", "ns=2;s=V"],
        "ns=2;s=V": ["ns=2;s=VProperty", "ns=2;s=V"],
    }
    services = Services(children, {"ns=2;s=V": 1.5, "ns=2;s=VProperty": "mm"})
    found = await browsed(services)
    assert names(found) == ["B/V", "B/V/VProperty"]
    assert sum(services.asked) == 4, "a property has nothing below it and is not opened"


async def test_an_answer_too_large_is_asked_for_in_halves() -> None:
    values: dict[str, Any] = {f"ns=2;s=V{number}": number for number in range(40)}
    services = Services(flat(40), values, largest=9)
    assert [one.value for one in await browsed(services)] == [str(number) for number in range(40)]


async def test_what_cannot_be_a_tag_says_why() -> None:
    values = {
        "ns=2;s=V0": [10, 20],
        "ns=2;s=V1": ua.DataValue(ua.Variant(None), ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData)),
        "ns=2;s=V2": [0] * 40,
        "ns=2;s=V3": "x" * 100,
        "ns=2;s=V4": ua.DataValue(ua.Variant([1, 2, 3], ua.VariantType.Int64, [2, 3])),
        "ns=2;s=V5": ua.DataValue(ua.Variant([], ua.VariantType.Int64, is_array=True)),
    }
    found = await browsed(Services(flat(6), values))
    assert names(found)[:2] == ["Hall/V0[0]", "Hall/V0[1]"]
    assert found[1].tag == {"node": f"nsu={URI};s=V0", "index": "1", "type": "int64"}
    assert found[2].tag == {}
    assert found[2].remark == "BadWaitingForInitialData"
    assert names(found).count("Hall/V2") == 1
    assert "of which the first 32 are shown" in next(one.remark for one in found if one.path == "Hall/V2")
    assert next(one for one in found if one.path == "Hall/V3").value.endswith("...")
    assert found[-2].remark == "BadDecodingError: 3 elements for a matrix of 2 x 3"
    assert found[-1].remark == "an empty array"


async def test_a_node_that_no_configuration_can_name_says_so() -> None:
    children = {OBJECTS: [b"ns=2;s=Z\xe4hler".decode("utf-8", "surrogateescape")]}
    (found,) = await browsed(Services(children, {children[OBJECTS][0]: 7}))
    assert (found.tag, found.remark) == ({}, "its node id is no Unicode, so that no configuration can name it")


async def test_each_element_of_a_matrix_is_a_tag_of_its_own() -> None:
    values = {"ns=2;s=V0": ua.DataValue(ua.Variant([0, 1, 2, 10, 11, 12], ua.VariantType.Int64, [2, 3]))}
    found = await browsed(Services(flat(1), values))
    assert names(found) == [f"Hall/V0[{row},{column}]" for row in range(2) for column in range(3)]
    assert found[5].tag == {"node": f"nsu={URI};s=V0", "index": "1,2", "type": "int64"}
    assert (found[5].data_type, found[5].value) == ("Int64[2,3]", "12")


async def test_a_path_by_names_or_by_node_id() -> None:
    children = {OBJECTS: ["ns=2;s=Hall"], "ns=2;s=Hall": ["ns=2;s=A/B", "ns=2;s=V"], "ns=2;s=A/B": ["ns=2;s=W"]}
    services = Services(children, {"ns=2;s=V": 1, "ns=2;s=W": 2})
    assert names(await browsed(services, "Hall")) == ["Hall/V", "Hall/A&/B/W"]
    assert names(await browsed(services, "/Objects/Hall/A&/B")) == ["Hall/A&/B/W"]
    assert names(await browsed(services, f"nsu={URI};s=A/B")) == [f"nsu={URI};s=A/B/W"]
    assert names(await browsed(services, "ns=2;s=W")) == ["ns=2;s=W"]
    with pytest.raises(TagError, match="there is no Hal below Objects; there is Hall"):
        await browsed(services, "Hal/V")
    with pytest.raises(TagError, match="nothing is below it"):
        await browsed(services, "Hall/V/x")
    with pytest.raises(TagError, match="no namespace"):
        await browsed(services, "nsu=urn:other;s=V")
    with pytest.raises(TagError, match="BadNodeIdUnknown"):
        await browsed(services, "ns=2;s=Gone")


async def test_a_server_without_end_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.opcua_browse.MAX_NODES", 50)
    with pytest.raises(TagError, match="name a PATH"):
        await browsed(Services(flat(100), {f"ns=2;s=V{number}": number for number in range(100)}))


async def test_continuation_points_that_lead_nowhere_end() -> None:
    class Endless(Services):
        async def browse_next(self, parameters: ua.BrowseNextParameters) -> list[ua.BrowseResult]:
            result = ua.BrowseResult()
            result.ContinuationPoint = b"again"
            return [result for _ in parameters.ContinuationPoints]

    with pytest.raises(LinkError, match="without end"):
        await browsed(Endless(flat(20), {f"ns=2;s=V{number}": number for number in range(20)}, page=7))
