"""What the gateway's user in Tryton must be allowed to do, asked of Tryton itself: nothing is changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from gateway.domain.events import Text
from gateway.uplink.erp.port import Right
from gateway.uplink.erp.tryton.rpc import Rpc
from gateway.uplink.erp.tryton.settings import TrytonSettings

VERSION = "8.2"
REMEDY = Text(
    "Vérifier dans Tryton les groupes et la société de l'utilisateur ; `lineside check --connect` nomme le droit qui manque.",
    "Check the user's groups and company in Tryton; `lineside check --connect` names the right that is missing.",
)
_READ = ("read",)
_BOOK = ("read", "write", "create")
_NEEDED: Mapping[str, tuple[tuple[str, ...], str]] = MappingProxyType(
    {
        "production": (("read", "write"), "Production"),
        "production.bom": (_READ, "Production"),
        "production.work": (("read", "write"), "Production"),
        "production.work.cycle": (_BOOK, "Production"),
        "stock.move": ((*_BOOK, "delete"), "Stock"),
        "stock.location": (_READ, "Stock"),
        "stock.lot": (_READ, "Stock"),
        "product.product": (_READ, ""),
        "product.uom": (_READ, ""),
        "quality.control": (_READ, "Quality"),
        "quality.inspection": ((*_BOOK, "delete"), "Quality"),
        "sale.line": (_READ, "Sales"),
        "ir.note": ((*_BOOK, "delete"), ""),
    }
)
"""Model -> what is done with it, and the group that usually brings it."""
_OPTIONAL: Mapping[str, str] = MappingProxyType(
    {
        "production.bom": "production",
        "production.work": "production.work",
        "production.work.cycle": "production.work",
        "stock.lot": "stock.lot",
        "quality.control": "quality.control",
        "quality.inspection": "quality.control",
        "sale.line": "sale.line",
    }
)
"""Model -> the model that shows whether its module is there."""


async def check(rpc: Rpc, models: Collection[str], settings: TrytonSettings) -> list[Right]:
    """One after the other. Raises what `Rpc.read` raises."""
    modules = await rpc.search("ir.module", [["name", "=", "production"]], ["version"])
    version = str(modules[0]["version"]) if modules else "unknown"
    is_known = version.startswith(f"{VERSION}.")
    found = [Right(f"Tryton {VERSION}", "" if is_known else f"its module production is {version}; this adapter was proved with {VERSION}")]
    there = {"production", *models}
    needed = [model for model in _NEEDED if _OPTIONAL.get(model, "production") in there]
    access = await rpc.read("ir.model.access", "get_access", needed)
    found += [right for model in needed for right in _of_model(model, access.get(model, {}))]
    found.append(await _cancels(rpc))
    found += [await _center(rpc, name) for name in settings.work_centers.values()]
    waste = await rpc.search("stock.location", [["type", "=", "warehouse"]], ["rec_name", "waste_locations"])
    found += [
        Right(f"a waste location of {place['rec_name']}", "" if place["waste_locations"] else "it has none, scrap cannot be booked")
        for place in waste
    ]
    return found


def _of_model(model: str, access: Mapping[str, Any]) -> list[Right]:
    modes, group = _NEEDED[model]
    words = f"not allowed; the group {group} brings it" if group else "not allowed"
    return [Right(f"{mode} {model}", "" if access.get(mode) else words) for mode in modes]


async def _cancels(rpc: Rpc) -> Right:
    """Tryton shows the button by this group alone; what it lets pass without it is no right to count on."""
    groups = rpc.context.get("groups", [])
    data = await rpc.read("res.group", "read", groups, ["name"], language="en")
    name = "cancel a stock move that is done"
    if any(group["name"] == "Stock Cancellation" for group in data):
        return Right(name)
    return Right(name, "the user is not in the group Stock Cancellation; good pieces that turn into scrap cannot be corrected")


async def _center(rpc: Rpc, name: str) -> Right:
    found = await rpc.search("production.work.center", [["name", "=", name]], ["name"])
    return Right(f"the work centre {name}", "" if found else "Tryton has none of that name, or shows it to this user in no company")
