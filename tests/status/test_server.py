"""The HTTP side: who is answered, what is given, and what never is."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.metrics import Metrics
from gateway.status.server import ListenError, StatusServer, accepted
from gateway.status.settings import Address, parse_listen
from tests.manual_clock import ManualClock
from tests.status import fake_board
from tests.status.serving import serving

PAGES = ("/", "/machines/press-07", "/orders", "/links", "/journal", "/about", "/board")
DATA = ("/api/status", "/api/machines/press-07", "/api/orders", "/api/availability")


async def test_pages_data_and_probes_are_given() -> None:
    async with serving() as served:
        for path in (*PAGES, *DATA, "/metrics", "/healthz", "/readyz", "/static/style.css", "/static/live.js", "/static/icon.svg"):
            answer = await served.ask(path)
            assert answer.status == 200, path
            assert answer.body, path
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await served.ask("/static/live.js")).headers["content-type"] == "text/javascript; charset=utf-8"
        assert "lineside_readings_total" in (await served.ask("/metrics")).body.decode()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_anything_but_get_and_head_is_405(method: str) -> None:
    async with serving() as served:
        for path in ("/", "/api/status", "/nowhere", "/api/stream"):
            answer = await served.ask(path, method=method)
            assert answer.status == 405
            assert answer.headers["allow"] == "GET, HEAD"


async def test_head_has_no_body() -> None:
    async with serving() as served:
        for path in ("/", "/api/status", "/api/stream", "/metrics", "/healthz"):
            answer = await served.ask(path, method="HEAD")
            assert (answer.status, answer.body) == (200, b"")


async def test_what_is_no_http_is_refused_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        assert (await served.ask("/", host=None)).status == 400
        assert (await served.ask("/", headers={"Host": "a second one"})).status == 400
        assert (await served.ask("/ here and there")).status == 400
    assert not caplog.records


async def test_an_unknown_expectation_is_refused_on_every_path_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        for method, path in (("GET", "/"), ("GET", "/nowhere"), ("POST", "/api/orders"), ("OPTIONS", "*")):
            for value in ("100-cont\udcff", "tea"):
                answer = await served.ask(path, method=method, headers={"Expect": value})
                assert (answer.status, answer.headers["x-content-type-options"]) == (417, "nosniff"), (method, path)
                assert value.encode(errors="surrogateescape") not in answer.body
        assert (await served.ask("/", headers={"Expect": "100-Continue"})).status == 100
    assert not caplog.records


async def test_only_listed_hosts_are_answered() -> None:
    async with serving() as served:
        port = served.server.address.port
        for name in ("127.0.0.1", "localhost", "LocalHost", socket.gethostname()):
            assert (await served.ask("/", host=name)).status == 200, name
            assert (await served.ask("/healthz", host=f"{name}:{port}")).status == 200, name
        for name in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", f"localhost:{port + 1}", "localhost.", "127.0.0.2"):
            assert (await served.ask("/api/status", host=name)).status == 421, name
        assert (await served.ask("/", host=None)).status == 400


async def test_unknown_paths_and_units_are_404() -> None:
    async with serving() as served:
        page = await served.ask("/nowhere", headers={"Accept-Language": "fr"})
        assert page.status == 404
        assert "n’existe pas" in page.body.decode()
        assert (await served.ask("/machines/no-such")).status == 404
        unit = await served.ask("/api/machines/no-such")
        assert unit.status == 404
        assert unit.json() == {"error": "no such work unit", "work_units": ["press-07", "packer-02"]}


async def test_language_is_the_query_then_the_browser_then_the_site() -> None:
    async with serving() as served:
        assert 'lang="fr"' in (await served.ask("/")).body.decode()
        assert 'lang="en"' in (await served.ask("/", headers={"Accept-Language": "de, en-GB;q=0.8, fr;q=0.5"})).body.decode()
        assert 'lang="fr"' in (await served.ask("/?lang=fr", headers={"Accept-Language": "en"})).body.decode()
        assert 'lang="fr"' in (await served.ask("/?lang=xx")).body.decode()


def test_accept_language() -> None:
    assert accepted("fr;q=0.2, en;q=0.9") == "en"
    assert accepted("de, it;q=x") is None
    assert accepted("en;q=0") is None
    assert accepted("") is None


async def test_parts_can_be_fetched_alone() -> None:
    async with serving() as served:
        body = (await served.ask("/?lang=en&part=alerts&part=unit.packer-02&part=machine.press-07")).body.decode()
        assert body.count("data-part=") == 2
        assert 'data-part="alerts"' in body
        assert "<html" not in body


async def test_a_gateway_that_starts_is_alive_but_not_ready() -> None:
    async with serving() as served:
        served.show(None)
        assert (await served.ask("/healthz")).status == 200
        assert (await served.ask("/readyz")).status == 503
        starting = await served.ask("/")
        assert starting.status == 503
        assert starting.headers["x-content-type-options"] == "nosniff"
        data = await served.ask("/api/status")
        assert data.status == 503
        assert data.headers["x-content-type-options"] == "nosniff"


async def test_not_ready_while_nothing_can_be_committed() -> None:
    async with serving() as served:
        board = fake_board.board()
        assert (await served.ask("/readyz")).status == 200
        served.show(replace(board, journal=replace(board.journal, committing=False, disk="read_only")))
        answer = await served.ask("/readyz")
        assert answer.status == 503
        assert b"read_only" in answer.body
        assert (await served.ask("/healthz")).status == 200


async def test_a_taken_port_is_a_clear_error() -> None:
    async with serving() as served:
        second = StatusServer(served.server.address, fake_board.board, Metrics(), ManualClock())
        with pytest.raises(ListenError) as raised:
            await second.start()
        assert str(served.server.address) in raised.value.text.fr
        assert "gateway.listen" in raised.value.remedy.en
        await second.stop()


async def test_stop_ends_open_streams() -> None:
    async with serving() as served:
        reader = await served.stream()
        await served.server.stop()
        assert await asyncio.wait_for(_drained(reader), 5)


async def _drained(reader: asyncio.StreamReader) -> bool:
    while await reader.read(4096):
        pass
    return True


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8080", Address("127.0.0.1", 8080)), ("[::1]:80", Address("::1", 80)), ("line-pc-07:0", Address("line-pc-07", 0))],
)
def test_listen(text: str, address: Address) -> None:
    assert parse_listen(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["8080", "127.0.0.1", "host:99999", "a b:80", "[zz]:80", ":80"])
def test_wrong_listen(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_listen(text)


# --- data -------------------------------------------------------------------------------------------------------------

KPI_FIELDS = [
    "planned_s",
    "opening_s",
    "run_s",
    "setup_s",
    "unknown_s",
    "stop_s",
    "stop_count",
    "micro_stop_s",
    "micro_stop_count",
    "slow_s",
    "produced",
    "good",
    "scrap",
    "rework",
    "availability",
    "effectiveness",
    "quality_ratio",
    "oee",
    "trs",
    "trg",
    "tre",
    "loss_cost",
    "degraded",
]


async def test_status_has_the_contracts_shape() -> None:
    async with serving() as served:
        body: Any = (await served.ask("/api/status")).json()
    assert body["at"] == "2026-11-24T09:12:41Z"
    assert body["gateway"]["id"] == "line-pc-07"
    assert {"units", "links", "uplinks", "journal", "alerts", "backlog"} <= body.keys()
    unit = body["units"][0]
    assert (unit["work_unit"], unit["item_state"], unit["fault"], unit["job_order_id"]) == ("press-07", "NotExecuting", 217, "OF-48213")
    assert set(unit["kpi"]) == {"hour", "shift", "job"}
    assert all(field in unit["kpi"]["shift"] for field in KPI_FIELDS)
    assert unit["kpi"]["shift"]["produced"] == 5363
    assert unit["job"]["good"] == 8642
    assert unit["job"]["customer"]["delivery_to"] == "2026-11-24T12:00:00Z"
    assert body["uplinks"][1]["rows"] == 214
    assert body["journal"]["disk"] == "ok"
    assert body["alerts"][0]["text"]["en"].replace("\u00a0", " ") == "erp silent for 41 min, nothing lost."


async def test_the_machine_adds_its_history() -> None:
    async with serving() as served:
        body: Any = (await served.ask("/api/machines/press-07")).json()
    assert body["intervals"][-1] == {
        "from": "2026-11-24T09:01:00Z", "to": None, "kind": "stop", "reason": "overload", "fault": 217, "induced": False,
    }  # fmt: skip
    assert len(body["micro_stops"]) == 23
    assert body["cycles_5min"][0].keys() == {"from", "count", "p10", "p50", "p90"}
    assert body["stop_reasons"][0]["text"] == {"fr": "changement d’outil", "en": "tool change"}
    assert body["late_count"] == 262
    assert body["tags"][-1] == {
        "tag": "bearing_temp", "value": None, "quality": "bad", "unit": "CEL", "at": "2026-11-24T08:44:00Z", "detail": "BadDeviceFailure",
    }  # fmt: skip
    assert body["remedy"]["fr"] == "Voir la fiche du défaut."
    assert [job["job_order_id"] for job in body["queue"]] == ["OF-48220", "OF-48231"]


async def test_orders_and_availability() -> None:
    async with serving() as served:
        orders: Any = (await served.ask("/api/orders")).json()
        availability: Any = (await served.ask("/api/availability")).json()
    assert [(order["work_unit"], order["job_order_id"], order["rank"]) for order in orders["orders"]] == [
        ("press-07", "OF-48213", 0), ("press-07", "OF-48220", 1), ("press-07", "OF-48231", 2), ("press-07", "OF-48199", None),
        ("packer-02", "OF-48190", 0),
    ]  # fmt: skip
    press = availability["units"][0]
    assert press["free_from"] == "2026-11-25T11:40:00Z"
    assert press["load"][1] == {"date": "2026-11-25", "required_s": 28800.0, "booked_s": 4500.0}
    assert [job["job_order_id"] for job in press["queue"]] == ["OF-48213", "OF-48220", "OF-48231"]


async def test_nulls_stay_null() -> None:
    async with serving(fake_board.nulls) as served:
        body: Any = (await served.ask("/api/status")).json()
    assert body["units"][0]["kpi"]["shift"]["oee"] is None
    assert body["units"][0]["job"] is None
    assert body["units"][0]["quality"] == "bad"
    assert body["backlog"] == {"rows": 0, "bytes": 0, "hours_left": None}


# --- stream -----------------------------------------------------------------------------------------------------------


class Events:
    """Reads server-sent events out of a chunked body."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._text = ""

    async def next(self) -> tuple[str, Any]:
        while "\n\n" not in self._text:
            size = int(await asyncio.wait_for(self._reader.readline(), 5), 16)
            self._text += (await self._reader.readexactly(size + 2))[:-2].decode()
        event, _, self._text = self._text.partition("\n\n")
        name, data = event.split("\n")
        return name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))

    async def quiet(self) -> bool:
        try:
            return not await asyncio.wait_for(self._reader.readline(), 0.05)
        except TimeoutError:
            return True


async def test_the_stream_beats_and_names_what_changed() -> None:
    async with serving() as served:
        events = Events(await served.stream())
        assert (await events.next())[0] == "beat"
        await served.clock.advance(1)
        name, changed = await events.next()
        assert name == "changed"
        assert {"top", "alerts", "flow", "orders", "unit.press-07", "machine.packer-02"} <= set(changed)
        await served.clock.advance(1)
        assert await events.quiet()
        board = fake_board.board()
        served.show(replace(board, journal=replace(board.journal, bytes=42_000_000)))
        await served.clock.advance(1)
        assert await events.next() == ("changed", ["flow", "journal"])
        await served.clock.advance(5)
        name, beat = await events.next()
        assert name == "beat"
        assert beat["at"].startswith("2026-11-24T09:12:4")


async def test_changes_of_one_second_are_told_together() -> None:
    async with serving() as served:
        events = Events(await served.stream())
        await events.next()
        await served.clock.advance(1)
        await events.next()
        board = fake_board.board()
        for count in range(20):
            served.show(replace(board, readings_per_s=float(count), events=board.events[count % 3 :]))
        await served.clock.advance(1)
        assert await events.next() == ("changed", ["flow", "journal"])
        assert await events.quiet()


async def test_readers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.status.stream.MAX_READERS", 2)
    async with serving() as served:
        await served.stream()
        await served.stream()
        assert (await served.ask("/api/stream")).status == 503
