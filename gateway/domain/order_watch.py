"""More or fewer pieces than ordered, told while it can still be decided: over-production of a running job, a job ended short."""

from __future__ import annotations

from gateway.domain.events import Text
from gateway.domain.job import Job
from gateway.domain.job_order import JobState
from gateway.domain.machine import MachineTime
from gateway.domain.signals import SHOWN_FOR, Signals


class OrderWatch:
    """Looks at a job whenever its progress is told; what it remembers are the alerts that stand."""

    def __init__(self, machine: MachineTime, signals: Signals) -> None:
        self._machine = machine
        self._signals = signals

    def look(self, job: Job) -> None:
        """`job.over:JOB` stands while the job goes on beyond its quantity, `job.short:JOB` for a while after it ended below."""
        name, ordered, good, now = job.job_order_id, job.order.quantity, job.good, self._machine.now
        unit = self._machine.unit.name
        if ordered is not None and good > ordered and not job.is_over:
            self._signals.raise_(
                f"job.over:{name}", "warning",
                Text(
                    f"{unit} : {name} a plus que les {ordered:f} pièces commandées.",
                    f"{unit}: {name} has more than the {ordered:f} ordered.",
                ),
                Text("Terminer l'OF, ou augmenter sa quantité (Update).", "End the order, or raise its quantity (Update)."),
                now, detail=f"{good:f} good",
            )  # fmt: skip
        else:
            self._signals.clear(f"job.over:{name}", now)
        if ordered is not None and good < ordered and job.state is JobState.ENDED:
            self._signals.raise_(
                f"job.short:{name}", "info",
                Text(
                    f"{unit} : {name} terminé à {good:f} sur {ordered:f} pièces.",
                    f"{unit}: {name} ended with {good:f} of {ordered:f} pieces.",
                ),
                Text("Décider si le reste est à relancer.", "Decide whether the rest is to be ordered again."),
                now, until=now + SHOWN_FOR,
            )  # fmt: skip
        else:
            self._signals.clear(f"job.short:{name}", now)
