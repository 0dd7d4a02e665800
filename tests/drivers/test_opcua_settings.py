"""What an OPC UA tag may say: parts of values, and what excludes each other."""

from __future__ import annotations

from typing import Any

import pytest
from asyncua import ua
from pydantic import ValidationError

from drivers.opcua_settings import OpcUaSettings, OpcUaTag


def tag(**keys: Any) -> OpcUaTag:
    return OpcUaTag.model_validate({"node": "nsu=urn:acme:press;s=x"} | keys)


@pytest.mark.parametrize(
    ("keys", "bits"), [({}, None), ({"bit": 0}, (0, 1)), ({"bit": 63}, (63, 1)), ({"bits": "4-7"}, (4, 4)), ({"bits": "7-4"}, (4, 4))]
)
def test_bits(keys: dict[str, Any], bits: tuple[int, int] | None) -> None:
    assert tag(**keys).bit_range == bits


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"bit": 3, "bits": "4-7"}, "exclude each other"),
        ({"bits": "60-64"}, "bits 0 to 63"),
        ({"bit": 64}, "less than or equal to 63"),
        ({"bits": "4"}, "is no range of bits"),
        ({"bit": 3, "type": "string"}, "picks from an integer, not from string"),
        ({"bit": 3, "writable": True}, "cannot be written"),
        ({"member": "A.B", "writable": True}, "cannot be written"),
        ({"member": "A..B"}, "is no path into a structure"),
        ({"length": 8}, "length belongs to type: string"),
        ({"node": "svr=1;nsu=urn:acme:press;s=x"}, "another server"),
        ({"node": "Counters.Total"}, "is no node id"),
        ({"node": "i=4294967296"}, "is no node id"),
        ({"node": "ns=65536;i=1"}, "is no node id"),
        ({"node": "g=------------------------------------"}, "is no node id"),
        ({"node": "b=abc"}, "is no node id"),
        ({"index": -1}, "is no place in an array; count from 0 and write for example 3"),
        ({"index": [1, -1]}, "is no place in an array"),
        ({"index": []}, "is no place in an array"),
        ({"index": "1,x"}, "is no place in an array"),
        ({"index": True}, "is no place in an array"),
    ],
)
def test_what_cannot_be(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        tag(**keys)


@pytest.mark.parametrize(("index", "place"), [(3, (3,)), ("3", (3,)), ([2, 5], (2, 5)), ("2,5", (2, 5)), ("2, 5", (2, 5))])
def test_the_place_in_an_array_or_matrix(index: Any, place: tuple[int, ...]) -> None:
    assert tag(index=index).index == place


@pytest.mark.parametrize("node", ["i=4294967295", "ns=65535;s=a;b", "g=72962b91-fa75-4ae6-8d28-b404dc7daf63", "b=M/RbKBsRVkePCePcx24oRA=="])
def test_node_ids_of_every_kind(node: str) -> None:
    assert tag(node=node).node == node
    assert ua.NodeId.from_string(node).to_string() == node


def test_bits_of_a_counter_are_no_counter() -> None:
    base = {"driver": "opcua", "url": "opc.tcp://plc:4840", "security": {"insecure": True}}
    nodes = {"a": {"node": "i=1", "type": "uint16"}, "b": {"node": "i=1", "type": "uint16", "bits": "0-7"}, "c": {"node": "i=2"}}
    settings = OpcUaSettings.model_validate(base | {"tags": nodes})
    assert [settings.counter_type(name) for name in nodes] == [(16, False), None, None]
    assert settings.profile == "generic"
    with pytest.raises(ValidationError, match="s7-1500"):
        OpcUaSettings.model_validate(base | {"tags": nodes, "profile": "s7-300"})
