"""The pure parts: whatever answers are lost, a production in memory that keeps Tryton's rules ends where the line is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.uplink.erp.port import BOOKED, Consumption, Outcome, Standing, Totals
from gateway.uplink.erp.tryton import TrytonSettings, steps
from gateway.uplink.erp.tryton.moves import Booking
from gateway.uplink.erp.tryton.records import Cycle, Move, Production, Work
from gateway.uplink.erp.tryton.rpc import Call
from gateway.uplink.erp.tryton.targets import target
from gateway.uplink.erp.tryton.units import Units
from tests.uplink.doubles import AT

DAY = AT.date()
PART, SHEET = 1, 2
U, KG = 1, 2
UNITS = Units(
    [
        {"id": U, "symbol": "u", "category": 1, "factor": Decimal(1), "digits": 0},
        {"id": KG, "symbol": "kg", "category": 2, "factor": Decimal(1), "digits": 3},
    ]
)
STORE, WASTE, PLACE = 3, 10, 9
PLANNED = 100


class Refused(Exception):
    """Tryton would have said no."""


class Server:
    """One production under Tryton's rules for moves, cycles and states, with compare-and-set."""

    def __init__(self) -> None:
        self.count = 100
        planned = Move(20, "0", "draft", Decimal(35), KG, SHEET, None, STORE, PLACE, False, False, None)
        output = Move(21, "0", "draft", Decimal(PLANNED), U, PART, None, PLACE, STORE, False, False, None)
        work = Work(5, False, "Presse 07", "Emboutir", (), (5,))
        self.production = Production(
            7, "0", "OF-7", "waiting", Decimal(PLANNED), U, PART, "PF-100", None, None, PLACE, 1, 1, "Atelier", STORE, STORE, WASTE,
            (planned,), (output,), (work,),
        )  # fmt: skip

    def stamp(self) -> str:
        self.count += 1
        return str(self.count)

    def call(self, call: Call) -> None:
        ids = call.arguments[0]
        name = f"{call.model}.{call.method}"
        if name == "stock.move.create":
            for values in call.arguments[0]:
                self._create(values)
        elif name == "stock.move.write":
            self._write(call)
        elif call.model == "stock.move":
            self._press(call.method, ids)
        elif call.model in ("production.work", "production.work.cycle"):
            self._time(call)
        else:
            self._produce(call)

    def _moves(self) -> list[Move]:
        return [*self.production.inputs, *self.production.outputs]

    def _put(self, moves: Sequence[Move]) -> None:
        inputs = tuple(sorted((m for m in moves if m.to_location == PLACE), key=lambda m: m.id))
        outputs = tuple(sorted((m for m in moves if m.from_location == PLACE), key=lambda m: m.id))
        self.production = replace(self.production, inputs=inputs, outputs=outputs)

    def _create(self, values: dict[str, object]) -> None:
        assert values["quantity"] == 0.0, "nothing is born with a quantity"
        self.count += 1
        where = {"from_location": int(str(values["from_location"])), "to_location": int(str(values["to_location"]))}
        move = Move(
            self.count, self.stamp(), "draft", Decimal(0), int(str(values["unit"])), int(str(values["product"])), None,
            is_waste=where["to_location"] == WASTE, is_mine=True, day=None, **where,
        )  # fmt: skip
        self._put([*self._moves(), move])

    def _write(self, call: Call) -> None:
        by_id = {move.id: move for move in self._moves()}
        pairs = list(zip(call.arguments[::2], call.arguments[1::2], strict=True))
        for (id_,), _ in pairs:
            if by_id[id_].state != "draft" or call.stamps[f"stock.move,{id_}"] != by_id[id_].stamp:
                raise Refused
        for (id_,), values in pairs:
            move = by_id[id_]
            by_id[id_] = replace(
                move, quantity=Decimal(str(values["quantity"])), day=values.get("effective_date", move.day), stamp=self.stamp()
            )
        self._put(list(by_id.values()))

    def _press(self, button: str, ids: Sequence[int]) -> None:
        before = {"do": ("draft", "assigned"), "cancel": ("done",), "draft": ("assigned",), "delete": ("draft",)}[button]
        after = {"do": "done", "cancel": "cancelled", "draft": "draft", "delete": ""}[button]
        for move in self._moves():
            is_stock = button == "do" and move.from_location == STORE and move.state != "assigned" and move.quantity
            if move.id in ids and (move.state not in before or is_stock):
                raise Refused
        moves = [replace(m, state=after, stamp=self.stamp()) if m.id in ids else m for m in self._moves()]
        self._put([m for m in moves if m.state])

    def _time(self, call: Call) -> None:
        (work,) = self.production.works
        (id_,) = call.arguments[0]
        self.count += 1
        if call.method == "start":
            cycles = (*work.cycles, Cycle(self.count, self.stamp(), "running", None, True))
        else:
            states = {"do": "done", "cancel": "cancelled", "write": "running"}
            found = next(cycle for cycle in work.cycles if cycle.id == id_)
            if found.state != "running":
                raise Refused
            seconds = call.arguments[1]["duration"] if call.method == "write" else found.seconds
            new = replace(found, state=states[call.method], seconds=seconds, stamp=self.stamp())
            cycles = tuple(new if cycle.id == id_ else cycle for cycle in work.cycles)
        live = [cycle for cycle in cycles if cycle.state != "cancelled"]
        is_finished = bool(live) and all(cycle.state == "done" for cycle in live)
        self.production = replace(
            self.production, works=(replace(work, cycles=cycles, bare=() if live else (5,), is_finished=is_finished),)
        )

    def _produce(self, call: Call) -> None:
        production = self.production
        if call.method == "write":
            values = call.arguments[1]
            if "inputs" in values:
                ids = values["inputs"][0][1]
                self._put([replace(m, quantity=Decimal(0), stamp=self.stamp()) if m.id in ids else m for m in self._moves()])
            if "effective_start_date" in values:
                self.production = replace(production, started=values["effective_start_date"])
            if "effective_date" in values:
                self.production = replace(production, ended=values["effective_date"])
            return
        allowed = {"assign_try": ("waiting", "running"), "run": ("assigned",), "do": ("running",)}[call.method]
        if production.state not in allowed or (call.method == "do" and not all(work.is_finished for work in production.works)):
            raise Refused
        if call.method == "assign_try":
            self._put([replace(m, state="assigned") if m.state == "draft" and m.to_location == PLACE else m for m in self._moves()])
            self.production = replace(self.production, state="assigned" if production.state == "waiting" else "running")
            return
        side = PLACE if call.method == "run" else None
        moves = [
            replace(m, state="done") if m.is_open and (m.to_location == PLACE if side else m.from_location == PLACE) else m
            for m in self._moves()
        ]
        self._put(moves)
        self.production = replace(self.production, state="running" if call.method == "run" else "done")


def totals(good: int, scrap: int, sheet: str, seconds: float) -> Totals:
    consumed = (Consumption("MP-TOLE", None, "Consumed", Decimal(sheet), "KGM"),)
    return Totals(AT, Decimal(good), Decimal(scrap), Decimal(0), "C62", consumed, run_s=seconds)


def settle(server: Server, wish: Totals, chance: random.Random, *, is_end: bool = False) -> Outcome:
    """As the port does it; about half of the answers are lost, after the call was done or before it came."""
    tried_stock = False
    for _ in range(200):
        production = server.production
        booking = Booking(production, UNITS, DAY, None, tried_stock)
        aim = target(production, UNITS, wish, {"MP-TOLE": SHEET, "PF-100": PART}, {}, is_last=True)
        (work,) = production.works
        todo = steps.close(booking, work, aim, is_ours=True) if is_end else steps.totals(booking, work, aim)
        if isinstance(todo, Outcome):
            return todo
        try:
            for call in todo:
                if chance.random() < 0.25:
                    break
                tried_stock = tried_stock and call.method != "write"
                server.call(call)
                tried_stock = tried_stock or (call.method == "assign_try" and production.state == "running")
                if chance.random() < 0.25:
                    break
        except Refused:
            continue
    raise AssertionError("it never ends")


def held(server: Server) -> tuple[int, int, Decimal, Decimal]:
    done = [m for m in (*server.production.inputs, *server.production.outputs) if m.is_done]
    good = sum(m.quantity for m in done if m.product == PART and not m.is_waste)
    scrap = sum(m.quantity for m in done if m.is_waste)
    seconds = sum((c.seconds or Decimal(0) for c in server.production.works[0].cycles if c.state != "cancelled"), Decimal(0))
    return int(good), int(scrap), sum((m.quantity for m in done if m.product == SHEET), Decimal(0)), seconds


reports = st.lists(st.tuples(st.integers(0, 150), st.integers(0, 20), st.integers(0, 60)), min_size=1, max_size=5)


@settings(max_examples=25)
@given(made=reports, seed=st.integers(0, 10**6))
def test_totals_up_and_down_end_in_the_same_books(made: list[tuple[int, int, int]], seed: int) -> None:
    server, chance = Server(), random.Random(seed)
    seconds = 0.0
    for good, scrap, kilograms in made:
        seconds += 10.5
        assert settle(server, totals(good, scrap, str(kilograms), seconds), chance) == BOOKED
        assert held(server) == (good, scrap, Decimal(kilograms), Decimal(seconds))
        planned = next(m for m in server.production.outputs if not m.is_mine)
        assert planned.quantity == max(PLANNED - good, 0), "the planner's move keeps what is left"
    good, scrap, kilograms = made[-1]
    assert settle(server, totals(good, scrap, str(kilograms), seconds), chance, is_end=True) == BOOKED
    assert server.production.state == "done"
    assert held(server) == (good, scrap, Decimal(kilograms), Decimal(seconds))


@pytest.mark.parametrize(("state", "words"), [("draft", "back to draft"), ("cancelled", "is cancelled")])
def test_a_state_in_which_nothing_is_booked(state: str, words: str) -> None:
    server = Server()
    server.production = replace(server.production, state=state)
    outcome = settle(server, totals(5, 0, "1", 3.0), random.Random(1))
    assert outcome.standing is Standing.BLOCKED
    assert words in outcome.words
    assert "5 u good" in outcome.words


def test_a_production_put_back_to_waiting_takes_nothing() -> None:
    server = Server()
    settle(server, totals(5, 0, "1", 3.0), random.Random(1))
    server.production = replace(server.production, state="waiting")
    assert server.production.started == DAY
    assert settle(server, totals(5, 0, "1", 3.0), random.Random(1)) == BOOKED, "what is booked stays so"
    outcome = settle(server, totals(6, 0, "1", 3.0), random.Random(1))
    assert outcome.standing is Standing.BLOCKED
    assert "put back to waiting" in outcome.words


def test_what_a_person_has_run_counts_and_goes_back_at_the_end() -> None:
    server = Server()
    planned = replace(server.production.inputs[0], state="done")
    server.production = replace(server.production, state="running", started=DAY, inputs=(planned,))
    assert settle(server, totals(5, 0, "30", 3.0), random.Random(1)) == BOOKED
    assert held(server)[2] == 35, "Tryton's run has booked the bill"
    assert settle(server, totals(5, 0, "30", 3.0), random.Random(1), is_end=True) == BOOKED
    back = [m for m in server.production.outputs if m.product == SHEET]
    assert [(int(m.quantity), m.state) for m in back] == [(5, "done")]


def test_what_an_operation_has_booked_is_no_lost_journal_of_the_next_one() -> None:
    server = Server()
    settle(server, totals(5, 0, "1", 3.0), random.Random(1))
    (first,) = server.production.works
    assert "not know" in (steps.booked_before(server.production, first) or "")
    second = Work(6, False, "Presse 08", "Ébavurer", (), (6,))
    both = replace(server.production, works=(first, second))
    assert "not know" in (steps.booked_before(both, first) or "")
    assert steps.booked_before(both, second) is None
    begun = replace(second, cycles=(Cycle(90, "1", "running", None, True),))
    assert steps.booked_before(replace(both, works=(first, begun)), begun) is not None


GOOD = {
    "type": "tryton", "url": "https://tryton.acme.lan:8000", "database": "acme", "user": "lineside", "password": {"credential": "tryton"},
    "work_centers": {"press-07": "Presse 07"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "http://tryton.acme.lan:8000"}, "in plain text"),
        ({"url": "https://tryton.acme.lan:8000/acme"}, "more than host and port"),
        ({"work_centers": {"press-07": "Presse", "press-08": "Presse"}}, "two work units"),
        ({"work_centers": {}}, "at least 1"),
        ({"url": "http://127.0.0.1:8000", "tls": {}}, "https:// address only"),
    ],
)
def test_settings_that_cannot_be_meant(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrytonSettings.model_validate({**GOOD, **change})


def test_the_peer_is_named_for_the_technician() -> None:
    assert TrytonSettings.model_validate(GOOD).peer == "Tryton tryton.acme.lan:8000"
