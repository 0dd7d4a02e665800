"""Quality results: which limits apply to a measured value, and whether it passes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum

from gateway.domain.job_order import Problem, QualityRequirement


class QualityVerdict(StrEnum):
    """`result` of a `quality.result` event."""

    PASS = "Pass"
    FAIL = "Fail"


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
    applies whole: limits of two sources are never mixed, only a missing unit of measure is taken from the next source, so that the
    result always shows limits that somebody really asked for.
    """
    own = (unit_limits,) if unit_limits is not None and unit_limits.characteristic == characteristic else ()
    candidates = [*_asked_first(characteristic, order), *_asked_first(characteristic, product), *own]
    if not candidates:
        return None
    unit = next((c.unit for c in candidates if c.unit is not None), None)
    chosen: QualityRequirement = replace(candidates[0], unit=unit)
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
