"""Products and lots of Tryton by the names that the line has for them; what was found once is not asked again on this connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.uplink.erp.port import Consumption
from gateway.uplink.erp.tryton.records import Production
from gateway.uplink.erp.tryton.rpc import Rpc

_UNNAMED = "id-"
"""How a product without a code is named down on the line."""


class Unknown(Exception):
    """Tryton has nothing of that name: a person has to add it there, or correct it here."""


class Catalogue:
    """`has_lots`: the module that keeps lots is there."""

    def __init__(self, rpc: Rpc, *, has_lots: bool) -> None:
        self._rpc = rpc
        self._has_lots = has_lots
        self._products: dict[str, int] = {}
        self._lots: dict[tuple[int, str], int] = {}

    async def products(self, production: Production, codes: Sequence[str]) -> Mapping[str, int]:
        """Code -> id. Raises Unknown, and what `Rpc.read` raises."""
        new = sorted({code for code in codes if code not in self._products and code != production.product_code})
        if new:
            found = await self._rpc.search("product.product", [["code", "in", new]], ["code"])
            self._products.update((record["code"], record["id"]) for record in found)
            self._products.update((code, int(code[3:])) for code in new if code.startswith(_UNNAMED) and code[3:].isdigit())
        missing = [code for code in new if code not in self._products]
        if missing:
            raise Unknown(f"Tryton has no product with the code {', '.join(missing)}")
        return {**{code: self._products[code] for code in codes if code in self._products}, production.product_code: production.product}

    async def lots(self, products: Mapping[str, int], consumption: Sequence[Consumption]) -> Mapping[tuple[str, str], int]:
        """(material, lot) -> id. Without the module for lots there are none. Raises Unknown, and what `Rpc.read` raises."""
        if not self._has_lots:
            return {}
        wanted = {(c.material_id, c.lot_id) for c in consumption if c.lot_id is not None}
        for material, number in sorted((material, lot) for material, lot in wanted if (products[material], lot) not in self._lots):
            domain = [["product", "=", products[material]], ["number", "=", number]]
            found = await self._rpc.search("stock.lot", domain, ["number"])
            if not found:
                raise Unknown(f"Tryton has no lot {number} of {material}")
            self._lots[products[material], number] = found[0]["id"]
        return {(material, lot): self._lots[products[material], lot] for material, lot in wanted}
