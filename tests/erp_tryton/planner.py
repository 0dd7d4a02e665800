"""What a planner does in Tryton, through the server's own doors; and the books as an auditor reads them, apart from the adapter's code."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.erp_tryton.client import Seat, date, decimal, seconds
from tests.erp_tryton.seed import GATEWAY, OIL, OIL_PER_PIECE, PART, PRESSES, SHEET, SHEET_PER_PIECE

_MOVE = ("state", "quantity", "unit.symbol", "product.code", "to_location.type", "effective_date", "create_uid")


@dataclass
class Books:
    """What Tryton holds of one production. `consumed`: what went in less what came back; `made_by_gateway` counts its own user's alone."""

    state: str
    good: Decimal = Decimal(0)
    scrap: Decimal = Decimal(0)
    consumed: dict[str, Decimal] = field(default_factory=dict)
    run_s: float = 0.0
    started: dt.date | None = None
    days: set[dt.date] = field(default_factory=set)
    dangling: int = 0
    """Moves that are neither done nor cancelled and are not empty."""


class Planner:
    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self._places = {place["code"]: place["id"] for place in seat.search_read("stock.location", [], ["code"])}
        self._products = {product["code"]: product["id"] for product in seat.search_read("product.product", [], ["code"])}
        self._units = {unit["symbol"]: unit["id"] for unit in seat.search_read("product.uom", [["symbol", "in", ["u", "kg"]]], ["symbol"])}
        self._bills = {
            bill["product"]: bill for bill in seat.search_read("product.product-production.bom", [], ["product", "bom", "routing"])
        }
        parents = seat.search_read("production.work.center", [["parent", "=", None]], ["name"])
        self._parents = {center["name"]: center["id"] for center in parents}
        self._currency = seat.search_read("currency.currency", [], ["id"])[0]["id"]
        self._company = seat.context["company"]
        self._gateway = seat.search_read("res.user", [["login", "=", GATEWAY[0]]], ["id"])[0]["id"]

    # --- plans -----------------------------------------------------------------------------------------------------------

    def _plan(self, quantity: float, press: str, product: str) -> dict[str, Any]:
        """A production as Tryton's form makes it: with the bill's moves."""
        sheet, oil = ((code, round(quantity * each, 3)) for code, each in ((SHEET, SHEET_PER_PIECE), (OIL, OIL_PER_PIECE)))
        bill = self._bills[self._products[product]]
        return {
            "product": self._products[product],
            "bom": bill["bom"],
            "routing": bill["routing"],
            "quantity": float(quantity),
            "unit": self._units["u"],
            "warehouse": self._places["WH"],
            "location": self._places["PROD"],
            "work_center": self._parents[f"Îlot {press}"],
            "planned_start_date": date(2026, 11, 30),
            "planned_date": date(2026, 12, 1),
            "inputs": [["create", [self._input(code, needed) for code, needed in (sheet, oil)]]],
            "outputs": [["create", [self._output(product, quantity)]]],
        }

    def draft(self, quantity: float, press: str = PRESSES[0], *, product: str = PART) -> int:
        return self.seat.create("production", **self._plan(quantity, press, product))

    def release(self, quantity: float, press: str = PRESSES[0], *, product: str = PART) -> int:
        production = self.draft(quantity, press, product=product)
        self.press("wait", production)
        return production

    def release_many(self, plans: Sequence[tuple[float, str]]) -> list[int]:
        """(quantity, press) each, in one go."""
        ids: list[int] = self.seat.call("production", "create", [self._plan(quantity, press, PART) for quantity, press in plans])
        self.seat.call("production", "wait", ids)
        return ids

    def change_quantity(self, production: int, quantity: float) -> None:
        """Tryton lets a planner do so in a draft only; its form plans the moves anew."""
        self.press("wait", production)
        self.press("draft", production)
        record = self.seat.call("production", "read", [production], ["product.code", "inputs.state", "outputs.state"])[0]
        code = record["product."]["code"]
        drafts = {side: [m["id"] for m in record[f"{side}."] if m["state"] == "draft"] for side in ("inputs", "outputs")}
        self.seat.call(
            "production",
            "write",
            [production],
            {
                "quantity": float(quantity),
                "inputs": [["delete", drafts["inputs"]], ["create", [self._input(SHEET, round(quantity * SHEET_PER_PIECE, 3))]]],
                "outputs": [["delete", drafts["outputs"]], ["create", [self._output(code, quantity)]]],
            },
        )
        self.press("wait", production)

    def press(self, button: str, production: int) -> Any:
        return self.seat.call("production", button, [production])

    def are_done(self, productions: Sequence[int]) -> int:
        """How many of them."""
        return int(self.seat.call("production", "search_count", [["id", "in", list(productions)], ["state", "=", "done"]]))

    def number(self, production: int) -> str:
        return str(self._read(production, "number"))

    def state(self, production: int) -> str:
        return str(self._read(production, "state"))

    def finish_works(self, production: int) -> None:
        """By hand, as an operator who stops the clock."""
        for work in self.seat.search_read("production.work", [["production", "=", production]], ["cycles.state"]):
            running = [cycle["id"] for cycle in work["cycles."] if cycle["state"] == "running"]
            if running:
                self.seat.call("production.work.cycle", "do", running)
            elif not work["cycles."]:
                self.seat.call("production.work", "start", [work["id"]])
                self.seat.call("production.work", "stop", [work["id"]])

    def abandon(self) -> None:
        """Cancel everything that is open, as at the end of a test."""
        open_ = self.seat.search_read("production", [["state", "in", ["waiting", "assigned", "running"]]], ["id"])
        if open_:
            self.seat.call("production", "cancel", [production["id"] for production in open_])

    def sell(self, quantity: float, customer: str, wish: str) -> tuple[int, int]:
        """A sale that Tryton supplies by a production: (sale, production request)."""
        party = self.seat.create("party.party", name=customer, addresses=[["create", [{}]]])
        address = self.seat.search_read("party.address", [["party", "=", party]], ["id"])[0]["id"]
        line = {
            "product": self._products[PART],
            "quantity": float(quantity),
            "unit": self._units["u"],
            "unit_price": decimal("5"),
            "description": wish,
        }
        sale = self.seat.create(
            "sale.sale",
            party=party,
            invoice_address=address,
            shipment_address=address,
            company=self._company,
            currency=self._currency,
            warehouse=self._places["WH"],
            shipping_date=date(2026, 12, 4),
            invoice_method="manual",
            shipment_method="order",
            lines=[["create", [line]]],
        )
        for button in ("quote", "confirm", "process"):
            self.seat.call("sale.sale", button, [sale])
        request = self.seat.search_read("production", [["state", "=", "request"]], ["id"])[-1]["id"]
        return sale, int(request)

    def plan_request(self, production: int, press: str = PRESSES[0]) -> None:
        """What a planner does with a request that a sale has made: a work centre, and released."""
        self.seat.call("production", "write", [production], {"work_center": self._parents[f"Îlot {press}"]})
        self.press("draft", production)
        self.press("wait", production)

    def find_in_stock(self, code: str, lot: str, quantity: float) -> None:
        """An inventory has found more of a lot."""
        nowhere = self.seat.search_read("stock.location", [["name", "=", "Lost and Found"]], ["id"])[0]["id"]
        found = self.seat.search_read("stock.lot", [["number", "=", lot], ["product.code", "=", code]], ["id"])[0]["id"]
        places = {"from_location": nowhere, "to_location": self._places["STO"]}
        self.seat.call("stock.move", "do", [self.seat.create("stock.move", **{**self._input(code, quantity), **places, "lot": found})])

    # --- books -----------------------------------------------------------------------------------------------------------

    def books(self, production: int) -> Books:
        fields = ["state", "effective_start_date", "product.code", *(f"{side}.{name}" for side in ("inputs", "outputs") for name in _MOVE)]
        fields += ["works.cycles.duration", "works.cycles.state"]
        record = self.seat.call("production", "read", [production], fields)[0]
        books = Books(record["state"], started=_day(record["effective_start_date"]))
        for side in ("inputs", "outputs"):
            for move in record[f"{side}."]:
                books.dangling += (
                    move["state"] not in ("done", "cancelled") and bool(move["quantity"]) and move["create_uid"] == self._gateway
                )
                if move["state"] == "done" and move["quantity"]:
                    self._count(books, side, move, record["product."]["code"])
        for work in record["works."]:
            books.run_s += sum(seconds(cycle["duration"]) for cycle in work["cycles."] if cycle["state"] != "cancelled")
        return books

    def _count(self, books: Books, side: str, move: dict[str, Any], product: str) -> None:
        quantity, code = Decimal(str(move["quantity"])), move["product."]["code"]
        if (day := _day(move["effective_date"])) is not None:
            books.days.add(day)
        if side == "inputs":
            books.consumed[code] = books.consumed.get(code, Decimal(0)) + quantity
        elif move["to_location."]["type"] == "lost_found":
            books.scrap += quantity
        elif code == product:
            books.good += quantity
        else:
            books.consumed[code] = books.consumed.get(code, Decimal(0)) - quantity

    def inspections(self, production: int) -> list[dict[str, Any]]:
        return self.seat.search_read("quality.inspection", [["origin", "=", f"production,{production}"]], ["reference", "state", "points"])

    def notes(self, resource: str) -> list[str]:
        return [note["message"] for note in self.seat.search_read("ir.note", [["resource", "=", resource]], ["message"])]

    def _read(self, production: int, name: str) -> Any:
        return self.seat.call("production", "read", [production], [name])[0][name]

    def _input(self, code: str, quantity: float) -> dict[str, Any]:
        return {
            "product": self._products[code],
            "quantity": quantity,
            "unit": self._units["kg"],
            "from_location": self._places["STO"],
            "to_location": self._places["PROD"],
            "company": self._company,
        }

    def _output(self, code: str, quantity: float) -> dict[str, Any]:
        return {
            "product": self._products[code],
            "quantity": float(quantity),
            "unit": self._units["u"],
            "from_location": self._places["PROD"],
            "to_location": self._places["STO"],
            "company": self._company,
            "currency": self._currency,
            "unit_price": decimal("0"),
        }


def _day(value: Any) -> dt.date | None:
    return dt.date(value["year"], value["month"], value["day"]) if value else None
