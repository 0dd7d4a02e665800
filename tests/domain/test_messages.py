"""How ledger events are written, and the table of problems."""

from __future__ import annotations

import json
import math
import sys
import tracemalloc
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.cloud_event import cloud_event, encode
from gateway.domain.events import EVENT_TYPES, AlertRaised, Text, WindowClosed
from gateway.domain.job_order import ReturnStatus
from gateway.domain.problems import PROBLEMS, return_status


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("3"), "3"),
        (Decimal("3.000"), "3"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.1"), "0.1"),
        (Decimal("-12.25"), "-12.25"),
        (Decimal("-0"), "0"),
        (Decimal("NaN"), "null"),
        (Decimal("Infinity"), "null"),
        (Decimal(2**63 - 1), "9223372036854775807"),
        (Decimal("1E+30"), "1e+30"),
        (Decimal("1E-400"), "0.0"),
        (math.nan, "null"),
        (True, "true"),
        (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), '"2026-03-29T01:30:00Z"'),
        (datetime(2026, 3, 29, 3, 30, 0, 250_000, tzinfo=timezone(timedelta(hours=2))), '"2026-03-29T01:30:00.25Z"'),
        (Text("arrêt", "stop"), '{"fr":"arrêt","en":"stop"}'),
        (("a", None), '["a",null]'),
    ],
)
def test_json_rules(value: object, text: str) -> None:
    assert encode(value).decode() == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=3))
def test_a_quantity_is_written_as_its_nearest_number(value: Decimal) -> None:
    assert json.loads(encode(value)) == float(value)


def test_what_is_no_json_is_an_error() -> None:
    @dataclass
    class Odd:
        value: object

    with pytest.raises(TypeError):
        encode(Odd(object()))


def test_the_envelope_has_a_subject_only_with_an_order() -> None:
    text = Text("a", "b")
    event = AlertRaised(
        work_unit=None, at=datetime(2026, 1, 1, tzinfo=UTC), alert="link.lost:press", severity="warning", text=text, remedy=text
    )
    envelope = cloud_event(event, gateway_id="pc", epoch="replay", sequence=7, source="/acme/lyon/_gateway/pc")
    assert list(envelope) == ["specversion", "id", "source", "type", "time", "epoch", "sequence", "datacontenttype", "data"]
    assert envelope["id"] == "pc:replay:7"
    assert envelope["type"] == "lineside.alert.raised.v1"


def test_every_event_says_all_its_own_fields() -> None:
    """Also the type that spells them out."""
    for kind in EVENT_TYPES:
        if kind is WindowClosed:
            continue  # its line is its data
        values = {f.name: f.name for f in fields(kind)}
        expected = {name.rstrip("_"): name for name in values if name not in ("work_unit", "at", "job_order_id")}
        found = kind(**values).data()
        assert found == expected
        assert list(found) == list(expected), "in the order in which they were always written"


def test_what_is_written_and_kept_takes_the_memory_of_its_text() -> None:
    """orjson's own bytes hold on to 4 to 16 KiB each."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [encode({"text": "x" * length}) for length in (20, 600, 1500, 5000) for _ in range(50)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1.1 * sum(map(sys.getsizeof, kept)) + 20_000


def test_every_problem_has_one_bit_of_the_standard_and_both_languages() -> None:
    for code, row in PROBLEMS.items():
        assert row.code == code
        assert ReturnStatus(row.return_status) in list(ReturnStatus)
        assert row.return_status != ReturnStatus.SUCCESS
        assert row.meaning.fr.endswith(".")
        assert row.meaning.en.endswith(".")


def test_a_problem_outside_the_table_is_a_bug() -> None:
    assert return_status("other_order_running") == ReturnStatus.UNABLE_TO_ACCEPT
    with pytest.raises(KeyError):
        return_status("bad_luck")
