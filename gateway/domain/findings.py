"""What the counters of a work unit show besides pieces: gaps as events, and alerts in the technician's words."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from gateway.domain.counters import Count, Number
from gateway.domain.events import CounterGap, Event, Text
from gateway.domain.instants import SECOND, Instant, moment
from gateway.domain.sample import SampleValue
from gateway.domain.signals import SHOWN_FOR, Signals


class CounterFindings:
    def __init__(self, work_unit: str, signals: Signals, emit: Callable[[Event], None]) -> None:
        self._work_unit = work_unit
        self._signals = signals
        self._emit = emit

    def gap(self, tag: str, count: Count, value: Number | None, now: Instant, job: str | None, *, expected: bool = False) -> None:
        """A counter made a step that is none of pieces alone. `value`: its reading, `now` the time of it; `expected`: a reset of it is
        no news."""
        previous = None if count.previous is None else Decimal(count.previous)
        read = None if value is None else Decimal(value)
        if count.kind is not None:
            self._emit(
                CounterGap(
                    work_unit=self._work_unit, at=moment(now), job_order_id=job, kind=count.kind, tag=tag, previous=previous, value=read,
                    gap_s=None if count.since is None else (now - count.since) / SECOND,
                )
            )  # fmt: skip
        if count.kind == "glitch":
            jump = (read or Decimal(0)) - (previous or Decimal(0))
            self._signals.raise_(
                f"counter.glitch:{tag}", "warning",
                Text(f"Saut du compteur {tag} de {jump:+}, non compté.", f"Counter {tag} jumped by {jump:+}, not counted."),
                Text("Contrôler le compteur et son câblage.", "Check the counter and its wiring."), now, detail=f"{previous} -> {read}",
            )  # fmt: skip
        if count.kind == "level" or count.undone:
            self._signals.clear(f"counter.glitch:{tag}", now)
        if count.kind == "reset" and not expected:
            self._signals.raise_(
                f"counter.reset:{tag}", "info",
                Text(f"Compteur {tag} remis à zéro.", f"Counter {tag} was reset."),
                Text("Le signaler si ce n'était pas prévu.", "Report it if it was not planned."), now,
                detail=f"{previous} -> {read}", until=now + SHOWN_FOR,
            )  # fmt: skip

    def no_next_order(self, tag: str, job: str, now: Instant) -> None:
        """A counter that is reset for each order was reset and no order came: its pieces went back to the one that runs."""
        self._signals.raise_(
            f"counter.reset:{tag}", "warning",
            Text(f"Compteur {tag} remis à zéro sans changement d'ordre : ses pièces restent à {job}.",
                 f"Counter {tag} was reset without a change of order: its pieces stay with {job}."),
            Text("Vérifier l'ordre en cours, corriger avec Reassign ou DeclareProduction.",
                 "Check the running order, correct with Reassign or DeclareProduction."),
            now, until=now + SHOWN_FOR,
        )  # fmt: skip

    def ideal(self, tag: str, value: SampleValue, now: Instant, *, usable: bool) -> None:
        """What the machine tells as its ideal time is one, or none."""
        key = f"ideal.unusable:{tag}"
        if usable:
            self._signals.clear(key, now)
            return
        self._signals.raise_(
            key, "info",
            Text(f"Le tag {tag} ({value}) ne donne pas de temps de cycle idéal : il n'est pas utilisé.",
                 f"The tag {tag} ({value}) gives no ideal cycle time: it is not used."),
            Text("Régler la cadence nominale dans l'automate, ou donner `ideal_cycle_time.default`.",
                 "Set the design speed in the PLC, or give `ideal_cycle_time.default`."), now,
        )  # fmt: skip

    def disagree(self, missing: Decimal, now: Instant) -> None:
        """More rejects than pieces to reject."""
        self._signals.raise_(
            "counter.disagree", "warning",
            Text(f"{missing} rebuts de plus que de pièces produites : les compteurs se contredisent.",
                 f"{missing} more rejects than pieces made: the counters disagree."),
            Text("Contrôler les compteurs de pièces et de rebuts.", "Check the piece and reject counters."),
            now, until=now + SHOWN_FOR,
        )  # fmt: skip
