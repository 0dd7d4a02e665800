"""Parts of values, refusals and limits against asyncua's server: structures, arrays, types, downloads, items the server forgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_session import UaSession
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field
from asyncua.ua import uatypes
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers import opcua, opcua_structures
from drivers.base import Quality, ReplyError, TagError, Value, Watching
from drivers.opcua_profiles import Profile
from drivers.opcua_subscriber import OpcUaSubscriber
from simulators.loopback import HOST
from tests.drivers.devices import NAMESPACE, SubscribedDevice, by_tag, within
from tests.drivers.test_opcua import Hurried, Listening, subscriber

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    # asyncua's server forgets to await it when a monitored node is deleted.
    pytest.mark.filterwarnings("ignore:coroutine .*datachange_callback.* was never awaited:RuntimeWarning"),
]


class Workshop(SubscribedDevice):
    """Beside the usual tags: one variable of each kind that machines publish."""

    async def start(self) -> None:
        await super().start()
        inner, _ = await new_struct(
            self.server, self.index, "Point", [field("X", ua.VariantType.Double), field("Y", ua.VariantType.Double)]
        )
        self.mode_type = await new_enum(self.server, self.index, "Mode", ["Off", "Hand", "Auto"])
        await new_struct(
            self.server, self.index, "CountType",
            [
                field("ID", ua.VariantType.Int32), field("Name", ua.VariantType.String), field("AccCount", ua.VariantType.Int64),
                new_struct_field("At", inner), new_struct_field("Trail", inner, array=True),
                new_struct_field("Mode", self.mode_type),
            ],
        )  # fmt: skip
        await self.server.load_data_type_definitions()
        self.types = [ua.CountType, ua.Point, ua.Mode]
        forget_here(self.types)
        values: dict[str, Any] = {
            "total": ua.Variant(2**63 + 5, ua.VariantType.UInt64), "low": ua.Variant(-(2**63), ua.VariantType.Int64),
            "list": ua.Variant([10, 20, 30], ua.VariantType.Int32), "mode": ua.Variant(2, ua.VariantType.Int32),
            "lot": ua.Variant("LOT-7", ua.VariantType.String), "chars": ua.Variant(list(b"OF-12\0"), ua.VariantType.Byte),
            "word": ua.Variant(0b1011_0100, ua.VariantType.UInt16), "real": ua.Variant(1.5, ua.VariantType.Double),
            "since": ua.Variant(datetime(2026, 11, 25, 6, tzinfo=UTC), ua.VariantType.DateTime),
            "matrix": ua.Variant([[1, 2, 3], [4, 5, 6]], ua.VariantType.Int32),
            "map": ua.Variant(list(range(60_000)), ua.VariantType.Int32, [200, 300]),
            "short": ua.Variant([1, 2, 3], ua.VariantType.Int32, [30_000, 30_000]),
            "count": self.count(41), "counts": ua.Variant([self.count(1).Value, self.count(2).Value], ua.VariantType.ExtensionObject),
        }  # fmt: skip
        for name, value in values.items():
            await self.folder_node.add_variable(self.id_of(name), name, value)
            # What asyncua makes a variable of has no dimensions.
            await self.put(name, value)
        await self.folder_node.add_variable(self.id_of("secret"), "secret", 1)
        await self.put("secret", 1, status=StatusCodes.BadUserAccessDenied)

    def count(self, number: int) -> ua.Variant:
        count, point, mode = self.types
        at = point(X=1.5, Y=float(number))
        made = count(ID=7, Name="total", AccCount=2**40 + number, At=at, Trail=[at, point(X=9.0)], Mode=mode.Auto)
        return ua.Variant(made, ua.VariantType.ExtensionObject)

    def id_of(self, name: str) -> ua.NodeId:
        return ua.NodeId.from_string(f"ns={self.index};s={name}")

    async def put(self, name: str, value: Any, kind: ua.VariantType | None = None, status: int = 0) -> None:
        data = ua.DataValue(value if isinstance(value, ua.Variant) else ua.Variant(value, kind), ua.StatusCode(status))
        data.SourceTimestamp = datetime.now(UTC)
        await self.server.write_attribute_value(self.id_of(name), data)


def forget_here(types: list[Any]) -> None:
    """As if the server ran in another process: it can still write its structures, nobody here knows how to read them."""
    for register in (uatypes.extension_objects_by_typeid, uatypes.extension_objects_by_datatype, uatypes.enums_by_datatype):
        for key in [key for key, made in register.items() if made in types]:
            del register[key]
    for made in types:
        delattr(ua, made.__name__)


def field(name: str, kind: ua.VariantType) -> ua.StructureField:
    return new_struct_field(name, kind)


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"node": f"nsu={NAMESPACE};s={name}"} | more


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server shares this process: on a loaded machine its definitions take long."""
    monkeypatch.setattr(opcua, "STRUCTURES_S", 90.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workshop]:
    found = Workshop(tmp_path_factory.mktemp("shop"))
    await found.start()
    yield found
    await found.stop()


GOOD: dict[str, tuple[dict[str, Any], Value]] = {
    "uint64": (named("total", type="uint64"), 2**63 + 5),
    "int64": (named("low"), -(2**63)),
    "element": (named("list", index=1), 20),
    "of_matrix": (named("matrix", index=[1, 2]), 6),
    "of_map": (named("map", index=[199, 298]), 59_998),
    "enum": (named("mode"), 2),
    "text": (named("lot", type="string"), "LOT-7"),
    "bytes": (named("chars", type="string", length=4), "OF-1"),
    "bit": (named("word", bit=2), True),
    "bits": (named("word", bits="4-7"), 0b1011),
    "time": (named("since"), "2026-11-25T06:00:00+00:00"),
    "member": (named("count", member="AccCount"), 2**40 + 41),
    "deep": (named("count", member="At.Y"), 41.0),
    "trail": (named("count", member="Trail.1.X"), 9.0),
    "enum_member": (named("count", member="Mode"), 2),
    "of_array": (named("counts", index=1, member="AccCount"), 2**40 + 2),
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": (named("nowhere"), "BadNodeIdUnknown"),
    "elsewhere": ({"node": "nsu=urn:nobody;s=x"}, "BadNodeIdUnknown: the server has no namespace"),
    "out_of_range": (named("list", index=3), "BadIndexRangeNoData: an array of 3 has no index 3"),
    "no_array": (named("real", index=0), "BadTypeMismatch: not an array but a real number"),
    "array": (named("list"), "BadTypeMismatch: an array of 3: the tag needs an index"),
    "matrix": (named("matrix", index=1), "BadTypeMismatch: a matrix of 2 x 3: the tag needs an index of 2 numbers"),
    "outside": (named("matrix", index=[0, 3]), "BadIndexRangeNoData: a matrix of 2 x 3 has no index 0,3"),
    "wrong_type": (named("real", type="uint32"), "BadTypeMismatch: a real number, the tag says uint32"),
    "no_member": (named("count", member="Total"), "BadNoMatch: there is no member Total; it has ID, Name, AccCount, At, Trail, Mode"),
    "denied": (named("secret"), "BadUserAccessDenied"),
}


@pytest.mark.parametrize("mode", ["poll", "subscribe"])
async def test_every_kind_of_value_and_every_wrong_tag_in_one_configuration(shop: Workshop, mode: str) -> None:
    tags = {tag: how for tag, (how, _) in {**GOOD, **WRONG}.items()}
    driver = shop.driver(tags=tags, mode=mode)
    await driver.connect()
    try:
        if isinstance(driver, OpcUaSubscriber):
            stream = driver.subscribe(list(tags))
            found = by_tag(await anext(stream))
            await stream.aclose()  # type: ignore[attr-defined]
        else:
            found = by_tag(await driver.read(list(tags)))
        assert {tag: found[tag].value for tag in GOOD} == {tag: value for tag, (_, value) in GOOD.items()}
        assert all(type(found[tag].value) is type(value) for tag, (_, value) in GOOD.items())
        for tag, (_, says) in WRONG.items():
            assert found[tag].quality is Quality.BAD, tag
            assert found[tag].detail.startswith(says), tag
        assert set(driver.refused) == set(WRONG)  # type: ignore[attr-defined]
    finally:
        await driver.close()


async def test_structures_come_over_a_subscription_and_leave_nothing_in_the_library(shop: Workshop) -> None:
    ours = {tag: how for tag, (how, _) in GOOD.items() if "member" in how}
    registered = dict(ua.extension_objects_by_typeid)
    async with Listening(subscriber(shop, tags=ours), list(ours)) as heard:
        assert ua.extension_objects_by_typeid == registered, "another PLC may use the same ids for other structures"
        await shop.put("count", shop.count(42))
        await within(5, lambda: heard.of("deep")[-1].value == 42.0)
        assert heard.of("member")[-1].value == 2**40 + 42
    await shop.put("count", shop.count(41))


async def test_definitions_are_read_once_and_again_where_the_server_has_others(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = Client.load_data_type_definitions

    async def counted(self: Client) -> Any:
        loads.append(self)
        return await load(self)

    monkeypatch.setattr(Client, "load_data_type_definitions", counted)

    async def look() -> int:
        driver = shop.driver(tags={"deep": named("count", member="At.Y")}, mode="poll")
        await driver.connect()
        try:
            assert [reading.value for reading in await driver.read(["deep"])] == [41.0]
        finally:
            await driver.close()
        return len(loads)

    opcua_structures._known.clear()
    assert [await look(), await look()] == [1, 1]
    known = opcua_structures._known[f"opc.tcp://{HOST}:{shop.port}"]
    known.definitions = dict.fromkeys(known.definitions)
    assert [await look(), await look()] == [2, 2]
    known = opcua_structures._known[f"opc.tcp://{HOST}:{shop.port}"]
    known.missed.add(ua.NodeId(7, 7))
    assert [await look(), await look()] == [3, 3], "what is not there after all is not asked for again"
    assert opcua_structures._known[f"opc.tcp://{HOST}:{shop.port}"].hopeless == {ua.NodeId(7, 7)}


async def test_definitions_that_cannot_be_read_cost_only_the_tags_that_need_them(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: Client) -> Any:
        raise RuntimeError("Unknown datatype for field")

    opcua_structures._known.clear()
    tags = {"deep": named("count", member="At.Y"), "real": named("real")}
    with monkeypatch.context() as patched:
        patched.setattr(Client, "load_data_type_definitions", broken)
        driver = shop.driver(tags=tags, mode="poll")
        await driver.connect()
        deep, real = await driver.read(["deep", "real"])
        assert (deep.quality, real.value) == (Quality.BAD, 1.5)
        assert deep.detail.startswith("BadDataTypeIdUnknown: the server defines no structure ns=")
        await driver.close()
    driver = shop.driver(tags=tags, mode="poll")
    await driver.connect()
    assert [reading.value for reading in await driver.read(["deep", "real"])] == [41.0, 1.5], "the next connection tries again"
    await driver.close()


async def test_text_that_is_no_unicode_can_still_be_told(shop: Workshop) -> None:
    async with Listening(subscriber(shop, tags={"lot": named("lot")}), ["lot"]) as heard:
        await shop.put("lot", b"\xe9t\xe9".decode("utf-8", "surrogateescape"), ua.VariantType.String)
        await within(5, lambda: heard.of("lot")[-1].value == "été")
    await shop.put("lot", "LOT-7", ua.VariantType.String)


async def test_an_overflow_is_counted_and_told_by_name(shop: Workshop) -> None:
    driver = subscriber(shop)
    async with Listening(driver) as heard:
        assert driver.concerns == {}
        await shop.show("parts", 70_010, status=0x480)
        await within(5, lambda: heard.of("parts")[-1].value == 70_010)
        await within(5, lambda: "overflow" in driver.concerns)
        assert driver.incidents["overflow"] == 1
        assert "parts" in driver.concerns["overflow"].text_fr
        assert heard.of("parts")[-1].quality is Quality.GOOD
    await shop.show("parts", 70_000)


@pytest.mark.parametrize("mode", ["poll", "subscribe"])
async def test_a_matrix_larger_than_its_elements_is_bad_alone_and_counted(shop: Workshop, mode: str) -> None:
    driver = shop.driver(tags={"short": named("short", index=[0, 0]), "of_map": named("map", index=[1, 0])}, mode=mode)
    await driver.connect()
    try:
        found = by_tag(await driver.read(["short", "of_map"]))
        assert (found["short"].quality, found["short"].detail) == (
            Quality.BAD,
            "BadDecodingError: 3 elements for a matrix of 30000 x 30000",
        )
        assert (found["of_map"].quality, found["of_map"].value) == (Quality.GOOD, 300)
        assert isinstance(driver, Watching)
        assert driver.incidents["invalid_value"] == 1
        assert "short" in driver.concerns["values"].text_en
    finally:
        await driver.close()


async def test_a_value_that_cannot_be_is_bad_counted_and_told(shop: Workshop) -> None:
    driver = subscriber(shop, tags={"weight": named("weight", valid=[0, 20])})
    async with Listening(driver, ["weight"]) as heard:
        for value in (21.0, float("nan")):
            await shop.show("weight", value)
            await within(5, lambda: heard.of("weight")[-1].quality is Quality.BAD)
        await within(5, lambda: driver.incidents["invalid_value"] == 2)
        await within(5, lambda: "values" in driver.concerns)
        assert driver.refused == {}
    await shop.reset()


async def test_a_plc_an_hour_off_is_corrected_and_told(shop: Workshop) -> None:
    driver = subscriber(shop)
    async with Listening(driver) as heard:
        for step in range(1, 4):
            await shop.show("parts", 70_000 + step, at=datetime.now(UTC) + timedelta(hours=1))
            await within(5, lambda step=step: heard.of("parts")[-1].value == 70_000 + step)
        source = heard.of("parts")[-1].source_time
        assert source is not None
        assert abs(datetime.now(UTC) - source) < timedelta(seconds=20)
        await within(5, lambda: "clock" in driver.concerns)
        assert "1 h 0 min" in driver.concerns["clock"].text_en
    await shop.show("parts", 70_000)


async def test_a_small_plc_monitors_what_it_can_and_the_rest_is_polled(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.opcua.PROFILES", {"s7-1200": Profile(unannounced=10, per_call=10, items=2)})
    async with Listening(subscriber(shop, profile="s7-1200")) as heard:
        items = [
            item
            for subscription in shop.server.iserver.subscription_service.subscriptions.values()
            for item in subscription.monitored_item_srv._monitored_items
        ]
        assert len(items) == 2
        for value in (70_021, 70_022):
            for tag, now in (("parts", value), ("weight", value / 10), ("running", value % 2 == 0)):
                await shop.show(tag, now)
            await within(5, lambda value=value: heard.of("weight")[-1].value == value / 10)
            await within(5, lambda value=value: heard.of("parts")[-1].value == value)
    await shop.reset()


async def test_a_server_that_takes_less_than_it_says_is_asked_for_less(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    services = UaSession
    read, create = services.read, services.create_monitored_items

    async def read_two(self: UaSession, parameters: Any) -> Any:
        if len(parameters.NodesToRead) in (3, 4):
            raise UaStatusCodeError(StatusCodes.BadTooManyOperations)
        return await read(self, parameters)

    async def create_one(self: UaSession, parameters: Any) -> Any:
        if len(parameters.ItemsToCreate) > 1:
            raise UaStatusCodeError(StatusCodes.BadTooManyOperations)
        return await create(self, parameters)

    monkeypatch.setattr(services, "read", read_two)
    monkeypatch.setattr(services, "create_monitored_items", create_one)
    async with Listening(subscriber(shop)) as heard:
        assert heard.batches[0][0].value == 70_000
        await shop.show("parts", 70_051)
        await within(5, lambda: heard.of("parts")[-1].value == 70_051)
    await shop.reset()


async def test_a_value_that_fits_into_no_answer_is_bad_alone(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    read = UaSession.read

    asked: list[int] = []

    async def read_small(self: UaSession, parameters: Any) -> Any:
        asked.append(len(parameters.NodesToRead))
        if any(wanted.NodeId.Identifier == "weight" for wanted in parameters.NodesToRead):
            raise UaStatusCodeError(StatusCodes.BadResponseTooLarge)
        return await read(self, parameters)

    driver = shop.driver(tags={"parts": named("parts"), "weight": named("weight"), "lot": named("lot")}, mode="poll")
    await driver.connect()
    try:
        monkeypatch.setattr(UaSession, "read", read_small)
        for _ in range(2):
            found = await driver.read(["parts", "weight", "lot"])
            assert [reading.quality for reading in found] == [Quality.GOOD, Quality.BAD, Quality.GOOD]
            assert found[1].detail == "BadResponseTooLarge"
            told = list(asked)
            asked.clear()
        assert told == [2], "the one that fits nowhere rests, and the others share a request again"
    finally:
        await driver.close()


async def test_a_write_keeps_to_what_the_configuration_says(shop: Workshop) -> None:
    tags = {
        "parts": named("parts", writable=True, type="uint16"), "weight": named("weight", writable=True, valid=[0, 20]),
        "lot": named("lot", writable=True, type="string", length=8),
    }  # fmt: skip
    driver = shop.driver(tags=tags, mode="poll")
    await driver.connect()
    try:
        for tag, value, says in (
            ("parts", 70_000, "70000 does not fit uint16"), ("parts", 1.5, "a real number, the tag says uint16"),
            ("weight", 21.0, "21.0 is outside 0 to 20"), ("lot", "LOT-12345", "9 characters, the tag's length is 8"),
        ):  # fmt: skip
            with pytest.raises(TagError, match=says):
                await driver.write(tag, value)
        await driver.write("weight", 19.5)
        assert (await driver.read(["weight"]))[0].value == 19.5
    finally:
        await driver.close()
    await shop.reset()


async def test_the_servers_own_list_of_items_is_compared_each_minute(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncua's server has the method's node only: here it answers, and says that it knows no item."""

    async def nothing(_parent: ua.NodeId, _subscription: ua.Variant) -> list[ua.Variant]:
        return [ua.Variant([99_999], ua.VariantType.UInt32), ua.Variant([], ua.VariantType.UInt32)]

    shop.server.link_method(shop.server.get_node(ua.NodeId(11492)), nothing)
    clock = Hurried()
    driver = subscriber(shop, clock)
    async with Listening(driver) as heard:
        clock.ahead_s = 61.0
        await within(8, lambda: driver.incidents["forgotten"] >= 3)
        await shop.show("parts", 70_031)
        await within(5, lambda: heard.of("parts")[-1].value == 70_031)
    await shop.reset()


async def test_an_item_that_falls_silent_again_and_again_is_polled(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.opcua_subscriber.RESTLESS", 1)
    driver = subscriber(shop)
    async with Listening(driver) as heard:
        (subscription,) = shop.server.iserver.subscription_service.subscriptions.values()
        subscription.monitored_item_srv.delete_all_monitored_items()
        await shop.show("parts", 70_041)
        await within(8, lambda: driver.incidents["forgotten"] == 1)
        await within(8, lambda: len(subscription.monitored_item_srv._monitored_items) == 2)
        await shop.show("parts", 70_042)
        await shop.show("weight", 42.0)
        await within(5, lambda: heard.of("parts")[-1].value == 70_042)
        await within(5, lambda: heard.of("weight")[-1].value == 42.0)
    await shop.reset()


async def download(shop: Workshop, gone_s: float) -> None:
    """The program is loaded anew: its variables vanish, and come back as new ones."""
    await shop.server.delete_nodes(list(shop.nodes.values()))
    await asyncio.sleep(gone_s)
    for tag, kind in shop.kinds.items():
        shop.nodes[tag] = await shop.folder_node.add_variable(shop.id_of(tag), tag, shop.values[tag], varianttype=kind)
        await shop.nodes[tag].set_writable()


@pytest.mark.parametrize("gone_s", [0.0, 4.0])
async def test_after_a_program_download_data_is_back_within_seconds(shop: Workshop, gone_s: float) -> None:
    """asyncua's server keeps the items of deleted nodes, which never speak again: the most silent death there is."""
    driver = subscriber(shop)
    async with Listening(driver) as heard:
        shop.values["parts"] = 71_000
        await download(shop, gone_s)
        if gone_s:
            assert "parts" in driver.refused
        await shop.show("parts", 71_001)
        await within(8, lambda: heard.of("parts")[-1].value == 71_001)
        await within(8, lambda: set(driver.refused) == {"absent"})
        await shop.show("parts", 71_002)
        await within(8, lambda: heard.of("parts")[-1].value == 71_002)
        assert not heard.task.done()
    await shop.reset()


async def test_the_servers_time_is_asked_for_where_there_is_no_source_time(shop: Workshop) -> None:
    async def put(value: int, at: datetime) -> None:
        data = ua.DataValue(ua.Variant(value, ua.VariantType.Int32), ServerTimestamp=at)
        await shop.server.write_attribute_value(shop.id_of("mode"), data)

    await put(0, datetime.now(UTC))
    async with Listening(subscriber(shop, tags={"mode": named("mode")}), ["mode"]) as heard:
        at = datetime.now(UTC)
        await put(1, at)
        await within(5, lambda: heard.of("mode")[-1].value == 1)
        assert heard.of("mode")[-1].source_time == at
    await put(2, datetime.now(UTC))


async def test_a_value_that_still_comes_from_a_namespace_that_is_gone_is_no_reason_to_end(shop: Workshop) -> None:
    array = shop.server.get_node(ua.NodeId(2255))
    before = list(await array.read_value())
    driver = subscriber(shop)
    async with Listening(driver) as heard:
        try:
            await array.write_value([uri for uri in before if uri != NAMESPACE])
            await within(8, lambda: "parts" in driver.refused)
            await shop.show("parts", 70_061)
            await within(5, lambda: heard.of("parts")[-1].value == 70_061)
            await asyncio.sleep(2)
            assert not heard.task.done()
        finally:
            await array.write_value(before)
        await within(8, lambda: set(driver.refused) == {"absent"})
    await shop.reset()


async def test_a_server_that_answers_fewer_values_than_asked_is_not_trusted(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: UaSession, parameters: Any) -> list[Any]:
        return []

    monkeypatch.setattr(UaSession, "read", nothing)
    driver = shop.driver()
    with pytest.raises(ReplyError):
        await driver.connect()
    await driver.close()


async def test_namespaces_in_another_order_after_a_download(shop: Workshop) -> None:
    array = shop.server.get_node(ua.NodeId(2255))
    before = list(await array.read_value())
    async with Listening(subscriber(shop)) as heard:
        new = len(before)
        uris = [*before, NAMESPACE]
        uris[before.index(NAMESPACE)] = "urn:test:new"
        await shop.server.delete_nodes(list(shop.nodes.values()))
        await array.write_value(uris)
        node = await shop.folder_node.add_variable(ua.NodeId.from_string(f"ns={new};s=parts"), "parts", 72_000)
        await within(8, lambda: heard.of("parts")[-1].value == 72_000)
        await node.write_value(72_001)
        await within(8, lambda: heard.of("parts")[-1].value == 72_001)
