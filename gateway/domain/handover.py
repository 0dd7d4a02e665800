"""Where one operation of an order stands among the others: what it was handed over, and what it waits for (see `routing`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True)
class Wait:
    """Nothing to work on before the operation ahead has made something: its likely and safe end; None: nobody knows."""

    behind: str
    """Whom it waits for, for the basis of a promise."""
    likely: datetime | None
    safe: datetime | None


@dataclass(frozen=True)
class Route:
    """Where one operation stands. `handed_over`: good pieces of the operation before; None: there is none to compare with."""

    handed_over: Decimal | None = None
    wait: Wait | None = None
    lead_unknown: bool = False
    """Later operations exist and the order does not say how long they take (`lead_after_s`)."""

    def ahead(self, produced: Decimal) -> Decimal:
        """How many of the pieces it has made nobody handed over; 0: none."""
        return Decimal(0) if self.handed_over is None else max(produced - self.handed_over, Decimal(0))


NO_ROUTE = Route()
