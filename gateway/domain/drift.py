"""Drift: a figure that has moved away from what is usual for this product, found by CUSUM charts of log-likelihood ratios.

A chart first learns what is usual (its warm-up), then sums, for each observation, how much better a shifted level explains it than the
usual one; below zero the sum starts again, above `ALARM` the shift is reported, with the moment at which the sum last left zero. After
that the same sum runs the other way and tells when the figure has come back.

Sources: Page, "Continuous inspection schemes", Biometrika 41 (1954), for the scheme; Lorden, "Procedures for reacting to a change in
distribution", Annals of Mathematical Statistics 42 (1971), for the bound: with exactly known levels a threshold A gives on average at
least exp(A) observations between false alarms; Lucas, "Counted data CUSUM's", Technometrics 27 (1985), for rates of events; Reynolds and
Stoumbos, "A CUSUM chart for monitoring a proportion when inspecting continuously", Journal of Quality Technology 31 (1999), for rejects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from gateway.domain.instants import Instant

ALARM = math.log(1e6)
"""A million observations between false alarms by Lorden's bound: levels are estimated, and cycle times are never quite independent."""
FEWEST = 8
"""No single observation counts for more than this share of an alarm: one odd cycle is no drift, nor are three."""
RELEARN = 2_000
"""A shift that has lasted this many observations is the new usual: somebody has decided to live with it."""

WARM_UP = 100
"""Values from which the usual level and its spread are learned: the mean is then known to a tenth of the spread."""
SLOW_DOWN = 0.05
"""The slow-down of the cycle time that the chart is tuned for, as a share of the usual cycle."""
LEAST_SPREAD = 0.01
"""A machine that seems never to vary was measured too coarsely: its spread is taken as at least this share of the level."""
LEAST_RESOLUTION = 1e-4
"""The same for a measured characteristic, whose spread says nothing beside its level: no gauge is better."""
MEAN_SHIFT = 1.5
"""The shift of a measured characteristic that the chart is tuned for, in its own standard deviations."""
MORE_OFTEN = 2.0
"""Micro-stops and rejects: the chart is tuned for twice the usual rate."""
QUIET = 2.0
"""Usual intervals without a micro-stop that are an observation by themselves while they come too often."""
WARM_UP_EVENTS = 30
"""Micro-stops from which their usual rate is learned."""
WARM_UP_PIECES = 1_000
"""Pieces from which the usual share of rejects is learned."""
MORE_REJECTS = 0.005
"""Where there were hardly any rejects, an increase by less than this share of the pieces is not worth a visit."""

Model = Literal["cycle", "mean_up", "mean_down", "events", "share"]


@dataclass(frozen=True)
class Reference:
    """What is usual, and what an observation says against it: `gain * amount - cost * weight`.

    `level` is amount per weight: seconds per cycle, the characteristic's own unit, micro-stops per second of running, rejects per piece.
    """

    level: float
    gain: float
    cost: float


@dataclass(frozen=True)
class Shift:
    """A chart's finding. `since`: when the figure left its usual level; `level`: its mean since then, None once it is back."""

    since: Instant
    usual: float
    level: float | None


@dataclass
class Chart:
    """One figure of one product on one machine. `observe` wants rising instants."""

    model: Model
    reference: Reference | None = None
    learned: list[float] = field(default_factory=list)
    """Warm-up of the models of single values."""
    amount: float = 0.0
    weight: float = 0.0
    """Sums of the warm-up (rates), later of the observations since the sum left zero."""
    sum: float = 0.0
    since: Instant = 0
    shifted: bool = False
    lasted: int = 0

    def observe(self, at: Instant, amount: float, weight: float = 1.0) -> Shift | None:
        """One more observation; a finding when the figure has just left its usual level, or come back to it.

        `amount` over `weight`: a value over 1, a number of events over the seconds run, rejects over pieces.
        """
        reference = self.reference
        if reference is None:
            self._learn(at, amount, weight)
            return None
        step = min(max(reference.gain * amount - reference.cost * weight, -ALARM / FEWEST), ALARM / FEWEST)
        self.sum += -step if self.shifted else step
        if self.sum <= 0:
            self.sum, self.since, self.amount, self.weight = 0.0, at, 0.0, 0.0
        else:
            self.amount += amount
            self.weight += weight
        if not self.shifted:
            return self._left(reference) if self.sum > ALARM else None
        self.lasted += 1
        if self.sum > ALARM:
            return self._back(reference)
        if self.lasted >= RELEARN:
            self.reference = None
            return self._back(reference)
        return None

    def resume(self, at: Instant) -> None:
        """The product comes back: its usual level stays, what had gathered against it says nothing of today. A shift that goes on is
        found, and told, anew."""
        self.shifted, self.sum, self.since, self.lasted = False, 0.0, at, 0
        if self.reference is not None:
            self.amount = self.weight = 0.0

    def quiet(self, weight: float) -> bool:
        """Whether so long without an event says already that it has become seldom again: else a cure is seen with the next events only."""
        return self.shifted and self.reference is not None and weight * self.reference.level >= QUIET

    def _left(self, reference: Reference) -> Shift:
        found = Shift(self.since, reference.level, self.amount / self.weight)
        self.shifted, self.lasted, self.sum, self.amount, self.weight = True, 0, 0.0, 0.0, 0.0
        return found

    def _back(self, reference: Reference) -> Shift:
        self.shifted, self.sum, self.amount, self.weight = False, 0.0, 0.0, 0.0
        return Shift(self.since, reference.level, None)

    def _learn(self, at: Instant, amount: float, weight: float) -> None:
        if self.model in ("events", "share"):
            self.amount += amount
            self.weight += weight
            enough = self.amount >= WARM_UP_EVENTS if self.model == "events" else self.weight >= WARM_UP_PIECES
        else:
            self.learned.append(amount)
            enough = len(self.learned) >= WARM_UP
        if enough:
            self.reference = self._usual()
            self.learned, self.amount, self.weight, self.since = [], 0.0, 0.0, at

    def _usual(self) -> Reference:
        if self.model == "events":
            return _events(self.amount / self.weight)
        if self.model == "share":
            # Half a reject more than were seen: none in a thousand pieces does not mean never.
            return _share((self.amount + 0.5) / (self.weight + 1))
        mean, spread = _centre(self.learned)
        if self.model == "cycle":
            return _mean(mean, max(spread, LEAST_SPREAD * mean), SLOW_DOWN * mean)
        spread = max(spread, LEAST_RESOLUTION * abs(mean), 1e-12)
        return _mean(mean, spread, MEAN_SHIFT * spread if self.model == "mean_up" else -MEAN_SHIFT * spread)

    def dump(self) -> list[Any]:
        """JSON-able and cheap: it is written with every commit."""
        reference = self.reference
        known = None if reference is None else [reference.level, reference.gain, reference.cost]
        return [self.model, known, self.learned, self.amount, self.weight, self.sum, self.since, self.shifted, self.lasted]

    @classmethod
    def load(cls, row: Sequence[Any]) -> Chart:
        model, reference, *rest = row
        return cls(model, None if reference is None else Reference(*reference), *rest)


def _centre(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation without what a few odd values do to them: from the 16 % and 84 % points, which lie a standard
    deviation off in a normal distribution; the mean is that of the values within three of them."""
    ranked = sorted(values)
    last = len(ranked) - 1
    low, middle, high = (ranked[round(share * last)] for share in (0.16, 0.5, 0.84))
    spread = (high - low) / 2
    return fmean(v for v in ranked if abs(v - middle) <= 3 * spread), spread


def _mean(mean: float, spread: float, shift: float) -> Reference:
    """Normal values: the log-likelihood ratio of mean + shift against mean is shift * (x - mean - shift / 2) / spread^2."""
    gain = shift / spread**2
    return Reference(mean, gain, gain * (mean + shift / 2))


def _events(rate: float) -> Reference:
    """Poisson events: n ln(r) - (r - 1) * rate * time."""
    return Reference(rate, math.log(MORE_OFTEN), (MORE_OFTEN - 1) * rate)


def _share(usual: float) -> Reference:
    """Independent pieces: x ln(q/p) + (n - x) ln((1 - q)/(1 - p))."""
    shifted = min(max(MORE_OFTEN * usual, usual + MORE_REJECTS), (1 + usual) / 2)
    kept = math.log((1 - shifted) / (1 - usual))
    return Reference(usual, math.log(shifted / usual) - kept, -kept)
