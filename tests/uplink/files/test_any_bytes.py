"""Whatever lies in the inbox: it is read, or it is said what is wrong with it; nothing else ever happens."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.uplink.erp.files.b2mml_orders import B2mmlOrders
from gateway.uplink.erp.files.b2mml_tree import read_json, read_xml
from gateway.uplink.erp.files.csv_orders import CsvOrders
from gateway.uplink.erp.files.faults import Unreadable, explanation
from gateway.uplink.erp.files.fields import ORDER_FIELDS
from gateway.uplink.erp.files.orders import Orders, PlanMaker
from gateway.uplink.erp.files.settings import CsvDialect
from gateway.uplink.erp.port import Plan
from tests.uplink.files.public_schema import FOLDER

PARIS = ZoneInfo("Europe/Paris")
_MAKER = PlanMaker(["press-07"], {"press-07": "PRESSE-07"}, lowest_first=False)
_XML = [path.read_bytes() for path in sorted((FOLDER / "foreign").glob("*.xml"))]
_JSON = [path.read_bytes() for path in sorted((FOLDER / "foreign").glob("*.json"))]
_TRAPS = [
    "1e999999999",
    "NaN",
    "Infinity",
    "-0",
    "1e-99",
    "9" * 400,
    "0001-01-01T00:00:00+23:59",
    "2026-11-25T24:00:00",
    "\x00",
    "\ud7ff",
    " ",
]


def swallowed(read: Callable[[bytes], Orders], data: bytes) -> None:
    try:
        orders = read(data)
    except Unreadable as error:
        explained = explanation("any.file", "now", [error.fault], ())
    else:
        plans, faults = _MAKER.plans(orders.drafts)
        explained = explanation("any.file", "now", [*orders.faults, *faults], [plan.key for plan, _ in plans])
        _possible([plan for plan, _ in plans])
    assert len(explained.splitlines()) >= 4


def _possible(plans: list[Plan]) -> None:
    for plan in plans:
        assert len(plan.note.encode()) < 4096
        assert plan.job_order.quantity is None or Decimal(0) < plan.job_order.quantity <= Decimal(10) ** 15


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for read in (
        CsvOrders(None, CsvDialect(), PARIS).read,
        CsvOrders(None, CsvDialect(encoding="windows-1252", header=False), PARIS).read,
        B2mmlOrders(read_xml, PARIS).read,
        B2mmlOrders(read_json, PARIS).read,
    ):
        swallowed(read, data)


_cell = st.one_of(
    st.sampled_from([*_TRAPS, "press-07", "PRESSE-07", "1", "2026-11-25T06:00:00Z", "released", "backflush"]), st.text(max_size=12)
)


@given(st.lists(st.sampled_from(ORDER_FIELDS), min_size=1, max_size=8, unique=True), st.data())
def test_any_cells(header: list[str], data: st.DataObject) -> None:
    columns = ["job_order_id", *(name for name in header if name != "job_order_id")]
    rows = data.draw(st.lists(st.lists(_cell, min_size=len(columns), max_size=len(columns)), max_size=4))
    text = "\n".join([";".join(columns), *(";".join(row) for row in rows), ""])
    swallowed(CsvOrders(None, CsvDialect(), PARIS).read, text.encode(errors="replace"))


@given(st.sampled_from(_XML), st.data())
def test_mutated_xml(message: bytes, data: st.DataObject) -> None:
    swallowed(B2mmlOrders(read_xml, PARIS).read, _mutated(message, data))


@given(st.sampled_from(_JSON), st.data())
def test_mutated_json(message: bytes, data: st.DataObject) -> None:
    swallowed(B2mmlOrders(read_json, PARIS).read, _mutated(message, data))


def _mutated(message: bytes, data: st.DataObject) -> bytes:
    """A piece cut out, doubled, or a value replaced by one that has hurt some reader before."""
    start = data.draw(st.integers(0, len(message)))
    end = data.draw(st.integers(start, min(len(message), start + 120)))
    piece = data.draw(st.one_of(st.just(b""), st.just(message[start:end] * 2), st.sampled_from(_TRAPS).map(lambda trap: trap.encode())))
    return message[:start] + piece + message[end:]


@pytest.mark.parametrize("trap", _TRAPS)
@pytest.mark.parametrize(
    "place", [b"3200", b"1000", b"20000", b"2026-11-25T05:00:00Z", b"50", b"11.9", b'"Produced"', b'"PRESSE-07"', b'"Released"']
)
def test_traps_in_every_place(trap: str, place: bytes) -> None:
    (message,) = _JSON
    assert place in message
    for value in (trap.encode(), b'"' + trap.encode() + b'"', b'{"a": 1}', b"[]", b"null", b'[{"$": {"$": "x"}}]'):
        swallowed(B2mmlOrders(read_json, PARIS).read, message.replace(place, value))
