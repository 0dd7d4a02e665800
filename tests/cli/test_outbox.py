"""`lineside outbox`: list, show, requeue, drop, export; in the place of a gateway that is down, and by one that runs."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.clock import SystemClock
from gateway.outbox.forwarder import Forwarder
from gateway.outbox.requests import Requests
from gateway.outbox.statedir import DATABASE
from gateway.outbox.transaction import PARKED, QUARANTINED
from tests.outbox.journal import counted, journal
from tests.outbox.test_forwarder import Peer
from tests.uplink.doubles import Alerts

CONFIG = """
gateway: {id: line-pc-07, enterprise: acme, site: lyon, time_zone: Europe/Paris, language: en}
devices:
  plc: {driver: modbus, url: "tcp://192.0.2.1:502", tags: {run: {discrete: 0}, parts: {holding: 0, type: uint32}}}
work_units:
  press-07: {area: hall, work_center: line-3, device: plc, ideal_cycle_time: 1s, state: {from: bits, running: run}, counts: {total: parts}}
uplinks:
  plant: {type: mqtt, urls: ["mqtt://127.0.0.1:1883"]}
  erp: {type: http, url: "http://127.0.0.1:9/lineside"}
"""


async def stored(state_dir: Path) -> str:
    """Five rows: plant has four of them and refused one, the ERP has two and refused two. -> the epoch."""
    async with journal(state_dir, uplinks=("plant", "erp")) as j:
        j.recorder.record([counted(n) for n in range(1, 6)])
        await j.settle()
        j.recorder.advance("plant", 5)
        j.recorder.park("plant", 3, "0x87 not authorized", QUARANTINED)
        j.recorder.advance("erp", 4)
        j.recorder.park("erp", 2, "422 unknown order", PARKED)
        j.recorder.park("erp", 3, "422 unknown order", PARKED)
        await j.settle()
        return j.store.epoch


@pytest.fixture
def site(tmp_path: Path) -> tuple[list[str], Path, str]:
    """Arguments that every command takes, the state directory and the id of row N without N."""
    (tmp_path / "lineside.yaml").write_text(CONFIG)
    state_dir = tmp_path / "state"
    epoch = asyncio.run(stored(state_dir))
    return ["-c", str(tmp_path / "lineside.yaml"), "--state-dir", str(state_dir)], state_dir, f"line-pc-07:{epoch}:"


def exceptions(state_dir: Path) -> list[tuple[str, int, str]]:
    with closing(sqlite3.connect(state_dir / DATABASE)) as connection:
        return connection.execute("SELECT uplink, position, state FROM exceptions ORDER BY uplink, position").fetchall()


def dropped(state_dir: Path) -> list[dict[str, object]]:
    with closing(sqlite3.connect(state_dir / DATABASE)) as connection:
        rows = connection.execute("SELECT body FROM journal WHERE type = 'row.dropped' ORDER BY position").fetchall()
    return [json.loads(body)["data"] for (body,) in rows]


def test_list_tells_what_waits_and_what_was_refused(site: tuple[list[str], Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    where, _, row = site
    assert main(["outbox", "list", *where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "plant: 0 rows (0 bytes) wait; 1 refused"
    assert lines[1].split() == [
        "quarantined",
        f"{row}3",
        "2026-11-25",
        "06:00:00",
        "press-07",
        "quantity.counted",
        "0x87",
        "not",
        "authorized",
    ]
    assert lines[2].startswith("erp: 1 rows (")
    assert "the oldest of 2026-11-25 06:00:00 UTC; 2 refused" in lines[2]
    assert [line.split()[:2] for line in lines[3:]] == [["parked", f"{row}2"], ["parked", f"{row}3"], ["pending", f"{row}5"]]
    assert main(["outbox", "list", *where, "--uplink", "erp", "--limit", "0", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["id"], r["state"]) for r in found] == [(f"{row}2", "parked"), (f"{row}3", "parked")]


def test_show_prints_the_message_and_where_it_stands(site: tuple[list[str], Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    where, _, row = site
    assert main(["outbox", "show", f"{row}3", *where]) == 0
    plant, erp, *body = capsys.readouterr().out.splitlines()
    assert (plant, erp) == ("plant: quarantined, 0x87 not authorized", "erp: parked, 422 unknown order")
    assert json.loads("\n".join(body))["id"] == f"{row}3"


def test_export_is_one_event_a_line(site: tuple[list[str], Path, str], tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    where, _, row = site
    assert main(["outbox", "export", *where, "--uplink", "erp"]) == 0
    assert [json.loads(line)["id"] for line in capsysbinary.readouterr().out.splitlines()] == [f"{row}{n}" for n in (2, 3, 5)]
    assert main(["outbox", "export", *where, "--everything", "--output", str(tmp_path / "rows.jsonl")]) == 0
    assert len((tmp_path / "rows.jsonl").read_bytes().splitlines()) == 5


def test_requeue_without_a_gateway(site: tuple[list[str], Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    where, state_dir, row = site
    assert main(["outbox", "requeue", f"{row}2", *where]) == 0
    assert exceptions(state_dir) == [("erp", 2, "quarantined"), ("erp", 3, "parked"), ("plant", 3, "quarantined")]
    assert main(["outbox", "requeue", "--all", *where, "--uplink", "erp"]) == 0
    assert exceptions(state_dir)[1] == ("erp", 3, "quarantined")
    capsys.readouterr()
    assert main(["outbox", "requeue", f"{row}1", *where]) == 1
    assert "left as it is" in capsys.readouterr().err


def test_drop_asks_and_is_written_into_the_ledger(
    site: tuple[list[str], Path, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where, state_dir, row = site
    monkeypatch.setenv("SUDO_USER", "anna")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["outbox", "drop", f"{row}2", *where]) == 2
    assert "say --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(["outbox", "drop", f"{row}2", *where]) == 1
    assert len(exceptions(state_dir)) == 3
    monkeypatch.setattr("sys.stdin", io.StringIO("oui\n"))
    assert main(["outbox", "drop", f"{row}2", *where, "--reason", "booked by hand"]) == 0
    assert exceptions(state_dir) == [("erp", 3, "parked"), ("plant", 3, "quarantined")]
    assert dropped(state_dir) == [{"uplink": "erp", "id": f"{row}2", "sequence": 2, "reason": "booked by hand", "by": "anna"}]
    assert main(["outbox", "drop", "--all", "--yes", *where]) == 0
    assert exceptions(state_dir) == []
    assert [(d["uplink"], d["sequence"]) for d in dropped(state_dir)[1:]] == [("plant", 3), ("erp", 3)]
    assert main(["outbox", "drop", f"{row}5", "--yes", *where]) == 0
    assert exceptions(state_dir) == [("erp", 5, "delivered")]


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["show", "x"], 1, "the journal has no row x"),
        (["requeue"], 2, "name rows by their ids, or say --all"),
        (["requeue", "--all", "x"], 2, "name rows by their ids, or say --all"),
        (["drop", "g:e1:4", "--yes"], 1, "the journal has no row g:e1:4"),
        (["list", "--uplink", "mes"], 2, "there is no uplink mes; the configuration has plant, erp"),
        (["export", "--output", "/nowhere/rows"], 2, "cannot be written"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    site: tuple[list[str], Path, str], capsys: pytest.CaptureFixture[str], words: list[str], status: int, sentence: str
) -> None:
    assert main(["outbox", *words, *site[0]]) == status
    assert sentence in capsys.readouterr().err


def test_a_directory_without_a_journal_and_one_of_another_account(
    site: tuple[list[str], Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where, _, row = site
    assert main(["outbox", "list", *where[:2], "--state-dir", str(tmp_path)]) == 2
    assert "there is no journal in" in capsys.readouterr().err
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert main(["outbox", "requeue", f"{row}2", *where]) == 2
    assert "run this command as that account" in capsys.readouterr().err


@pytest.mark.slow
def test_a_running_gateway_does_it(site: tuple[list[str], Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    where, state_dir, row = site
    peer = Peer(name="erp")

    async def gateway(ask: Callable[[], None]) -> None:
        async with journal(state_dir, uplinks=("plant", "erp")) as j:
            clock = SystemClock()
            forwarder = Forwarder(
                peer, reader=j.store, writer=j.recorder, clock=clock, metrics=j.metrics, alerts=Alerts(), on_link=lambda status: None
            )
            requests = Requests(state_dir, {"erp": forwarder}, j.store, j.recorder.committed, clock)
            tasks = [asyncio.create_task(part.run()) for part in (forwarder, requests)]
            asking = asyncio.ensure_future(asyncio.to_thread(ask))
            await j.until(asking.done)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            asking.result()

    def ask() -> None:
        assert main(["outbox", "requeue", f"{row}2", *where]) == 0
        assert main(["outbox", "drop", f"{row}3", "--uplink", "erp", "--yes", *where]) == 0

    asyncio.run(gateway(ask))
    assert "1 rows are tried again" in capsys.readouterr().out
    assert peer.got == [5, 2]
    assert [d["sequence"] for d in dropped(state_dir)] == [3]
    assert [found for found in exceptions(state_dir) if found[0] == "erp"] == []
    assert list((state_dir / "requests").iterdir()) == []
