"""How the orders of an ERP stand, as page, health and metrics tell it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from gateway.seams import BookingStatus, Waiting
from gateway.status.board import Board
from gateway.status.payloads import WAITING_TOLD, uplink_payload
from tests.status import fake_board
from tests.status.test_pages import pages, read, screen

COUNTS = {"owed": 1, "booked": 12, "retry": 0, "blocked": 1, "refused": 0}


def board(*waiting: Waiting) -> Board:
    shown = fake_board.normal()
    erp = replace(shown.uplinks[1], type="tryton", rows=0, oldest_at=None, bookings=BookingStatus(COUNTS, waiting))
    return replace(shown, uplinks=(shown.uplinks[0], erp))


BLOCKED = Waiting("OF-1", "totals", "blocked", "Period <2026-11> is closed.", fake_board.NOW - timedelta(minutes=7))


def test_the_page_names_the_order_and_the_words_of_the_erp() -> None:
    for language, says in (("fr", "attend une personne"), ("en", "waits for a person")):
        links = read(pages(board(BLOCKED)).page(screen("links"), language))
        assert "OF-1" in links
        assert says in links
        assert "Period <2026-11> is closed." in links
        assert "7 min" in links
    assert "Nothing waits." in read(pages(board()).page(screen("links"), "en"))


def test_a_thousand_orders_that_wait_are_counted_and_fifty_named() -> None:
    many = [replace(BLOCKED, job_order_id=f"OF-{n}", since=fake_board.NOW - timedelta(seconds=n)) for n in range(1000)]
    shown = board(*many)
    links = read(pages(shown).page(screen("links"), "en"))
    assert "OF-999" in links
    assert "OF-949" not in links
    told = uplink_payload(shown.uplinks[1], shown.journal)["bookings"]
    assert told["orders"] == COUNTS
    assert len(told["waiting"]) == WAITING_TOLD
    assert told["waiting"][0]["job_order_id"] == "OF-999"
