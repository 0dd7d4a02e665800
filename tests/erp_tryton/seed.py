"""The company of the Tryton tests: a warehouse, two presses, a stamped part made of sheet, a planner, and the gateway's user.

Run once over an empty data base with all modules; what it made is found again by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.erp_tryton.client import Seat, decimal

ADMINISTRATOR = ("admin", "admin")
PLANNER = ("planner", "planner-of-the-tests")
GATEWAY = ("gateway", "gateway-of-the-tests")
GATEWAY_GROUPS = ("Production", "Stock", "Stock Cancellation", "Quality", "Sales")
PRESSES = ("Presse 07", "Presse 08", "Presse 09", "Presse 10")
PART, SHEET, OIL = "PF-100", "MP-TOLE-1.5", "MP-HUILE"
CHECKED_PART = "PF-200"
"""Every production of it has to pass the control `Alésage` before it is done."""
LOTTED = "MP-FIL"
"""A material that is kept by lots; `L-1` and `L-2` are in stock."""
SUITE_MATERIALS = ("steel", "oil")
"""Those of the suite for every ERP link, in lots `L1`."""
SHEET_PER_PIECE = 0.35
OIL_PER_PIECE = 0.01


@dataclass(frozen=True)
class _Product:
    id: int
    code: str


def seed(admin: Seat) -> None:
    """Fill an empty data base."""
    company = _company(admin)
    places = {name: _location(admin, code) for name, code in (("warehouse", "WH"), ("storage", "STO"), ("production", "PROD"))}
    waste = admin.create("stock.location", name="Rebut", code="REB", type="lost_found")
    admin.call(
        "stock.location",
        "write",
        [places["warehouse"]],
        {"production_location": places["production"], "waste_locations": [["add", [waste]]]},
    )
    unit, kilogram = (_unit(admin, symbol) for symbol in ("u", "kg"))
    # A site that weighs oil keeps grams of it.
    admin.call("product.uom", "write", [kilogram], {"digits": 3, "rounding": 0.001})
    part = _product(admin, PART, "Patte emboutie", unit, producible=True)
    checked = _product(admin, CHECKED_PART, "Patte contrôlée", unit, producible=True)
    sheet = _product(admin, SHEET, "Tôle 1,5 mm", kilogram)
    oil = _product(admin, OIL, "Huile d'emboutissage", kilogram)
    wire = _product(admin, LOTTED, "Fil", kilogram)
    for finished in (part, checked):
        _bill(admin, finished, unit, kilogram, ((sheet, SHEET_PER_PIECE), (oil, OIL_PER_PIECE)))
    _work_centers(admin, places["warehouse"], company)
    _stock(admin, company, places["storage"], (sheet, oil), kilogram)
    _lots(admin, company, places["storage"], wire, kilogram, ("L-1", "L-2"))
    for code in SUITE_MATERIALS:
        _lots(admin, company, places["storage"], _product(admin, code, code, kilogram), kilogram, ("L1",))
    _control(admin, "Alésage", checked, company, "bore_diameter", (11.98, 12.02), 1.0)
    _control(admin, "Diamètre", part, company, "diameter", (19.9, 20.1), 0.0)
    _users(admin, company)


def _company(admin: Seat) -> int:
    currency = admin.create(
        "currency.currency", name="Euro", symbol="€", code="EUR", numeric_code="978", rates=[["create", [{"rate": decimal("1")}]]]
    )
    party = admin.create("party.party", name="Acme Emboutissage")
    company = admin.create("company.company", party=party, currency=currency, timezone="Europe/Paris")
    admin.call("res.user", "write", [admin.uid], {"companies": [["add", [company]]], "company": company})
    admin.refresh()
    return company


def _location(admin: Seat, code: str) -> int:
    return int(admin.search_read("stock.location", [["code", "=", code]], ["id"])[0]["id"])


def _unit(admin: Seat, symbol: str) -> int:
    return int(admin.search_read("product.uom", [["symbol", "=", symbol]], ["id"])[0]["id"])


def _product(admin: Seat, code: str, name: str, unit: int, *, producible: bool = False) -> _Product:
    values = {"name": name, "type": "goods", "default_uom": unit, "list_price": decimal("5"), "cost_price_method": "fixed"}
    if producible:
        values |= {"producible": True, "salable": True, "sale_uom": unit, "supply_on_sale": "always"}
    template = admin.create("product.template", **values, products=[["create", [{"suffix_code": code, "cost_price": decimal("1")}]]])
    return _Product(int(admin.search_read("product.product", [["template", "=", template]], ["id"])[0]["id"]), code)


def _bill(admin: Seat, finished: _Product, unit: int, kilogram: int, materials: tuple[tuple[_Product, float], ...]) -> None:
    bill = admin.create(
        "production.bom",
        name=finished.code,
        outputs=[["create", [{"product": finished.id, "quantity": 100.0, "unit": unit}]]],
        inputs=[["create", [{"product": material.id, "quantity": 100.0 * each, "unit": kilogram} for material, each in materials]]],
    )
    category = admin.create("production.work.center.category", name=f"Emboutir {finished.code}")
    operation = admin.create("production.routing.operation", name="Emboutissage", work_center_category=category)
    routing = admin.create("production.routing", name=finished.code, steps=[["create", [{"operation": operation}]]], boms=[["add", [bill]]])
    admin.call("product.product", "write", [finished.id], {"boms": [["create", [{"bom": bill, "routing": routing}]]]})


def _work_centers(admin: Seat, warehouse: int, company: int) -> None:
    """Each press is a parent of its own, so that the centre chosen for a production is that of its work."""
    categories = admin.search_read("production.work.center.category", [], ["id"])
    for press in PRESSES:
        parent = admin.create("production.work.center", name=f"Îlot {press}", warehouse=warehouse, company=company)
        for category in categories:
            admin.create(
                "production.work.center",
                name=press,
                parent=parent,
                category=category["id"],
                warehouse=warehouse,
                company=company,
                cost_price=decimal("90"),
                cost_method="hour",
            )


def _find(admin: Seat, company: int, storage: int, product: _Product, unit: int, quantity: float, **more: int) -> None:
    """Stock that an inventory found."""
    nowhere = admin.search_read("stock.location", [["name", "=", "Lost and Found"]], ["id"])[0]["id"]
    values = {
        "product": product.id,
        "quantity": quantity,
        "unit": unit,
        "from_location": nowhere,
        "to_location": storage,
        "company": company,
    }
    admin.call("stock.move", "do", [admin.create("stock.move", **values, **more)])


def _stock(admin: Seat, company: int, storage: int, products: tuple[_Product, ...], unit: int) -> None:
    for product in products:
        _find(admin, company, storage, product, unit, 100_000.0)


def _lots(admin: Seat, company: int, storage: int, product: _Product, unit: int, numbers: tuple[str, ...]) -> None:
    for number in numbers:
        _find(admin, company, storage, product, unit, 5000.0, lot=admin.create("stock.lot", number=number, product=product.id))


def _control(
    admin: Seat, name: str, product: _Product, company: int, characteristic: str, limits: tuple[float, float], frequency: float
) -> None:
    """`frequency` 1: every production has to pass it; 0: none has to, what is measured is kept."""
    point = {"name": characteristic, "string": characteristic, "type_": "float", "digits": 3}
    point |= {"tolerance_lower": limits[0], "tolerance_upper": limits[1]}
    admin.create(
        "quality.control",
        name=name,
        operations=["production:do"],
        frequency=frequency,
        company=company,
        product=product.id,
        points=[["create", [point]]],
    )


def _users(admin: Seat, company: int) -> None:
    groups = {group["name"]: group["id"] for group in admin.search_read("res.group", [], ["name"])}
    for (login, password), names in ((GATEWAY, GATEWAY_GROUPS), (PLANNER, tuple(groups))):
        admin.create(
            "res.user",
            name=login.title(),
            login=login,
            password=password,
            companies=[["add", [company]]],
            company=company,
            groups=[["add", [groups[name] for name in names]]],
        )
