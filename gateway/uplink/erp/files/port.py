"""The ERP port over shared folders: orders from `inbox`, confirmations to `outbox`."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.domain.inbound import Refusal
from gateway.domain.job_order import Problem
from gateway.domain.problems import return_status
from gateway.seams import UplinkError
from gateway.uplink.erp.files import booked
from gateway.uplink.erp.files.b2mml_confirmations import B2mmlConfirmations
from gateway.uplink.erp.files.b2mml_orders import B2mmlOrders
from gateway.uplink.erp.files.b2mml_tree import read_json, read_xml
from gateway.uplink.erp.files.booked import Booked, Confirmation
from gateway.uplink.erp.files.csv_confirmations import CsvConfirmations
from gateway.uplink.erp.files.csv_orders import CsvOrders
from gateway.uplink.erp.files.disk import Disk
from gateway.uplink.erp.files.faults import shown
from gateway.uplink.erp.files.inbox import Inbox, InHand
from gateway.uplink.erp.files.orders import Orders, PlanMaker, order_note
from gateway.uplink.erp.files.outbox import Memo, Outbox
from gateway.uplink.erp.files.settings import FilesSettings
from gateway.uplink.erp.port import BOOKED, ErpOrder, Listing, Measurement, Outcome, PromisedDate, Right, Standing, Totals

_T = TypeVar("_T")

_PATIENCE_S = 20.0
"""For one step on a share (a look, one file moved); a share that hangs longer is as good as gone."""
_FIRST_WAIT_S = 10.0


class _Writer(Protocol):
    def files(self, confirmation: Confirmation, facts: Mapping[str, Any]) -> dict[str, bytes]: ...


class FilesPort:
    """One ERP (`gateway.uplink.erp.port.ErpPort`). Does nothing before `connect`."""

    def __init__(
        self,
        settings: FilesSettings,
        *,
        gateway_id: str,
        work_units: Sequence[str],
        time_zone: str,
        clock: Clock,
        disk: Disk | None = None,
    ) -> None:
        zone = ZoneInfo(time_zone)
        self._settings = settings
        self._gateway_id = gateway_id
        self._clock = clock
        self._zone = zone
        self._disk = disk or Disk()
        self._folders = {name: Path(getattr(settings, name)) for name in ("inbox", "archive", "error", "outbox")}
        self._outbox = Outbox(self._disk, self._folders["outbox"], gateway_id, settings.ending)
        self._inbox = Inbox(
            self._disk,
            (self._folders["inbox"], self._folders["archive"], self._folders["error"]),
            read=_reader(settings, zone),
            plans=PlanMaker(work_units, settings.work_centers, lowest_first=settings.priority_order == "lowest_first"),
            settle_s=settings.settle,
            grace_s=settings.grace,
        )
        self._writer: _Writer = (
            CsvConfirmations(settings.columns, settings.csv, zone)
            if settings.format == "csv"
            else B2mmlConfirmations(as_xml=settings.format == "b2mml-xml")
        )
        self._has_looked = False
        self._remembering: tuple[str, str, asyncio.Task[None]] | None = None
        # One thread: a step that hangs is never overtaken by a later one.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"files-{gateway_id}")

    @property
    def peer(self) -> str:
        return self._settings.peer

    async def connect(self) -> None:
        """Raises UplinkError when a folder is missing, closed or on another file system."""
        await self._do(self._open)

    def _open(self) -> None:
        for name, folder in self._folders.items():
            if not folder.is_dir():
                raise UplinkError(f"{name}: there is no folder {folder}", remedy=_missing(folder))
        self._inbox.open()
        self._outbox.open()

    async def disconnect(self) -> None:
        """Nothing stays open between two steps."""

    # -- orders down

    async def list_orders(self, known: Mapping[str, str]) -> Listing:
        """The orders of all files that are whole. Touches nothing."""
        hands = await self._do(self._inbox.look, self._clock.monotonic())
        if not self._has_looked:
            self._has_looked = True
            if not self._inbox.is_empty and self._settings.settle <= _FIRST_WAIT_S:
                # After a start nothing has been seen twice: wait here, so that one look by itself tells what lies there.
                await self._clock.sleep(self._settings.settle)
                hands = await self._do(self._inbox.look, self._clock.monotonic())
        plans = [plan for hand in hands for plan, _ in hand.plans]
        refusals = {
            text: Refusal(None, None, return_status(fault.code), Problem(fault.code, text[:500]))
            for hand in hands
            for fault in hand.faults
            if (text := f"{shown(hand.found.name)}: {fault.sentence('en')}")
        }
        # What lies in the error folder stays told until somebody has taken it away.
        for text in await self._do(self._inbox.waiting):
            refusals.setdefault(text, Refusal(None, None, return_status("invalid_field"), Problem("invalid_field", text[:500])))
        return Listing(plans, is_complete=False, refusals=list(refusals.values()), source=hands)

    async def taken(self, listing: Listing, answers: Mapping[str, str | None]) -> None:
        """Files to `archive`, those with something to tell to `error`, each with its `.err`."""
        hands = listing.source
        assert isinstance(hands, list)
        found: list[InHand] = hands
        at = self._clock.now().astimezone(self._zone).isoformat(timespec="seconds")
        for hand in found:
            await self._do(self._inbox.settle, hand, answers, at)

    # -- confirmations up

    async def start(self, order: ErpOrder, at: datetime) -> Outcome:
        return await self._confirm(order, lambda known: booked.started(known, at))

    async def report_totals(self, order: ErpOrder, totals: Totals) -> Outcome:
        return await self._confirm(order, lambda known: booked.reported(known, totals))

    async def quality(self, order: ErpOrder, results: Sequence[Measurement]) -> Outcome:
        return await self._confirm(order, lambda known: booked.measured(known, results))

    async def close(self, order: ErpOrder, totals: Totals) -> Outcome:
        return await self._confirm(order, lambda known: booked.closed(known, totals))

    async def push_promise(self, order: ErpOrder, promise: PromisedDate) -> Outcome:
        return await self._confirm(order, lambda known: booked.promised(known, promise))

    async def _confirm(self, order: ErpOrder, make: Callable[[Booked], Confirmation | None]) -> Outcome:
        if order.is_forgotten:
            # Numbers that begin at nothing would tell the ERP once more what it has.
            return Outcome(Standing.REFUSED, _FORGOTTEN)
        memo = Memo.of(await self._last_memo(order), self._clock.now())
        if memo.owed:
            await self._do(self._outbox.show, memo.owed)
        confirmation = make(memo.booked)
        if confirmation is None:
            return BOOKED
        key = confirmation.booked.key
        try:
            files = self._writer.files(confirmation, self._facts(order, key))
        except UnicodeEncodeError as error:
            wrong = error.object[error.start : error.end]
            return Outcome(Standing.BLOCKED, f"`{wrong}` cannot be written in {self._settings.csv.encoding}; set `csv.encoding: utf-8`")
        named = {self._outbox.name(order.job_order_id, key, kind): data for kind, data in files.items()}
        if named:
            await self._do(self._outbox.write, order.job_order_id, named)
        await self._remember(order, Memo(booked=confirmation.booked, owed=tuple(named)).model_dump_json())
        if named:
            await self._do(self._outbox.show, tuple(named))
        return BOOKED

    async def _remember(self, order: ErpOrder, text: str) -> None:
        """Returns once it is on disk. A caller that gives up does not stop it: nobody could say then what the next call begins with."""
        task = asyncio.create_task(order.remember(text), name=f"files-memo-{order.key}")
        self._remembering = order.key, text, task
        await asyncio.shield(task)
        self._remembering = None

    async def _last_memo(self, order: ErpOrder) -> str | None:
        """The order's memo, or the one that was on its way to disk when an earlier call was given up."""
        if self._remembering is None:
            return order.memo
        key, text, task = self._remembering
        await asyncio.wait([task])
        self._remembering = None
        task.result()
        return text if key == order.key else order.memo

    def _facts(self, order: ErpOrder, key: str) -> dict[str, Any]:
        """What every row of a confirmation knows."""
        return {
            **order_note(order.note),
            "confirmation_id": f"{self._gateway_id}/{order.job_order_id}/{key}",
            "gateway": self._gateway_id,
            "job_order_id": order.job_order_id,
            "work_unit": order.work_unit,
            "work_center": self._settings.work_centers.get(order.work_unit, order.work_unit),
        }

    async def rights(self) -> Sequence[Right]:
        """Whether each folder is there and may be used, then whether a file can be moved between them. Leaves nothing behind."""
        found = []
        for name, folder in self._folders.items():
            try:
                await self._do(self._disk.look, folder)
            except UplinkError as error:
                found.append(Right(f"read {name} {folder}", str(error)))
            else:
                found.append(Right(f"read {name} {folder}"))
        try:
            await self.connect()
        except UplinkError as error:
            found.append(Right("move files from folder to folder", str(error)))
        else:
            found.append(Right("move files from folder to folder"))
        return found

    async def _do(self, work: Callable[..., _T], *arguments: object) -> _T:
        """One step on the folders, in the thread of their own. Raises UplinkError."""
        try:
            async with self._clock.timeout(_PATIENCE_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except TimeoutError as error:
            raise UplinkError(f"the folders do not answer for {_PATIENCE_S:g} s", silent=True, remedy=_SHARE) from error
        except OSError as error:
            where = error.filename or self._folders["inbox"].parent
            raise UplinkError(f"{error.strerror or error}: {where}", remedy=_remedy(error)) from error


def _reader(settings: FilesSettings, zone: ZoneInfo) -> Callable[[bytes], Orders]:
    if settings.format == "csv":
        columns = settings.columns.orders if settings.columns is not None else None
        return CsvOrders(columns or None, settings.csv, zone).read
    return B2mmlOrders(read_xml if settings.format == "b2mml-xml" else read_json, zone).read


_FORGOTTEN = (
    "the journal was damaged or restored and may not know all confirmations of this order, so no more are written; "
    "compare the order's totals on the page with what the ERP has and book the difference there by hand"
)
_SHARE = Text("Vérifier le partage réseau des dossiers d'échange.", "Check the network share of the exchange folders.")
_SAME_SYSTEM = Text(
    "Mettre `inbox`, `archive` et `error` sur le même système de fichiers et, sous systemd, sous un seul `ReadWritePaths` (files.conf).",
    "Put `inbox`, `archive` and `error` on the same file system and, under systemd, below a single `ReadWritePaths` (files.conf).",
)
_RIGHTS = Text(
    "Donner à la passerelle le droit d'écrire dans les quatre dossiers d'échange.",
    "Grant the gateway the right to write in the four exchange folders.",
)
_READ_ONLY = Text(
    "Monter le partage en écriture ; sous systemd, installer le fichier files.conf de lineside avec le dossier qui contient les quatre.",
    "Mount the share for writing; under systemd, install lineside's files.conf with the folder that the four lie in.",
)
_FULL = Text("Libérer de la place sur le disque des dossiers d'échange.", "Free space on the disk of the exchange folders.")


def _missing(folder: Path) -> Text:
    return Text(f"Créer le dossier {folder} ou monter son partage.", f"Create the folder {folder} or mount its share.")


def _remedy(error: OSError) -> Text:
    if error.errno == errno.EXDEV:
        return _SAME_SYSTEM
    if error.errno in (errno.EACCES, errno.EPERM):
        return _RIGHTS
    if error.errno == errno.EROFS:
        return _READ_ONLY
    return _FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else _SHARE
