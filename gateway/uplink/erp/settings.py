"""What every ERP that is booked through the port says about itself in the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from drivers.settings import Duration, Settings


class BookingSettings(Settings):
    """Base of the settings of an ERP behind `port.ErpPort`; a subclass adds its `type`, address and rights, and `peer`.

    `interval`: how often the ERP is asked for orders. `report_every`: the totals of a running order are posted no more often, since
    each posting is a stock movement in the ERP's books; the end of an order is posted at once. `priority_order`: how the ERP counts
    priorities; inside, the higher number comes first (OPC 10031-4). `dry_run`: every posting is logged, none is sent, all stay owed.
    """

    type: str
    interval: Duration = Field(default=5.0, gt=0.0, le=86400.0)
    report_every: Duration = Field(default=300.0, ge=0.0, le=86400.0)
    priority_order: Literal["highest_first", "lowest_first"] = "highest_first"
    dry_run: bool = False

    def plain_text(self) -> bool:
        """Whether secrets or data leave this machine unencrypted."""
        return False

    @property
    def peer(self) -> str:
        """`Tryton erp.acme.lan:8000`, for the technician."""
        raise NotImplementedError
