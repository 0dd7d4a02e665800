"""The order number at the machine (`job: {tag: of_number}`): a number typed or sent there starts that order and ends the one before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Text
from gateway.domain.instants import moment
from gateway.domain.machine import MachineTime
from gateway.domain.production import Production
from gateway.domain.sample import Input, number_of
from gateway.domain.signals import Signals


class JobTag:
    """Acts on a change of the number only, also on one that happened while nobody looked: what a person decided at the machine, or a
    command since, is not undone by a number that merely still stands there."""

    def __init__(self, unit: WorkUnit, machine: MachineTime, production: Production, signals: Signals) -> None:
        self._unit = unit
        self._machine = machine
        self._production = production
        self._signals = signals
        self._number = ""

    def take(self, inputs: Mapping[str, Input]) -> bool:
        """The inputs of one sample; whether the number changed. After the counters: what they count was made before it was seen."""
        held = inputs.get(self._unit.job_tag or "")
        if held is None or held.bad:
            return False
        number = number_of(held.value)
        if number == self._number:
            return False
        self._number = number
        if number:
            self._start(number)
        else:
            self._signals.clear("job.number", self._machine.now)
        return True

    def _start(self, number: str) -> None:
        now, unit = self._machine.now, self._unit.name
        self._production.settle()
        self._machine.settle(now)
        transitions, refusal = self._production.ledger.switch_to(number, moment(now))
        # A second wrong number is a new alert: it names another order.
        self._signals.clear("job.number", now)
        if refusal is None:
            self._production.orders.moved(transitions)
            return
        fr, en = ("est inconnu", "is unknown") if refusal.code == "unknown_order" else ("est déjà terminé", "is already over")
        text = Text(f"{unit} : l'OF {number} saisi à la machine {fr}.", f"{unit}: the order {number} typed at the machine {en}.")
        self._signals.raise_(
            "job.number", "warning", text,
            Text(
                "Vérifier le numéro ; si l'OF vient seulement d'arriver, effacer et saisir de nouveau. L'OF en cours continue.",
                "Check the number; if the order has only just come, clear it and type it again. The running order goes on.",
            ),
            now, detail=refusal.text,
        )  # fmt: skip

    def dump(self) -> str:
        return self._number

    def load(self, state: Any) -> None:
        self._number = str(state)
