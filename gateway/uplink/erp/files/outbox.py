"""Confirmations into the folder that the ERP takes them from, each exactly once, whatever is interrupted.

A file is written whole into a hidden folder beside, then remembered as owed, then renamed into the ERP's sight. After an interruption a
file that is remembered and still hidden is renamed; one that is remembered and no longer hidden was delivered, wherever the ERP has put
it meanwhile; one that is hidden and not remembered never existed and is written again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from gateway.uplink.erp.files.booked import Booked
from gateway.uplink.erp.files.disk import Disk

_LONGEST_NAME = 120


class Memo(BaseModel):
    """What the gateway keeps of an order: `booked` holds once the files `owed` are in the ERP's sight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    booked: Booked = Booked()
    owed: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str | None, now: datetime) -> Memo:
        """`text` None: nothing was ever told of this order, its numbers begin `now`."""
        return cls.model_validate_json(text) if text else cls(booked=Booked(series=now.strftime("%y%m%dT%H%M%S")))


class Outbox:
    def __init__(self, disk: Disk, folder: Path, gateway_id: str, ending: str) -> None:
        self._disk = disk
        self._folder = folder
        self._hidden = folder / ".pending"
        self._gateway_id = gateway_id
        self._ending = ending

    def open(self) -> None:
        """Raises OSError."""
        self._disk.make(self._hidden)

    def name(self, job_order_id: str, key: str, kind: str) -> str:
        """The name of a confirmation: gateway, order, `Booked.key`, kind. The same for ever, and good on every file system."""
        return f"{self._prefix(job_order_id)}{key}_{kind}{self._ending}"

    def _prefix(self, job_order_id: str) -> str:
        # `_` divides the parts of the name: the files of OF-1 must not look like those of OF-1_2.
        order = quote(job_order_id, safe="").replace("%", "=").replace("~", "=7E").replace("_", "=5F")
        if len(order) > _LONGEST_NAME:
            order = f"{order[:_LONGEST_NAME]}={hashlib.sha256(job_order_id.encode()).hexdigest()[:12]}"
        return f"{self._gateway_id}_{order}_"

    def write(self, job_order_id: str, files: Mapping[str, bytes]) -> None:
        """Name -> content, hidden and on disk when this returns. Raises OSError."""
        prefix = self._prefix(job_order_id)
        for found in self._disk.look(self._hidden):
            # Of a try that was interrupted before it was remembered, when there was something else to say.
            if found.name.startswith(prefix) and found.name not in files:
                self._disk.remove(self._hidden / found.name)
        for name, data in files.items():
            self._disk.write(self._hidden / name, data)

    def show(self, owed: Sequence[str]) -> None:
        """Into the ERP's sight what is not there yet. Raises OSError."""
        for name in owed:
            if self._disk.exists(self._hidden / name):
                self._disk.move(self._hidden / name, self._folder / name)
