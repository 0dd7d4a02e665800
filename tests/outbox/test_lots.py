"""Genealogy in the journal: both ways, through several machines, after restarts, by any name, for ten years."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from gateway.domain.equipment import Counter, Counts
from gateway.domain.instants import SECOND, Instant, instant
from gateway.domain.job_order import Customer, JobOrder, MaterialRequirement, QualityRequirement
from gateway.domain.trace import Trace, trace_body
from gateway.outbox import lots
from gateway.outbox.lots import LotHistory
from gateway.outbox.migrate import migrate, migrations
from gateway.outbox.retention import prune
from gateway.outbox.session import open_writer
from gateway.outbox.settings import JournalSettings
from gateway.outbox.statedir import DATABASE
from gateway.outbox.transaction import Batch, write
from tests.app.remembered import site
from tests.domain.post import Post, at, unit

D = Decimal
DAY = 86_400 * SECOND


def saved(connection: sqlite3.Connection, *posts: Post) -> None:
    """As the recorder's next commit."""
    write(connection, Batch(snapshots={post.unit.name: post.saved()[0] for post in posts}), total_bytes=0, recorded_at=instant(at(0)))


def press() -> Post:
    """LOT-1 for Dupont of sheet S1 and S2, then LOT-2 of the same order of S2, with a reject counted after the change of lot."""
    post = Post(unit(name="press-07", counts=Counts(total=Counter("parts"), reject=Counter("rejects"))))
    post.read(0, running=1, parts=0, rejects=0)
    order = JobOrder(
        "OF-1", product_id="PF-1", lot_id="LOT-1", order_id="PO-7", customer=Customer("Dupont", order_number="CO-9", order_line="10"),
        material_requirements=(MaterialRequirement("sheet", D("0.5"), "KGM"),),
        quality_requirements=(QualityRequirement("bore", "MMT", D("11.98"), D(12), D("12.02"), "Dupont"),),
    )  # fmt: skip
    post.order(0, "StoreAndStart", order)
    post.fact(1, "LoadLot", material_id="sheet", lot_id="S1", quantity=D(100), unit="KGM")
    post.fact(20, "RecordQuality", characteristic="bore", value=D("12.5"))
    post.read(100, parts=10, rejects=1)
    post.fact(110, "DeclareSerial", serial="SN-10", by="Ana")
    post.fact(120, "LoadLot", material_id="sheet", lot_id="S2")
    post.read(200, parts=20, rejects=1)
    post.read(210, running=0, fault=12)
    post.read(600, running=1, fault=0)
    return post


def second_lot(post: Post) -> None:
    post.fact(610, "StartLot", lot_id="LOT-2")
    post.fact(620, "RecordQuality", characteristic="bore", value=D(12))
    post.read(700, parts=30, rejects=2)
    post.order(710, "Stop")


def packer() -> Post:
    """Packs LOT-1 into boxes, on another machine and without an order."""
    post = Post(unit(name="packer-02", product_lot_tag="box"))
    post.read(1000, running=1, parts=0, box=0)
    post.fact(1001, "LoadLot", material_id="PF-1", lot_id="LOT-1")
    post.read(1002, box="BOX-1")
    post.read(1020, parts=5)
    post.read(1040, box="BOX-2", parts=6)
    post.read(1060, parts=9)
    return post


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return traced_site(tmp_path_factory.mktemp("lots"))


def traced_site(folder: Path) -> Path:
    """The journal of both machines, over a restart in the middle of the order."""
    with closing(open_writer(folder / DATABASE)) as connection:
        migrate(connection)
        first = press()
        saved(connection, first)
        later = first.restarted(lost=False)
        second_lot(later)
        saved(connection, later, packer())
    return folder


def traced(state_dir: Path, name: str) -> Trace:
    with closing(LotHistory.open(state_dir)) as history:
        return history.trace(name)


def body(state_dir: Path, name: str) -> dict[str, Any]:
    return trace_body(traced(state_dir, name))


def test_a_produced_lot_leads_to_material_results_states_order_and_customer(state_dir: Path) -> None:
    found = body(state_dir, "LOT-1")
    assert found["found_as"] == ("material_lot", "product_lot")
    (made,) = found["made"]
    assert (made["work_unit"], made["job_order_id"], made["order_id"], made["product_id"]) == ("press-07", "OF-1", "PO-7", "PF-1")
    assert (made["customer"], made["order_number"], made["order_line"]) == ("Dupont", "CO-9", "10")
    assert (made["from"], made["produced"], made["good"], made["scrap"]) == (at(0), 20, 19, 1)
    assert [(m["material_id"], m["lot_id"], m["quantity"]) for m in made["materials"]] == [("sheet", "S1", 5), ("sheet", "S2", 5)]
    assert (made["quality"]["bore"]["fail"], made["quality"]["bore"]["required_by"]) == (1, "Dupont")
    assert made["quality"]["bore"]["fails"] == [{"at": at(20), "value": D("12.5")}]
    assert made["serial_count"] == 1
    (box_1, box_2) = found["used_in"]
    assert {lot["product_lot_id"] for lot in (box_1, box_2)} == {"BOX-1", "BOX-2"}
    assert box_1["materials"] == [
        {"material_id": "PF-1", "lot_id": "LOT-1", "quantity": None, "unit": None, "mode": "loaded", "from": at(1002), "to": at(1002)}
    ]


def test_states_and_stops_are_those_of_the_lots_own_time(state_dir: Path) -> None:
    (made,) = body(state_dir, "LOT-2")["made"]
    assert (made["from"], made["to"], made["produced"], made["scrap"]) == (at(610), at(700), 10, 1)
    assert made["states"] == {"run_s": 90.0}
    assert made["stops"] == []
    assert [(m["lot_id"], m["quantity"]) for m in made["materials"]] == [("S2", 5)]
    order = body(state_dir, "OF-1")["made"]
    assert sum(lot["produced"] for lot in order) == 30


def test_a_material_lot_leads_to_the_lots_it_went_into_and_on_from_there(state_dir: Path) -> None:
    found = traced(state_dir, "S2")
    assert found.found_as == ("material_lot",)
    assert found.made == ()
    assert sorted(str(lot.row.product_lot_id) for lot in found.used_in) == ["LOT-1", "LOT-2"]
    assert sorted(str(lot.row.product_lot_id) for lot in found.went_into) == ["BOX-1", "BOX-2"]
    box = traced(state_dir, "BOX-1")
    assert [lot.row.product_lot_id for lot in box.made_of] == ["LOT-1"]
    assert box.made[0].row.produced == 6, "what a reading counts was made before the new number stood there"


def test_a_serial_number_keeps_the_lots_of_its_moment(state_dir: Path) -> None:
    found = body(state_dir, "SN-10")
    assert found["found_as"] == ("serial",)
    (serial,) = found["serials"]
    assert (serial["product_lot_id"], serial["materials"], serial["by"]) == ("LOT-1", [["sheet", "S1"]], "Ana")
    assert [lot["product_lot_id"] for lot in found["made"]] == ["LOT-1"]
    assert [s["serial"] for s in body(state_dir, "S1")["serials"]] == ["SN-10"]


def test_a_name_that_nobody_knows_finds_nothing(state_dir: Path) -> None:
    assert traced(state_dir, "lot-1").found_as == ()


def test_a_correction_reaches_the_row_of_its_lot_after_a_restart(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        migrate(connection)
        post = press()
        second_lot(post)
        saved(connection, post)
        again = post.restarted()
        saved(connection, again)
        assert again.fact(800, "DeclareScrap", 100, job_order_id="OF-1", quantity=D(25)).accepted
        assert again.fact(810, "CancelQuality", characteristic="bore").accepted
        saved(connection, again)
    order = {lot["product_lot_id"]: lot for lot in body(tmp_path, "PO-7")["made"]}
    assert sum(lot["scrap"] for lot in order.values()) == 27
    assert sum(lot["good"] for lot in order.values()) == 3
    assert [lot["quality"]["bore"]["pass"] for lot in order.values() if lot["quality"]] == [0, 0]


def test_a_lot_is_kept_when_the_rest_of_the_history_is_gone_and_not_for_ever(tmp_path: Path) -> None:
    path = tmp_path / DATABASE
    with closing(open_writer(path)) as connection:
        migrate(connection)
        post = press()
        second_lot(post)
        saved(connection, post)

        def pruned(now: Instant) -> int:
            return prune(connection, path, JournalSettings(), now, 0).history

        assert pruned(instant(at(0)) + 500 * DAY) > 0
        (made,) = body(tmp_path, "LOT-1")["made"]
        assert (made["states"], made["customer"]) == ({}, "Dupont")
        assert pruned(instant(at(0)) + 3649 * DAY) == 0
        assert pruned(instant(at(0)) + 3651 * DAY) == 3
        assert connection.execute("SELECT count(*) FROM lot_names").fetchone() == (0,)
    assert traced(tmp_path, "LOT-1").found_as == ()


def test_every_question_and_every_pruning_walks_an_index(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        migrate(connection)

        def plan(sql: str, *values: object) -> str:
            return "; ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values))

        named = plan(lots.NAMED, "LOT-1", 10)
        assert "SEARCH n USING PRIMARY KEY (name=?)" in named
        assert "SEARCH r USING INDEX sqlite_autoindex_records_1 (work_unit=? AND kind=? AND key=?)" in named
        old = "SELECT rowid FROM records WHERE at < ? AND kind {} ('lot', 'serial') ORDER BY at LIMIT ?"
        assert "INDEX lots_by_age (at<?)" in plan(old.format("IN"), 0, 1)
        assert "INDEX records_by_age (at<?)" in plan(old.format("NOT IN"), 0, 1)


def test_a_journal_of_the_version_before_is_brought_to_this_one(tmp_path: Path) -> None:
    """A database as the first schema made it, with a machine in the middle of an order and nothing about lots."""
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        assert migrate(connection, migrations()[:1]) == (0, 1)
        post = press()
        snapshot = post.tracker.snapshot()
        state = json.loads(snapshot.state)
        for name in ("genealogy", "results", "shortage", "sampling", "actions"):
            del state["production"][name]
        state["production"]["lots"] = [row[:6] for row in state["production"]["lots"]]
        state["production"]["material"]["lots"] = {m: [r[:4] for r in rows] for m, rows in state["production"]["material"]["lots"].items()}
        records = []
        for record in snapshot.records:
            if record.kind not in ("lot", "serial"):
                row = json.loads(record.body)
                if record.kind == "job":
                    row = {key: value for key, value in row.items() if key not in ("quality", "summaries")}
                    for requirement in row["order"]["quality_requirements"]:
                        for key in ("every_pieces", "every_s", "on_fail"):
                            del requirement[key]
                records.append((record, json.dumps(row).encode()))
        connection.executemany(
            "INSERT INTO records (work_unit, kind, key, at, body) VALUES (?, ?, ?, ?, ?)",
            [("press-07", r.kind, r.key, instant(r.at), body) for r, body in records],
        )
        assert migrate(connection) == (1, len(migrations()))
        old = Post(post.unit)
        old.tracker.restore(
            type(snapshot)(snapshot.work_unit, snapshot.version, json.dumps(state).encode()),
            [type(r)(r.kind, r.key, r.at, body) for r, body in records], lost=False,
        )  # fmt: skip
        second_lot(old)
        saved(connection, old)
    found = body(tmp_path, "LOT-2")
    assert (found["made"][0]["produced"], found["made"][0]["customer"]) == (10, "Dupont")
    assert [(m["lot_id"], m["quantity"]) for m in found["made"][0]["materials"]] == [("S2", D(5))]


def test_pieces_that_a_person_takes_back_leave_the_lots_that_they_were_counted_in(tmp_path: Path) -> None:
    post = Post(unit(name="press-07"))
    post.read(0, running=1, parts=0)
    post.order(0, "StoreAndStart", JobOrder("OF-1", lot_id="LOT-1"))
    post.read(100, parts=10)
    post.fact(110, "StartLot", lot_id="LOT-2")
    post.read(200, parts=15)
    assert post.fact(210, "DeclareProduction", good=D(-12)).accepted
    assert {d["product_lot_id"]: d["produced"] for d in post.data("quantity.counted")[-2:]} == {"LOT-2": -5, "LOT-1": -7}
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        migrate(connection)
        saved(connection, post)
    assert [traced(tmp_path, name).made[0].row.produced for name in ("LOT-1", "LOT-2")] == [3, 0]


def test_what_is_told_late_of_an_order_that_is_over_stays_no_longer_than_the_rest() -> None:
    post = press()
    post.order(700, "Stop")
    post.saved()
    again = post.restarted(lost=False)
    assert again.fact(800, "DeclareScrap", about=150, job_order_id="OF-1", quantity=D(1)).accepted
    snapshot, _ = again.saved()
    assert [row.at.year for row in snapshot.records if row.kind == "lot"] == [2026]


def test_without_a_journal_nothing_waits_to_be_written() -> None:
    post = press()
    post.tracker.forget_records()
    assert [row.kind for row in post.tracker.snapshot().records if row.kind in ("lot", "serial")] == []


# --- the command -----------------------------------------------------------------------------------------------------


def test_one_command_answers_a_complaint(state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["-c", str(site(tmp_path)), "--state-dir", str(state_dir)]
    assert main(["trace", "LOT-1", *where]) == 0
    said = capsys.readouterr().out
    for words in (
        "LOT-1: material lot, produced lot",
        "customer Dupont CO-9 10",
        "material sheet · S1 5 KGM",
        "check bore [Dupont]: 1 (1 failed)",
    ):
        assert words in said, said
    assert main(["trace", "S2", "--json", *where]) == 0
    assert {lot["product_lot_id"] for lot in json.loads(capsys.readouterr().out)["used_in"]} == {"LOT-1", "LOT-2"}
    assert main(["trace", "LOT-9", "-c", str(site(tmp_path, language="fr")), "--state-dir", str(state_dir)]) == 1
    assert "Aucun lot, numéro de série ou OF LOT-9" in capsys.readouterr().err
    assert main(["trace", "LOT-1", "-c", str(site(tmp_path)), "--state-dir", str(tmp_path / "nowhere")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_it_reads_beside_the_one_who_writes(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        migrate(connection)
        saved(connection, press())
        connection.execute("BEGIN IMMEDIATE")
        assert traced(tmp_path, "LOT-1").found_as == ("product_lot",)
        connection.execute("ROLLBACK")
    assert timedelta(seconds=JournalSettings().trace) == timedelta(days=3650)
