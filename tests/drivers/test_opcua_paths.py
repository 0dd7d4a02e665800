"""Tags given by a browse path: how it is written, and that it finds its node on a real server, whatever its ids and indexes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.server.server import Server

from drivers import make_driver
from drivers.base import Driver, Quality, Refusing
from drivers.opcua_paths import Step, numbered, parse_path
from drivers.opcua_settings import OpcUaSettings
from gateway.clock import SystemClock
from simulators.loopback import HOST, free_port
from tests.drivers.devices import by_tag

PACKML = "http://opcfoundation.org/UA/PackML/"


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("Objects/2:Press", (Step(None, 0, "Objects"), Step(None, 2, "Press"))),
        ("/Objects/Server", (Step(None, 0, "Objects"), Step(None, 0, "Server"))),
        (f"{{{PACKML}}}Status/Id", (Step(PACKML, 0, "Status"), Step(None, 0, "Id"))),
        ("0:Total parts.[1]", (Step(None, 0, "Total parts.[1]"),)),
        ("a&/b/&{c", (Step(None, 0, "a/b"), Step(None, 0, "{c"))),
    ],
)
def test_steps_of_a_path(path: str, steps: tuple[Step, ...]) -> None:
    assert parse_path(path) == steps


@pytest.mark.parametrize("path", ["", "/", "Objects//Press", "Objects/", "{urn:a}", "{urn:a/Name", "Objects/{}Press"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        parse_path(path)


def test_namespaces_are_numbered_by_the_server() -> None:
    steps = parse_path(f"Objects/{{{PACKML}}}Press/3:Parts")
    assert numbered(steps, ["http://opcfoundation.org/UA/", "urn:x", PACKML]) == [(0, "Objects"), (2, "Press"), (3, "Parts")]
    assert numbered(steps, ["http://opcfoundation.org/UA/"]) == PACKML


def test_a_tag_needs_a_node_or_a_path() -> None:
    settings = {"driver": "opcua", "url": "opc.tcp://localhost", "security": {"insecure": True}}
    with pytest.raises(ValueError, match="a tag names its node"):
        OpcUaSettings.model_validate(settings | {"tags": {"parts": {"unit": "C62"}}})


class Press:
    """A server whose machine can be loaded anew, with other node ids."""

    async def start(self) -> None:
        self.server = Server()
        await self.server.init()
        self.port = free_port()
        self.server.set_endpoint(f"opc.tcp://{HOST}:{self.port}")
        self.server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        await self.server.register_namespace("urn:test:other")
        self.index = await self.server.register_namespace(PACKML)
        self.machine = await self.server.nodes.objects.add_object(self.index, "Press")
        await self.load(7)
        await self.server.start()

    async def load(self, parts: int) -> None:
        self.status = await self.machine.add_object(self.index, "Status")
        self.parts = await self.status.add_variable(self.index, "Parts", parts)
        await self.parts.add_property(0, "Id", "good")
        for number in range(60):
            await self.status.add_variable(self.index, f"n{number}", number)

    def driver(self) -> Driver:
        p = f"{{{PACKML}}}"
        tags = {
            "parts": {"path": f"Objects/{p}Press/{p}Status/{p}Parts"},
            "id": {"node": f"nsu={PACKML};i={self.machine.nodeid.Identifier}", "path": f"{p}Status/{p}Parts/Id"},
            "missing": {"path": f"Objects/{p}Press/{p}Nowhere"},
            "foreign": {"path": "Objects/{urn:not:here}Press"},
            **{f"n{number}": {"path": f"Objects/{p}Press/{p}Status/{p}n{number}"} for number in range(60)},
        }
        settings = OpcUaSettings.model_validate(
            {
                "driver": "opcua",
                "url": f"opc.tcp://{HOST}:{self.port}",
                "security": {"insecure": True},
                "mode": "poll",
                "interval": 0.1,
                "tags": tags,
            }
        )
        return make_driver(settings, SystemClock(), name="plc", secrets=lambda secret: "")


# One server for both tests: asyncua's takes seconds to start on a busy machine.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def press() -> AsyncIterator[Press]:
    found = Press()
    await found.start()
    yield found
    await found.server.stop()


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_paths_find_their_nodes_and_one_that_is_missing_fails_no_other(press: Press) -> None:
    driver = press.driver()
    await driver.connect()
    tags = ["parts", "id", "missing", "foreign", *(f"n{number}" for number in range(60))]
    found = by_tag(await driver.read(tags))
    assert (found["parts"].value, found["id"].value) == (7, "good")
    assert [found[f"n{number}"].value for number in range(60)] == list(range(60)), "more than go into one call"
    for tag, told in (("missing", "BadNoMatch: no node at path Objects/"), ("foreign", "the server has no namespace urn:not:here")):
        assert found[tag].quality is Quality.BAD
        assert told in found[tag].detail
    await driver.close()


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_a_program_download_with_other_ids_is_followed(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.opcua.SOON_S", 0.1)
    driver = press.driver()
    await driver.connect()
    assert by_tag(await driver.read(["parts"]))["parts"].value == 7
    old = press.parts.nodeid
    await press.status.delete(recursive=True)
    assert by_tag(await driver.read(["parts"]))["parts"].quality is Quality.BAD
    await press.load(9)
    assert press.parts.nodeid != old
    async with asyncio.timeout(10):
        while by_tag(await driver.read(["parts"]))["parts"].value != 9:
            await asyncio.sleep(0.05)
    assert "parts" not in driver.refused if isinstance(driver, Refusing) else False
    await driver.close()
