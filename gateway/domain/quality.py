"""Quality results: which limits apply to a measured value, and whether it passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from gateway.domain.job_order import Problem, QualityRequirement


class QualityVerdict(StrEnum):
    """`result` of a `quality.result` event."""

    PASS = "Pass"
    FAIL = "Fail"


class OnFail(StrEnum):
    """What a failed result does (`on_fail` of a requirement); without it the result is told and nothing more."""

    ALERT = "alert"
    SCRAP = "scrap"
    REWORK = "rework"
    HOLD = "hold"


def judge(requirement: QualityRequirement, value: Decimal) -> QualityVerdict:
    """Pass when `value` lies within the limits, both included; a limit that is None does not limit."""
    too_low = requirement.lower is not None and value < requirement.lower
    too_high = requirement.upper is not None and value > requirement.upper
    return QualityVerdict.FAIL if too_low or too_high else QualityVerdict.PASS


def effective_requirement(
    characteristic: str,
    unit_limits: QualityRequirement | None,
    *,
    product: Iterable[QualityRequirement] = (),
    order: Iterable[QualityRequirement] = (),
) -> QualityRequirement | None:
    """The requirement a value of `characteristic` is judged by: the order's, else the product's, else the work unit's own; or None.

    Within one list the requirement that names who asked for it (`required_by`, a customer) wins over one that does not. A requirement
    applies whole: limits of two sources are never mixed, so that the result always shows limits that somebody really asked for. Only a
    missing unit of measure, sampling or `on_fail` is taken from the next source: a customer who names limits does not say how to work.
    """
    own = (unit_limits,) if unit_limits is not None and unit_limits.characteristic == characteristic else ()
    candidates = [*_asked_first(characteristic, order), *_asked_first(characteristic, product), *own]
    if not candidates:
        return None
    unit = next((c.unit for c in candidates if c.unit is not None), None)
    on_fail = next((c.on_fail for c in candidates if c.on_fail is not None), None)
    sampled = next((c for c in candidates if c.is_sampled), candidates[0])
    chosen: QualityRequirement = replace(
        candidates[0], unit=unit, on_fail=on_fail, every_pieces=sampled.every_pieces, every_s=sampled.every_s
    )
    return chosen


def _asked_first(characteristic: str, requirements: Iterable[QualityRequirement]) -> list[QualityRequirement]:
    return sorted((r for r in requirements if r.characteristic == characteristic), key=lambda r: r.required_by is None)


def limits_problem(requirement: QualityRequirement) -> Problem | None:
    """A problem `limits_invalid` when lower, target and upper are not finite numbers in this order."""
    given = [limit for limit in (requirement.lower, requirement.target, requirement.upper) if limit is not None]
    if all(limit.is_finite() for limit in given) and given == sorted(given):
        return None
    shown = ", ".join(str(limit) for limit in given)
    return Problem("limits_invalid", f"limits of {requirement.characteristic} must rise from lower over target to upper, not {shown}")


_FAILS = 20
"""Failed results of one characteristic that are kept one by one: enough to see whether they drift, come in a row or stand alone."""


@dataclass(eq=False)
class Tally:
    """All results of one characteristic; `limits` of the latest. `fails`: the latest failed ones, (instant, value)."""

    limits: QualityRequirement
    passed: int = 0
    failed: int = 0
    total: Decimal = Decimal(0)
    lowest: Decimal | None = None
    highest: Decimal | None = None
    fails: list[tuple[int, Decimal]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.passed + self.failed

    def summary(self) -> dict[str, Any]:
        """JSON names, Decimals; `mean` None without a result."""
        limits = self.limits
        return {
            "pass": self.passed, "fail": self.failed, "min": self.lowest, "mean": self.total / self.count if self.count else None,
            "max": self.highest, "unit": limits.unit, "lower": limits.lower, "target": limits.target, "upper": limits.upper,
            "required_by": limits.required_by,
        }  # fmt: skip


class QualityBook:
    """Results by characteristic: of one order, or of one produced lot."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def __bool__(self) -> bool:
        return bool(self._tallies)

    def items(self) -> Iterator[tuple[str, Tally]]:
        yield from self._tallies.items()

    def add(self, limits: QualityRequirement, value: Decimal, result: QualityVerdict, at: int) -> None:
        """One result at the instant `at`."""
        tally = self._tallies.setdefault(limits.characteristic, Tally(limits))
        tally.limits = limits
        tally.total += value
        tally.lowest = value if tally.lowest is None else min(tally.lowest, value)
        tally.highest = value if tally.highest is None else max(tally.highest, value)
        if result is QualityVerdict.PASS:
            tally.passed += 1
        else:
            tally.failed += 1
            tally.fails = [*tally.fails, (at, value)][-_FAILS:]

    def cancel(self, characteristic: str, value: Decimal, result: QualityVerdict, at: int, others: Iterable[Decimal]) -> None:
        """Take one result back. `others`: the values that remain, as far as they are remembered; where some are not, the extremes stay."""
        tally = self._tallies[characteristic]
        tally.total -= value
        if result is QualityVerdict.PASS:
            tally.passed -= 1
        else:
            tally.failed -= 1
            tally.fails = [fail for fail in tally.fails if fail != (at, value)]
        known = list(others)
        if len(known) >= tally.count:
            tally.lowest, tally.highest = (min(known), max(known)) if known else (None, None)

    def dump(self) -> dict[str, Any]:
        return {
            name: [
                tally.passed, tally.failed, str(tally.total), _text(tally.lowest), _text(tally.highest),
                [[at, str(value)] for at, value in tally.fails], tally.limits.unit, tally.limits.required_by,
                _text(tally.limits.lower), _text(tally.limits.target), _text(tally.limits.upper),
            ]
            for name, tally in self._tallies.items()
        }  # fmt: skip

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> QualityBook:
        book = cls()
        for name, (passed, failed, total, lowest, highest, fails, unit, required_by, *limits) in state.items():
            lower, target, upper = map(_decimal, limits)
            asked = QualityRequirement(name, unit, lower, target, upper, required_by)
            kept = [(at, Decimal(value)) for at, value in fails]
            book._tallies[name] = Tally(asked, passed, failed, Decimal(total), _decimal(lowest), _decimal(highest), kept)
        return book


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
