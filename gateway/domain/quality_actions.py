"""What a failed result does to its order, where a requirement says so: an alert, a piece marked, the order held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from gateway.domain.events import Text
from gateway.domain.inspection import Failed
from gateway.domain.instants import Instant, moment
from gateway.domain.job import Job
from gateway.domain.job_order import JobState
from gateway.domain.ledger import Ledger
from gateway.domain.machine import MachineTime
from gateway.domain.orders import Orders
from gateway.domain.quality import OnFail
from gateway.domain.signals import Signals


class QualityActions:
    """`mark(what, quantity, job, at)` makes good pieces scrap or rework."""

    def __init__(
        self, machine: MachineTime, ledger: Ledger, orders: Orders, signals: Signals, mark: Callable[[str, Decimal, Job, Instant], None]
    ) -> None:
        self._machine = machine
        self._ledger = ledger
        self._orders = orders
        self._signals = signals
        self._mark = mark
        self._held: set[str] = set()
        self._alerted: set[str] = set()

    def act(self, failed: list[Failed]) -> None:
        """On the results of one moment. They are of one piece: whatever failed on it, it is marked once."""
        for one in failed:
            if one.limits.on_fail in (OnFail.ALERT, OnFail.HOLD):
                self._alert(one)
        for what in (OnFail.SCRAP, OnFail.REWORK):
            wanted = next((one for one in failed if one.limits.on_fail == what and one.job.good >= 1), None)
            if wanted is not None:
                self._mark(what.value, Decimal(1), wanted.job, wanted.at)
                break
        held = next((one for one in failed if one.limits.on_fail == OnFail.HOLD), None)
        if held is not None:
            self._hold(held)

    def passed(self, characteristic: str) -> None:
        """A later result lies within its limits."""
        if characteristic in self._alerted:
            self._alerted.discard(characteristic)
            self._signals.clear(f"quality.failed:{characteristic}", self._machine.now)

    def look(self, running: Job | None) -> None:
        """Alerts of orders that go on or are over stand no longer."""
        for job_order_id in sorted(self._held):
            job = self._ledger.get(job_order_id)
            if job is None or job.state is not JobState.INTERRUPTED:
                self._held.discard(job_order_id)
                self._signals.clear(f"quality.hold:{job_order_id}", self._machine.now)
        if running is None and not self._held:
            for characteristic in sorted(self._alerted):
                self.passed(characteristic)

    def _alert(self, one: Failed) -> None:
        name, characteristic, said = self._machine.unit.name, one.limits.characteristic, _said(one)
        self._alerted.add(characteristic)
        self._signals.raise_(
            f"quality.failed:{characteristic}", "warning",
            Text(f"{name} : {said} sur l'OF {one.job.job_order_id}.", f"{name}: {said} on order {one.job.job_order_id}."),
            Text("Contrôler les pièces faites depuis la dernière mesure bonne.", "Check the pieces made since the last good measurement."),
            self._machine.now,
        )  # fmt: skip

    def _hold(self, one: Failed) -> None:
        if one.job is not self._ledger.running:
            return
        now, name, order = self._machine.now, self._machine.unit.name, one.job.job_order_id
        self._machine.settle(now)
        self._held.add(order)
        self._signals.raise_(
            f"quality.hold:{order}", "critical",
            Text(f"{name} : OF {order} suspendu, {_said(one)}.", f"{name}: order {order} is held, {_said(one)}."),
            Text(
                "Arrêter la machine, corriger, puis reprendre l'OF (Resume).",
                "Stop the machine, correct the fault, then go on with the order (Resume).",
            ),
            now,
        )  # fmt: skip
        self._orders.moved(self._ledger.hold(moment(now)), problem=f"quality: {_said(one)}")

    def dump(self) -> dict[str, Any]:
        return {"held": sorted(self._held), "alerted": sorted(self._alerted)}

    def load(self, state: Mapping[str, Any]) -> None:
        self._held, self._alerted = set(state.get("held", ())), set(state.get("alerted", ()))


def _said(one: Failed) -> str:
    limits = one.limits
    unit = f" {limits.unit}" if limits.unit else ""
    beyond = f"> {limits.upper}" if limits.upper is not None and one.value > limits.upper else f"< {limits.lower}"
    asked = f" ({limits.required_by})" if limits.required_by else ""
    return f"{limits.characteristic} {one.value} {beyond}{unit}{asked}"
