from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from simulators.ledger_copy import LedgerCopy, Taken, parse_json, to_json, unit_of

SOURCE = "/acme/lyon/stamping/line-3/press-07"


def event(sequence: int, kind: str = "alert.raised", subject: str | None = None, epoch: str = "e1", **data: Any) -> dict[str, Any]:
    made = {
        "specversion": "1.0",
        "id": f"gw:{epoch}:{sequence}",
        "source": SOURCE,
        "type": f"lineside.{kind}.v1",
        "time": "2026-11-25T04:00:00Z",
        "epoch": epoch,
        "sequence": sequence,
        "data": data,
    }
    return made if subject is None else {**made, "subject": subject}


def counted(sequence: int, produced: float, good: float, scrap: float, subject: str | None = None) -> dict[str, Any]:
    return event(sequence, "quantity.counted", subject, produced=produced, good=good, scrap=scrap, rework=0)


def test_each_event_is_kept_once_and_a_contradiction_is_remembered() -> None:
    copy = LedgerCopy()
    assert copy.take(event(1, alert="a")) is Taken.NEW
    assert copy.take(event(1, alert="a")) is Taken.REPEAT
    assert copy.take(event(1, alert="b")) is Taken.CONFLICT
    assert [e["data"] for e in copy.events] == [{"alert": "a"}]
    report = copy.report()
    assert (report["events"], report["repeats"], report["conflicts"], report["clean"]) == (1, 1, ["gw:e1:1"], False)


def test_the_high_water_mark_stops_at_the_first_hole() -> None:
    copy = LedgerCopy()
    for sequence in (1, 2, 5, 6):
        copy.take(event(sequence))
    assert copy.epochs["e1"].high_water == 2
    assert copy.report()["holes"] == {"e1": [3, 4]}
    copy.take(event(3))
    copy.take(event(4))
    assert copy.epochs["e1"].high_water == 6
    assert copy.report()["holes"] == {}
    assert copy.report()["out_of_order"] == ["gw:e1:3", "gw:e1:4"]


def test_an_epoch_has_its_own_sequence() -> None:
    copy = LedgerCopy()
    copy.take(event(1))
    copy.take(event(2))
    copy.take(event(1, epoch="e2"))
    assert copy.report()["clean"]
    assert {e: x.high_water for e, x in copy.epochs.items()} == {"e1": 2, "e2": 1}


def test_what_is_no_ledger_event_is_refused_with_a_reason() -> None:
    copy = LedgerCopy()
    for wrong in (
        None,
        {},
        {**event(1), "sequence": "1"},
        {**event(1), "specversion": "0.3"},
        {**event(1), "id": "gw:e1:2"},
        {**event(1), "data": None},
        {**event(0), "sequence": 0},
    ):
        assert copy.take(wrong) is Taken.INVALID
    assert len(copy.invalid) == 7
    assert copy.events == []


def test_pieces_are_summed_by_unit_and_by_order() -> None:
    copy = LedgerCopy()
    copy.take(counted(1, 3, 3, 0))
    copy.take(event(2, "job.changed", "OF-1", state="Running"))
    copy.take(counted(3, 10, 9, 1, "OF-1"))
    copy.take(event(4, "job.progress", "OF-1", produced=10, good=9, scrap=1, rework=0, target=20))
    copy.take(counted(5, 0, -1, 1, "OF-1"))
    assert copy.made() == {"press-07": {"produced": 13, "good": 11, "scrap": 2, "rework": 0}}
    order = copy.orders()["OF-1"]
    assert (order["state"], order["good"], order["target"], order["work_unit"]) == ("Running", 9, 20, "press-07")
    assert order["counted"] == {"produced": 10, "good": 8, "scrap": 2, "rework": 0}


def test_an_older_total_that_arrives_late_does_not_replace_a_newer_one() -> None:
    copy = LedgerCopy()
    copy.take(event(5, "job.progress", "OF-1", produced=8, good=8, scrap=0, rework=0, target=20))
    copy.take(event(2, "job.progress", "OF-1", produced=3, good=3, scrap=0, rework=0, target=20))
    assert copy.orders()["OF-1"]["good"] == 8


def test_json_keeps_decimals_exact() -> None:
    value = parse_json(b'{"quantity": 0.1, "n": 3}')
    assert value == {"quantity": Decimal("0.1"), "n": 3}
    assert json.loads(to_json({"a": Decimal("0.5"), "b": Decimal(4)})) == {"a": 0.5, "b": 4}


def test_the_unit_is_the_end_of_a_work_units_source() -> None:
    assert unit_of({"source": SOURCE}) == "press-07"
    assert unit_of({"source": "/acme/lyon/_gateway/gw"}) is None
