"""The row `files` of the conformance suite: an ERP that writes order files and posts each confirmation file once, by its name."""

from __future__ import annotations

import csv
import errno
import io
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.domain.job_order import JobOrder
from gateway.seams import Uplink
from gateway.uplink.erp.booking import BookingUplink, Wiring
from gateway.uplink.erp.files.disk import Disk
from gateway.uplink.erp.files.port import FilesPort
from gateway.uplink.erp.files.settings import FilesSettings
from tests.manual_clock import ManualClock
from tests.uplink.erp.conformance import Booked, ErpUnderTest, Fault
from tests.uplink.files.exchange import AtOnce, settings

_ERRORS = {Fault.DROPPED: errno.EIO, Fault.ERROR: errno.EIO, Fault.LOCKED: errno.EACCES, Fault.HALF: errno.ENOSPC}


class ShakyDisk(Disk):
    """A share that fails on about half of what is written to it, before, in the middle or after."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self._dice = random.Random(7)

    def _fails(self, path: Path) -> bool:
        # What a new connection tries is left alone: with a share that never connects nothing could be shown.
        return self.fault is not None and "probe" not in path.name and self._dice.random() < 0.5

    def _error(self, path: Path) -> OSError:
        number = _ERRORS[self.fault] if self.fault is not None else errno.EIO
        return OSError(number, os.strerror(number), str(path))

    def write(self, path: Path, data: bytes) -> None:
        fails = self._fails(path)
        if fails and self.fault is Fault.HALF:
            path.write_bytes(data[: len(data) // 2])
        elif not fails or self.fault is Fault.DROPPED:
            path.write_bytes(data)
        if fails:
            raise self._error(path)

    def rename(self, source: Path, target: Path) -> None:
        fails = self._fails(source)
        if not fails or self.fault is Fault.DROPPED:
            super().rename(source, target)
        if fails:
            raise self._error(source)

    def sync(self, folder: Path) -> None:
        pass


class FilesLink:
    faults = frozenset(_ERRORS)

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self._folder = folder
        self._settings: FilesSettings = settings(folder, settle=0.0, interval="1s", report_every="2s")
        self._disk = ShakyDisk()
        self._posted: dict[str, bytes] = {}
        self._wrong: list[str] = []

    def uplink(self, wiring: Wiring) -> Uplink:
        port = FilesPort(
            self._settings, gateway_id="line-pc-07", work_units=["press-07", "press-08"], time_zone="Europe/Paris", clock=self.clock,
            disk=self._disk,
        )  # fmt: skip
        port._thread.shutdown()
        port._thread = AtOnce()  # type: ignore[assignment]
        return BookingUplink("erp", self._settings, port, wiring)

    async def release(self, order: JobOrder, work_unit: str) -> None:
        name = self._folder / "inbox" / f"{order.job_order_id}.csv"
        text = f"job_order_id;work_unit;product_id;quantity\n{order.job_order_id};{work_unit};{order.product_id};{order.quantity}\n"
        name.with_suffix(".tmp").write_text(text)
        name.with_suffix(".tmp").rename(name)

    async def cancel(self, job_order_id: str) -> None:
        raise NotImplementedError("the planner of a file exchange sends a new file: tests/uplink/files/test_engine.py")

    async def refuse(self, job_order_id: str, words: str | None) -> None:
        raise NotImplementedError("the import of a file exchange answers nothing")

    async def misbehave(self, fault: Fault | None) -> None:
        self._disk.fault = fault

    def _import(self) -> None:
        for path in sorted((self._folder / "outbox").iterdir()):
            if path.is_file():
                data = path.read_bytes()
                if self._posted.setdefault(path.name, data) != data:
                    self._wrong.append(f"{path.name} came twice, with different content")
                path.unlink()

    def _rows(self, kind: str, job_order_id: str) -> list[dict[str, str]]:
        self._import()
        return [
            row
            for name, data in self._posted.items()
            if name.endswith(f"_{kind}.csv")
            for row in csv.DictReader(io.StringIO(data.decode()), delimiter=";")
            if row["job_order_id"] == job_order_id
        ]

    async def booked(self, job_order_id: str) -> Booked:
        totals = self._rows("totals", job_order_id)
        consumed: dict[str, Decimal] = {}
        for row in self._rows("consumption", job_order_id):
            consumed[row["material_id"]] = consumed.get(row["material_id"], Decimal(0)) + Decimal(row["quantity"])
        results = self._rows("quality", job_order_id)
        cancelled = {row["result_id"] for row in results if row["cancelled"] == "true"}
        return Booked(
            good=sum((Decimal(row["good"]) for row in totals), Decimal(0)),
            scrap=sum((Decimal(row["scrap"]) for row in totals), Decimal(0)),
            consumed=consumed,
            run_s=float(sum(Decimal(row["run_s"]) for row in totals)),
            stops=len({row["stop_id"] for row in self._rows("stops", job_order_id)}),
            results=tuple(sorted(row["result_id"] for row in results if row["result_id"] not in cancelled)),
            is_started=len(self._rows("start", job_order_id)) == 1,
            is_closed=len(self._rows("close", job_order_id)) == 1,
            times=tuple(datetime.fromisoformat(row["at"]) for row in totals),
        )

    async def violations(self) -> list[str]:
        return self._wrong


@asynccontextmanager
async def files() -> AsyncIterator[ErpUnderTest]:
    with TemporaryDirectory(prefix="lineside-files-") as name:
        yield FilesLink(Path(name))
