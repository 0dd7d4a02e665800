"""The drift charts of one work unit: what they are fed, and what is said when one of them reports a shift.

Every product has charts of its own, so that a change of product is no drift; what stood for the product before is cleared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from gateway.domain.beat import Beat
from gateway.domain.drift import Chart, Model, Shift
from gateway.domain.events import Text
from gateway.domain.instants import SECOND, Instant, moment
from gateway.domain.signals import Signals

PRODUCTS_KEPT = 8
"""Products whose charts are remembered; the snapshot carries them all. The one not made for longest is forgotten."""


@dataclass(frozen=True)
class Figure:
    """What a chart watches, in the technician's words, and where to look when it drifts."""

    fr: str
    en: str
    look_fr: str
    look_en: str
    unit: str = ""
    scale: float = 1.0


CYCLE_TIME = Figure(
    "Temps de cycle", "Cycle time",
    "Chercher ce qui ralentit la machine : réglage de vitesse, usure, lubrification, alimentation matière, température.",
    "Look for what slows the machine: speed setting, wear, lubrication, material feed, temperature.",
    "s",
)  # fmt: skip
MICRO_STOPS = Figure(
    "Micro-arrêts par heure de marche", "Micro-stops per hour of running",
    "Regarder où la machine s'arrête : capteurs sales, bourrages, guides, matière.",
    "Watch where the machine halts: dirty sensors, jams, guides, material.",
    scale=3600.0,
)  # fmt: skip
REJECTS = Figure(
    "Rebuts pour cent pièces", "Rejects in a hundred pieces",
    "Contrôler outil, matière et réglages avant de produire davantage ; vérifier le poste de contrôle lui-même.",
    "Check tool, material and settings before making more; verify the inspection station itself.",
    scale=100.0,
)  # fmt: skip


def measured(characteristic: str) -> Figure:
    return Figure(
        f"Mesure {characteristic}", f"Measured {characteristic}",
        "Vérifier d'abord le moyen de mesure, puis l'usure de l'outil et le réglage.",
        "Verify the gauge first, then tool wear and setting.",
    )  # fmt: skip


class DriftWatch:
    """`product` says whose charts are fed from now on; the other methods take observations in order of time."""

    def __init__(self, signals: Signals, time_zone: str, read_every_s: float | None = None) -> None:
        self._signals = signals
        self._zone = ZoneInfo(time_zone)
        self._beat = Beat(read_every_s)
        self._product = ""
        self._charts: dict[str, dict[str, Chart]] = {"": {}}
        self._run_us = 0
        """Running time since the last micro-stop."""

    def product(self, key: str, at: Instant) -> None:
        """Another product is made, or the same one at another ideal time."""
        if key == self._product:
            return
        for name, chart in self._charts[self._product].items():
            if chart.shifted:
                self._signals.clear(_alert(name), at)
        self._product = key
        self._charts[key] = self._charts.pop(key, {})
        for chart in self._charts[key].values():
            chart.resume(at)
        while len(self._charts) > PRODUCTS_KEPT:
            del self._charts[next(iter(self._charts))]
        self._run_us = 0
        self._beat.forget()

    def cycle(self, at: Instant, run_us: int, pieces: int, per_cycle: int = 1) -> None:
        """A gap has ended: `pieces` took `run_us` microseconds of running time."""
        self._run_us += run_us
        stops = self._charts[self._product].get("micro_stops")
        if stops is not None and stops.quiet(self._run_us / SECOND):
            run_s, self._run_us = self._run_us / SECOND, 0
            self._observe("micro_stops", "events", MICRO_STOPS, at, 0.0, run_s)
        if self._beat.none:
            self._observe("cycle_time", "cycle", CYCLE_TIME, at, run_us / pieces / SECOND)
            return
        for when, cycle_s in self._beat.gap(at, run_us, pieces, per_cycle):
            self._observe("cycle_time", "cycle", CYCLE_TIME, when, cycle_s)

    def micro_stop(self, at: Instant) -> None:
        """A standstill has ended that nobody explained and that stayed under the threshold."""
        run_s, self._run_us = self._run_us / SECOND, 0
        self._observe("micro_stops", "events", MICRO_STOPS, at, 1.0, max(run_s, 1e-3))

    def pieces(self, at: Instant, produced: int, rejected: int) -> None:
        """Pieces counted by a machine whose rejects are counted too."""
        self._observe("rejects", "share", REJECTS, at, float(rejected), float(max(produced, rejected)))

    def value(self, at: Instant, characteristic: str, value: float) -> None:
        """A new measurement."""
        figure = measured(characteristic)
        self._observe(f"{characteristic}.up", "mean_up", figure, at, value)
        self._observe(f"{characteristic}.down", "mean_down", figure, at, value)

    def _observe(self, name: str, model: Model, figure: Figure, at: Instant, amount: float, weight: float = 1.0) -> None:
        chart = self._charts[self._product].get(name)
        if chart is None:
            chart = self._charts[self._product][name] = Chart(model)
        found = chart.observe(at, amount, weight)
        if found is not None:
            self._tell(name, figure, found, at)

    def _tell(self, name: str, figure: Figure, found: Shift, at: Instant) -> None:
        if found.level is None:
            self._signals.clear(_alert(name), at)
            return
        usual, level = found.usual * figure.scale, found.level * figure.scale
        # Where the usual level is zero or next to it, a percentage says nothing.
        change = f" ({(level / usual - 1) * 100:+.1f} %)" if usual > 1e-9 else ""
        unit = f" {figure.unit}" if figure.unit else ""
        since = moment(found.since).astimezone(self._zone)
        now, before = f"{level:.4g}{unit}", f"{usual:.4g}{unit}{change}"
        self._signals.raise_(
            _alert(name), "warning",
            Text(
                f"{figure.fr} : {_comma(now)} depuis le {since:%d/%m à %H:%M}, d'habitude {_comma(before)}.",
                f"{figure.en}: {now} since {since:%Y-%m-%d %H:%M}, usually {before}.",
            ),
            Text(figure.look_fr, figure.look_en), at,
            detail=f"since {moment(found.since).isoformat()}, level {level:.6g}, usual {usual:.6g}, product {self._product or '-'}",
        )  # fmt: skip

    def dump(self) -> dict[str, Any]:
        return {
            "product": self._product, "run_us": self._run_us, "beat": self._beat.dump(),
            "charts": {key: {name: chart.dump() for name, chart in charts.items()} for key, charts in self._charts.items()},
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        self._product, self._run_us = state["product"], state["run_us"]
        if "beat" in state:
            self._beat.load(state["beat"])
        self._charts = {
            key: {name: Chart.load(chart) for name, chart in charts.items()} for key, charts in state["charts"].items()
        }  # fmt: skip


def _comma(number: str) -> str:
    return number.replace(".", ",")


def _alert(name: str) -> str:
    return f"drift.{name}"
