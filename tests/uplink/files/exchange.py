"""An ERP on one side of the folders, a line on the other, and a hand that pulls the plug between any two calls that touch a folder.

The ERP writes orders and reads confirmations at the same moments: before every step of the gateway it may do something of its own.
"""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway.seams import UplinkError
from gateway.uplink.erp.files.disk import Disk, Found
from gateway.uplink.erp.files.inbox import Inbox
from gateway.uplink.erp.files.outbox import Outbox
from gateway.uplink.erp.files.port import FilesPort
from gateway.uplink.erp.files.settings import FilesSettings
from gateway.uplink.erp.port import Consumption, ErpOrder, Measurement, Plan, PromisedDate, Standing, Stop, Totals

HEADER = "job_order_id;work_unit;product_id;quantity;unit"


class Clock:
    """Moves when the line turns; no step of the folders ever hangs here."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 25, 6, tzinfo=UTC)
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return nullcontext()


class AtOnce(Executor):
    """Runs each step where it is asked for: ten thousand interruptions need no second thread."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments, **named))
        except (Killed, OSError, UplinkError) as error:
            future.set_exception(error)
        return future


class Killed(Exception):
    """The process is gone at this very step."""


def settings(folder: Path, **changed: Any) -> FilesSettings:
    folders = {name: str(folder / name) for name in ("inbox", "archive", "error", "outbox")}
    for path in folders.values():
        Path(path).mkdir(exist_ok=True)
    return FilesSettings.model_validate({"type": "files", "format": "csv", "settle": 0.5, "grace": 1e4, **folders, **changed})


def port(folder: Path, clock: Any, disk: Disk | None = None, **changed: Any) -> FilesPort:
    made = FilesPort(
        settings(folder, **changed), gateway_id="line-pc-07", work_units=["press-07"], time_zone="Europe/Paris", clock=clock, disk=disk
    )
    made._thread.shutdown()
    made._thread = AtOnce()  # type: ignore[assignment]
    return made


class Erp:
    """Writes order files in every bad manner, and posts each confirmation once by its name."""

    def __init__(self, folder: Path, dice: random.Random, most_orders: int) -> None:
        self._inbox = folder / "inbox"
        self._outbox = folder / "outbox"
        self._dice = dice
        self._most_orders = most_orders
        self.orders: list[str] = []
        self.given_up: set[str] = set()
        """Orders whose file the ERP itself took back or wrote over: they may be taken or not, but never twice."""
        self._sent: dict[str, str] = {}
        self._half: dict[str, str] = {}
        self.mischief = 2
        """How often it may still take a file back or write over one."""
        self._files = 0
        self.posted: dict[str, bytes] = {}
        self.wrong: list[str] = []

    def act(self) -> None:
        acts = {
            self._send: 0.5, self._send_half: 0.4, self._finish_half: 2, self._send_again: 0.4, self._rename: 0.4,
            self._overwrite: 0.1 if self.mischief else 0, self._take_back: 0.1 if self.mischief else 0, self._collect: 12,
        }  # fmt: skip
        self._dice.choices(list(acts), list(acts.values()))[0]()

    def _content(self) -> str:
        """One or two new orders."""
        rows = []
        for _ in range(self._dice.choice((1, 1, 2))):
            order = f"OF-{len(self.orders) + 1:05d}"
            self.orders.append(order)
            rows.append(f"{order};press-07;ART-1;{self._dice.randint(1, 999)};C62")
        return "\n".join((HEADER, *rows, ""))

    def _name(self) -> str:
        self._files += 1
        return f"orders_{self._files:05d}.csv"

    def _send(self) -> None:
        if len(self.orders) < self._most_orders:
            name, content = self._name(), self._content()
            self._sent[name] = content
            (self._inbox / f"{name}.tmp").write_text(content)
            (self._inbox / f"{name}.tmp").rename(self._inbox / name)

    def _send_half(self) -> None:
        """Without a temporary name, as many do; the rest comes later."""
        if len(self.orders) < self._most_orders:
            name, content = self._name(), self._content()
            cut = self._dice.randint(1, len(content) - 2)
            while content[cut - 1] == "\n":
                cut -= 1
            self._half[name] = content[cut:]
            self._sent[name] = content
            (self._inbox / name).write_text(content[:cut])

    def _finish_half(self) -> None:
        for name in list(self._half)[:1]:
            with (self._inbox / name).open("a") as file:
                file.write(self._half.pop(name))

    def finish(self) -> None:
        while self._half:
            self._finish_half()

    def _some_sent(self) -> str | None:
        whole = [name for name in self._sent if name not in self._half]
        return self._dice.choice(whole) if whole else None

    def _send_again(self) -> None:
        name = self._some_sent()
        if name is not None and not (self._inbox / name).exists():
            (self._inbox / name).write_text(self._sent[name])

    def send_everything_again(self) -> None:
        """Under its own name, and under another. Not what the ERP took back itself: when the plug was pulled between commit and move just
        then, nobody can know any more that it was taken, but the ledger, and that forgets."""
        for name, content in self._sent.items():
            if self.given_up & set(self._orders_in(content)):
                continue
            (self._inbox / name).write_text(content)
            (self._inbox / f"old_{name}").write_text(content)

    def _rename(self) -> None:
        name = self._some_sent()
        if name is not None:
            (self._inbox / f"copy_{self._dice.randint(1, 10**9)}.csv").write_text(self._sent[name])

    def _overwrite(self) -> None:
        """A used name for other orders: these are never taken once the first were; the first may be lost if they were not yet read."""
        name = self._some_sent()
        if name is not None and len(self.orders) < self._most_orders:
            self.mischief -= 1
            before = set(self._orders_in(self._sent[name]))
            content = self._content()
            self.given_up |= before | set(self._orders_in(content))
            (self._inbox / name).write_text(content)

    def _take_back(self) -> None:
        name = self._some_sent()
        if name is not None and (self._inbox / name).exists():
            self.mischief -= 1
            self.given_up |= set(self._orders_in((self._inbox / name).read_text())) | set(self._orders_in(self._sent[name]))
            (self._inbox / name).unlink()

    @staticmethod
    def _orders_in(content: str) -> list[str]:
        return [line.split(";")[0] for line in content.splitlines()[1:]]

    def _collect(self) -> None:
        """Take some confirmation; now and then the reader dies between posting and removing, and sees the file again."""
        found = sorted(path for path in self._outbox.iterdir() if not path.name.startswith("."))
        if found:
            path = self._dice.choice(found)
            data = path.read_bytes()
            if self.posted.setdefault(path.name, data) != data:
                self.wrong.append(f"{path.name} came twice, with different content")
            if not data.endswith(b"\r\n"):
                self.wrong.append(f"{path.name} is half a file")
            if self._dice.random() < 0.8:
                path.unlink()

    def collect_all(self) -> None:
        while any(not path.name.startswith(".") for path in self._outbox.iterdir()):
            self._collect()

    def book(self, kind: str) -> dict[str, list[dict[str, str]]]:
        """Order -> rows of this kind that were posted."""
        found: dict[str, list[dict[str, str]]] = {}
        for name, data in self.posted.items():
            if name.endswith(f"_{kind}.csv") and data.endswith(b"\r\n"):
                for row in csv.DictReader(io.StringIO(data.decode()), delimiter=";"):
                    found.setdefault(row["job_order_id"], []).append(row)
        return found


class Fuse:
    """Steps until the plug is pulled; None: never."""

    def __init__(self, erp: Erp, dice: random.Random, busy: float) -> None:
        self.left: int | None = None
        self._erp = erp
        self._dice = dice
        self._busy = busy

    def step(self) -> None:
        while self._dice.random() < self._busy:
            self._erp.act()
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


class FusedDisk(Disk):
    """Every primitive call is a step. Without fsync: what is asked of it here is the order of the calls, and ten thousand cost an hour."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse

    def look(self, folder: Path) -> list[Found]:
        self._fuse.step()
        return super().look(folder)

    def exists(self, path: Path) -> bool:
        self._fuse.step()
        return super().exists(path)

    def read(self, path: Path, limit: int) -> bytes:
        self._fuse.step()
        return super().read(path, limit)

    def write(self, path: Path, data: bytes) -> None:
        self._fuse.step()
        path.write_bytes(data[: len(data) // 2])
        self._fuse.step()
        path.write_bytes(data)
        self._fuse.step()

    def rename(self, source: Path, target: Path) -> None:
        self._fuse.step()
        super().rename(source, target)

    def sync(self, folder: Path) -> None:
        self._fuse.step()

    def make(self, folder: Path) -> None:
        self._fuse.step()
        super().make(folder)

    def remove(self, path: Path) -> None:
        self._fuse.step()
        super().remove(path)


@dataclass
class Account:
    """What is on disk of an order: the plan, the memo, and what the machine has come to."""

    plan: Plan
    memo: str | None = None
    good: int = 0
    scrap: int = 0
    stops: list[Stop] = field(default_factory=list)
    results: list[Measurement] = field(default_factory=list)
    results_booked: int = 0
    ended: bool = False
    verdict: int = 0


@dataclass
class Line:
    """The engine's part in small: durable accounts, and calls to the port until everything is booked."""

    folder: Path
    fuse: Fuse
    dice: random.Random
    clock: Clock
    port_of: Any = port
    accounts: dict[str, Account] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    answered: dict[tuple[str, str], float] = field(default_factory=dict)
    interruptions: int = 0

    def __post_init__(self) -> None:
        self._new_process()

    def _new_process(self) -> None:
        self.port: FilesPort = self.port_of(self.folder, self.clock, FusedDisk(self.fuse))
        self._connected = False

    async def turn(self) -> None:
        """One poll and one round of bookings, or as much of it as the fuse allows."""
        try:
            if not self._connected:
                await self.port.connect()
                self._connected = True
            await self._poll()
            for key in list(self.accounts):
                self._work(self.accounts[key])
                await self._book(self.accounts[key])
        except Killed:
            self.interruptions += 1
            self._new_process()

    async def _poll(self) -> None:
        self.clock.advance(1.0)
        listing = await self.port.list_orders({key: account.plan.revision for key, account in self.accounts.items()})
        self.fuse.step()
        for plan in listing.plans:
            command = plan.key, plan.revision
            # As the intake does: a command that was answered lately is answered the same again. Only lately: memory has an end.
            if self.clock.monotonic() - self.answered.get(command, -1e9) > 120:
                self.taken[plan.key] += 1
                self.accounts[plan.key] = Account(plan)
                self.answered[command] = self.clock.monotonic()
        self.fuse.step()
        await self.port.taken(listing, {plan.key: None for plan in listing.plans})

    def _work(self, account: Account) -> None:
        """The machine; what it does is in the ledger before anything is told."""
        if account.ended or self.dice.random() < 0.7:
            return
        account.good += self.dice.randint(0, 5)
        account.scrap += self.dice.randint(0, 1)
        if account.good and self.dice.random() < 0.2:
            account.good, account.scrap = account.good - 1, account.scrap + 1
        at = self.clock.now()
        if self.dice.random() < 0.2:
            number = len(account.stops) + 1
            account.stops.append(Stop(f"{account.plan.key}-s{number}", at - timedelta(seconds=9), at, "jam", induced=False))
        if self.dice.random() < 0.3:
            number = len(account.results) + 1
            account.results.append(
                Measurement(f"{account.plan.key}-q{number}", at, "bore", Decimal("12.01"), "MMT", None, None, passed=True, lot_id=None)
            )
        account.verdict += self.dice.random() < 0.1
        account.ended = self.dice.random() < 0.1

    def totals(self, account: Account) -> Totals:
        made = Decimal(account.good + account.scrap)
        steel = (Consumption("STEEL", "LOT-1", "Consumed", made * Decimal("0.16"), "KGM"),) if made else ()
        return Totals(
            self.clock.now(), Decimal(account.good), Decimal(account.scrap), Decimal(0), "C62", steel, run_s=float(made) * 1.5,
            stops=tuple(account.stops),
        )  # fmt: skip

    async def _book(self, account: Account) -> None:
        async def keep(memo: str) -> None:
            self.fuse.step()
            account.memo = memo
            self.fuse.step()

        plan = account.plan
        order = ErpOrder(plan.key, plan.job_order.job_order_id, plan.work_unit, account.memo, keep, note=plan.note)
        now = self.clock.now()
        calls = [self.port.start(order, now)]
        outcomes = [await call for call in calls]
        if account.results_booked < len(account.results):
            fresh = account.results[account.results_booked :]
            outcomes.append(await self.port.quality(order, fresh))
            self.fuse.step()
            account.results_booked += len(fresh)
        outcomes.append(await self.port.report_totals(order, self.totals(account)))
        if account.ended:
            outcomes.append(await self.port.close(order, self.totals(account)))
        outcomes.append(await self.port.push_promise(order, PromisedDate(now, None, None, f"verdict-{account.verdict}", "rate")))
        assert {outcome.standing for outcome in outcomes} == {Standing.BOOKED}


def faults(erp: Erp, line: Line, folder: Path) -> list[str]:
    """Everything that is not as it has to be, at the end when nothing is under way any more."""
    wrong = list(erp.wrong)
    for order in erp.orders:
        times = line.taken[order]
        if times > 1 or (times == 0 and order not in erp.given_up):
            wrong.append(f"{order} was taken {times} times")
    for order, rows in erp.book("promise").items():
        said = [row["verdict"] for row in sorted(rows, key=lambda row: row["confirmation_id"])]
        if len(set(said)) != len(said) or said[-1] != f"verdict-{line.accounts[order].verdict}":
            wrong.append(f"{order}: promises {said}")
    sums: dict[str, Counter[str]] = {}
    for order, rows in erp.book("totals").items():
        sums[order] = Counter()
        for row in rows:
            for name in ("good", "scrap", "run_s"):
                sums[order][name] += Decimal(row[name])  # type: ignore[assignment]
    steel = {order: sum(Decimal(row["quantity"]) for row in rows) for order, rows in erp.book("consumption").items()}
    once = {kind: erp.book(kind) for kind in ("start", "close", "quality", "stops", "promise")}
    for key, account in line.accounts.items():
        booked = sums.get(key, Counter())
        made = Decimal(account.good + account.scrap)
        if (booked["good"], booked["scrap"], booked["run_s"]) != (account.good, account.scrap, made * Decimal("1.5")):
            wrong.append(f"{key}: {dict(booked)} instead of {account.good} good, {account.scrap} scrap")
        if steel.get(key, Decimal(0)) != made * Decimal("0.16"):
            wrong.append(f"{key}: {steel.get(key)} of steel instead of {made * Decimal('0.16')}")
        for kind, expected in (("start", 1), ("close", int(account.ended))):
            if len(once[kind].get(key, ())) != expected:
                wrong.append(f"{key}: {kind} came {len(once[kind].get(key, ()))} times")
        for kind, name, every in (
            ("quality", "result_id", [result.id for result in account.results]),
            ("stops", "stop_id", [stop.stop_id for stop in account.stops]),
        ):
            told = Counter(row[name] for row in once[kind].get(key, ()))
            if told != Counter(every):
                wrong.append(f"{key}: {kind} {told} instead of {every}")
    for left in ("inbox", "archive/.taking", "outbox/.pending"):
        names = [path.name for path in (folder / left).iterdir()]
        if names:
            wrong.append(f"left in {left}: {names}")
    errors = {path.name for path in (folder / "error").iterdir()}
    wrong += [f"{name} has no .err" for name in errors if not name.endswith(".err") and f"{name}.err" not in errors]
    return wrong


class HastyOutbox(Outbox):
    """A control: writes straight into the ERP's sight, as most exports do. It must be caught."""

    def write(self, job_order_id: str, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            self._disk.write(self._folder / name, data)

    def show(self, owed: Sequence[str]) -> None:
        pass


class ForgetfulInbox(Inbox):
    """A control: knows no file that it took before. It must be caught."""

    def _known(self, name: str, digest: str) -> None:
        return None


def hasty_port(folder: Path, clock: Clock, disk: Disk) -> FilesPort:
    made = port(folder, clock, disk)
    made._outbox.__class__ = HastyOutbox
    return made


def forgetful_port(folder: Path, clock: Clock, disk: Disk) -> FilesPort:
    made = port(folder, clock, disk)
    made._inbox.__class__ = ForgetfulInbox
    return made


async def run(folder: Path, seed: int, interruptions: int, *, port_of: Any = port, busy: float = 0.15) -> tuple[Erp, Line]:
    """Until the plug was pulled so often, then to the end in peace."""
    dice = random.Random(seed)
    settings(folder)
    erp = Erp(folder, dice, most_orders=12)
    fuse = Fuse(erp, dice, busy)
    line = Line(folder, fuse, dice, Clock(), port_of)
    turns = 0
    while line.interruptions < interruptions:
        fuse.left = dice.choice((dice.randint(0, 12), dice.randint(0, 80)))
        await line.turn()
        turns += 1
        assert turns < interruptions * 60, "the line gets nowhere"
    fuse.left = None
    erp.finish()
    for _ in range(4):
        await line.turn()
        erp.collect_all()
    fuse._busy = 0.0
    erp.finish()
    for _ in range(4):
        await line.turn()
    # Much later, when the line itself remembers no command any more.
    line.clock.advance(30 * 86400)
    erp.send_everything_again()
    for _ in range(60):
        await line.turn()
        erp.collect_all()
        if all(account.ended for account in line.accounts.values()) and not any((folder / "inbox").iterdir()):
            break
    for _ in range(3):
        await line.turn()
    erp.collect_all()
    return erp, line
