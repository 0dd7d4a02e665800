"""`lineside erp orders` and the rights of `check --connect`: what an ERP would give and what it does not allow, with nothing changed."""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.__main__ import main
from gateway.cli import connect, erp
from gateway.cli.errors import CommandError
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.domain.events import Text
from gateway.domain.inbound import Refusal
from gateway.domain.job_order import Customer, JobOrder, Problem
from gateway.outbox.statedir import DATABASE
from gateway.outbox.store import Store
from gateway.seams import UplinkError
from gateway.uplink.erp import ports
from gateway.uplink.erp.port import Listing, Plan, PlanState, Right
from gateway.uplink.erp.settings import BookingSettings
from tests.cli.test_connect import plant, tried
from tests.uplink.erp_server import Erp

ORDER = {
    "command": "StoreAndStart",
    "command_id": "c-1",
    "work_unit": "m-1",
    "issued_at": "2026-11-25T06:00:00Z",
    "job_order": {
        "job_order_id": "OF-1", "product_id": "PF-100", "quantity": 500, "end_time": "2026-11-26T06:00:00Z",
        "customer": {"name": "Dupont SA", "delivery_to": "2026-11-27T12:00:00Z"},
    },
}  # fmt: skip


@pytest.fixture
async def server() -> AsyncIterator[Erp]:
    made = Erp()
    await made.start()
    yield made
    await made.stop()


async def asked(folder: Path, url: str, *options: str) -> int:
    """The command as it is called, beside the server of this test."""
    plant(folder, f"{{erp: {{type: http, url: '{url}', token: {{file: secret}}}}}}")
    (config,) = folder.glob("*.yaml")
    return await asyncio.to_thread(main, ["erp", "orders", str(config), "erp", *options])


# -- over HTTP


@pytest.mark.slow
async def test_orders_are_listed_with_what_the_line_would_not_take(tmp_path: Path, server: Erp, capsys: pytest.CaptureFixture[str]) -> None:
    server.orders = [
        ORDER,
        {**ORDER, "command_id": "c-2", "work_unit": "m-2"},
        {**ORDER, "command_id": "c-3", "command": "Explode"},
        {"command": "DeclareProduction", "command_id": "c-4", "work_unit": "m-1", "at": "2026-11-25T06:00:00Z", "good": 3},
    ]
    assert await asked(tmp_path, server.url, "--state-dir", str(tmp_path / "none")) == 0
    out, err = capsys.readouterr()
    head, *rows, sum_ = out.splitlines()
    assert head.split() == ["wish", "work", "unit", "order", "product", "quantity", "due", "customer"]
    assert rows[0].split() == ["StoreAndStart", "m-1", "OF-1", "PF-100", "500", "C62", "2026-11-27T12:00:00Z", "Dupont", "SA"]
    assert rows[1].endswith("NOT TAKEN: there is no work unit m-2 here; did you mean `m-1`?")
    assert "NOT TAKEN: command: there is no 'Explode'" in rows[2]
    assert rows[3].split()[:2] == ["DeclareProduction", "m-1"]
    assert sum_ == "erp: 4 orders, 2 of them not for this line"
    assert "no journal in" in err
    assert [poll.get("after") for poll in server.polls] == [None, "2", "4"], "all of them, as the daemon would ask"
    assert server.posts == []


@pytest.mark.slow
async def test_only_what_is_new_to_the_gateway_is_listed_and_its_cursor_stays(
    tmp_path: Path, server: Erp, capsys: pytest.CaptureFixture[str]
) -> None:
    server.orders = [{**ORDER, "command_id": f"c-{number}", "job_order": {"job_order_id": f"OF-{number}"}} for number in range(3)]
    state = tmp_path / "state"
    await with_cursor(state, "2")
    for _ in range(2):
        assert await asked(tmp_path, server.url, "--json", "--state-dir", str(state)) == 0
        (line,) = capsys.readouterr().out.splitlines()
        offer = json.loads(line)
        assert (offer["wish"], offer["job_order"]["job_order_id"], offer["problem"]) == ("StoreAndStart", "OF-2", None)
    assert server.polls[0] == {"gateway": "gw", "after": "2"}
    assert await asked(tmp_path, server.url, "--all", "--json", "--state-dir", str(state)) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    server.orders = server.orders[:2]
    assert await asked(tmp_path, server.url, "--state-dir", str(state)) == 0
    assert capsys.readouterr().out == "erp: no order that the gateway has not taken\n"


async def with_cursor(state: Path, cursor: str) -> None:
    """A journal that has taken the orders up to there."""
    state.mkdir()
    store = await Store.open(state, uplinks=["erp"], clock=SystemClock())
    await store.close()
    with closing(sqlite3.connect(state / DATABASE)) as journal, journal:
        journal.execute("INSERT INTO order_cursors VALUES ('erp', ?)", (cursor,))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "text", "said"),
    [(401, "", "Check the access token"), (200, "<html>", "Tell the ERP's administrator"), (503, "", "check its address, that it runs")],
)
async def test_an_erp_that_gives_no_orders_is_told_with_what_to_do(
    tmp_path: Path, server: Erp, capsys: pytest.CaptureFixture[str], status: int, text: str, said: str
) -> None:
    server.fault = lambda method, count: web.Response(status=status, text=text)
    assert await asked(tmp_path, server.url) == 1
    err = capsys.readouterr().err
    assert err.startswith("erp gives no orders: ")
    assert said in err
    assert "expert: " in err


def test_a_name_that_is_no_erp_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(tmp_path, "{plant: {type: mqtt, urls: ['mqtt://127.0.0.1']}}")
    (config,) = tmp_path.glob("*.yaml")
    assert main(["erp", "orders", str(config), "plan"]) == 2
    assert "did you mean `plant`?" in capsys.readouterr().err
    assert main(["erp", "orders", str(config), "plant"]) == 2
    assert "plant is a broker" in capsys.readouterr().err


@pytest.mark.slow
async def test_each_right_of_an_erp_over_http_is_tried_and_nothing_is_booked(tmp_path: Path, server: Erp) -> None:
    uplink = f"{{erp: {{type: http, url: '{server.url}', token: {{file: secret}}}}}}"
    server.fault = lambda method, count: web.Response(status=403) if method == "GET" else None
    (trial,) = await tried(tmp_path, uplink)
    assert not trial.works
    assert trial.told == "1 of 2 rights missing; grant them to this user in the ERP"
    assert trial.details == ("missing: GET work-schedule: the ERP answers 403, it knows this user and lets it read no orders",)
    server.fault = lambda method, count: None
    server.options = web.Response(status=200, headers={"Allow": "GET, HEAD"})
    (trial,) = await tried(tmp_path, uplink)
    assert trial.details == ("missing: POST work-performance: the ERP takes only GET, HEAD there",)
    server.options = web.Response(status=501)
    (trial,) = await tried(tmp_path, uplink)
    assert trial.works
    assert "is untried, it would book something (OPTIONS was answered 501)" in trial.details[0]
    server.hangs_up_on_options = True
    (trial,) = await tried(tmp_path, uplink)
    assert trial.works
    assert "(OPTIONS was not answered: " in trial.details[0]
    assert server.posts == []


# -- behind the port


class FakeSettings(BookingSettings):
    type: str = "fake"

    @property
    def peer(self) -> str:
        return "Fake erp:1"


class FakePort:
    """Notes what is asked of it; everything but looking fails the test."""

    def __init__(self, listing: Listing, rights: Sequence[Right] = (), *, is_there: bool = True) -> None:
        self.peer = "Fake erp:1"
        self.asked: list[Any] = []
        self._listing = listing
        self._rights = rights
        self._is_there = is_there

    async def connect(self) -> None:
        self.asked.append("connect")
        if not self._is_there:
            raise UplinkError("refused", remedy=Text("Démarrer l'ERP.", "Start the ERP."))

    async def disconnect(self) -> None:
        self.asked.append("disconnect")

    async def list_orders(self, known: Mapping[str, str]) -> Listing:
        self.asked.append(dict(known))
        return self._listing

    async def rights(self) -> Sequence[Right]:
        self.asked.append("rights")
        return self._rights


PLANS = Listing(
    (
        Plan("17", "r2", PlanState.RELEASED, "m-1", JobOrder("OF-17", quantity=Decimal(5), end_time=datetime(2026, 11, 26, tzinfo=UTC))),
        Plan("18", "r1", PlanState.FORECAST, "m-1", JobOrder("OF-18", customer=Customer(name="Dupont"))),
    ),
    is_complete=True,
    refusals=(Refusal(None, None, 4, Problem("invalid_field", "orders.csv line 3: quantity is no number")),),
)


def with_port(folder: Path, monkeypatch: pytest.MonkeyPatch, port: FakePort) -> Config:
    monkeypatch.setitem(ports.ERP_PORTS, "fake", lambda name, settings, around: port)
    return replace(plant(folder, "{}"), uplinks={"erp": FakeSettings()})


def listed(config: Config, monkeypatch: pytest.MonkeyPatch, folder: Path, **options: Any) -> int:
    monkeypatch.setattr(erp, "load", lambda path: config)
    return erp.run(argparse.Namespace(**{"config": folder, "name": "erp", "all": False, "json": False, "state_dir": folder, **options}))


def test_plans_of_an_erp_behind_the_port_are_listed_and_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = FakePort(PLANS)
    config = with_port(tmp_path, monkeypatch, port)
    cursor = json.dumps({"v": 1, "orders": {"18": ["OF-18", "m-1", "r1", "forecast", "d", None, 0]}})
    monkeypatch.setattr(erp, "_cursor", lambda state_dir, uplink: (cursor, ""))
    assert listed(config, monkeypatch, tmp_path) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["released", "m-1", "OF-17", "-", "5", "C62", "2026-11-26T00:00:00Z", "-"]
    assert "NOT TAKEN: orders.csv line 3: quantity is no number" in out
    assert "OF-18" not in out
    assert listed(config, monkeypatch, tmp_path, all=True) == 0
    assert "taken already" in capsys.readouterr().out
    assert port.asked[:3] == ["connect", {"18": "r1"}, "disconnect"]


def test_an_erp_behind_the_port_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = FakePort(PLANS, is_there=False)
    with pytest.raises(CommandError) as caught:
        listed(with_port(tmp_path, monkeypatch, port), monkeypatch, tmp_path)
    assert caught.value.sentence == "erp gives no orders: Start the ERP."
    assert caught.value.status == 1
    assert port.asked == ["connect", "disconnect"]


async def test_each_right_behind_the_port_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = FakePort(PLANS, [Right("read production"), Right("write production", 'You are not allowed to modify "Production"')])
    config = with_port(tmp_path, monkeypatch, port)
    *_, trial = await connect.try_links(config)
    assert str(trial).splitlines() == [
        "FAILED    erp: Fake erp:1: 1 of 2 rights missing; grant them to this user in the ERP",
        '            missing: write production: You are not allowed to modify "Production"',
    ]
    port = FakePort(PLANS, [Right("read production"), Right("write production")])
    *_, trial = await connect.try_links(with_port(tmp_path, monkeypatch, port))
    assert str(trial) == "connected erp: Fake erp:1: all rights there (read production, write production)"
    assert port.asked == ["connect", "rights", "disconnect"]


async def test_order_files_are_listed_and_stay_where_they_lie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("in", "archive", "error", "out"):
        (tmp_path / folder).mkdir()
    lying = tmp_path / "in/orders.csv"
    lying.write_text("job_order_id;work_unit;quantity;state\nOF-1;m-1;10;released\nOF-2;m-9;10;released\n")
    before = lying.stat()
    plant(tmp_path, "{erp: {type: files, inbox: in, archive: archive, error: error, outbox: out, format: csv, settle: 10ms}}")
    (config,) = tmp_path.glob("*.yaml")
    for _ in range(2):
        assert await asyncio.to_thread(main, ["erp", "orders", str(config), "erp", "--state-dir", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        assert out.splitlines()[1].split()[:3] == ["released", "m-1", "OF-1"]
        assert "NOT TAKEN: orders.csv: line 3" in out
    left = [path.name for folder in ("in", "archive", "error", "out") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert left == ["orders.csv"]
    assert (lying.stat().st_mtime_ns, lying.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
