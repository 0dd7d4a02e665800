"""Quality: limits include their ends, the order's limits win whole."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.domain.job_order import QualityRequirement
from gateway.domain.quality import effective_requirement, judge, limits_problem

BORE = QualityRequirement("bore", "MMT", Decimal("11.98"), Decimal(12), Decimal("12.02"))


@pytest.mark.parametrize(
    ("value", "result"), [("11.98", "Pass"), ("12.02", "Pass"), ("12", "Pass"), ("11.979", "Fail"), ("12.0201", "Fail")]
)
def test_limits_include_their_ends(value: str, result: str) -> None:
    assert judge(BORE, Decimal(value)) == result


def test_a_missing_limit_does_not_limit() -> None:
    one_sided = QualityRequirement("force", upper=Decimal(5))
    assert [judge(one_sided, Decimal(v)) for v in ("-1000", "5", "5.1")] == ["Pass", "Pass", "Fail"]
    assert judge(QualityRequirement("force"), Decimal(9)) == "Pass"


def test_the_orders_requirement_wins_whole_and_the_customers_first() -> None:
    product = QualityRequirement("bore", None, Decimal(11), None, Decimal(13))
    order = QualityRequirement("bore", None, None, None, Decimal("12.01"))
    customer = QualityRequirement("bore", None, Decimal("11.99"), None, None, "Dupont")
    other = QualityRequirement("burr", "MMT", upper=Decimal(1))
    assert effective_requirement("bore", BORE) == BORE
    assert effective_requirement("bore", None) is None
    assert effective_requirement("burr", BORE) is None
    chosen = effective_requirement("bore", BORE, product=[product])
    assert chosen == QualityRequirement("bore", "MMT", Decimal(11), None, Decimal(13))
    chosen = effective_requirement("bore", BORE, product=[product], order=[other, order])
    assert chosen == QualityRequirement("bore", "MMT", None, None, Decimal("12.01"))
    chosen = effective_requirement("bore", BORE, product=[product], order=[order, customer])
    assert chosen == QualityRequirement("bore", "MMT", Decimal("11.99"), None, None, "Dupont")
    assert effective_requirement("burr", BORE, order=[other, order]) == other


@pytest.mark.parametrize(
    ("lower", "target", "upper", "wrong"),
    [
        ("1", "2", "3", False),
        ("1", None, "1", False),
        (None, None, None, False),
        ("3", None, "1", True),
        (None, "4", "3", True),
        ("NaN", None, "3", True),
    ],
)
def test_limits_the_wrong_way_round_are_a_problem(lower: str | None, target: str | None, upper: str | None, wrong: bool) -> None:
    limits = [None if text is None else Decimal(text) for text in (lower, target, upper)]
    problem = limits_problem(QualityRequirement("bore", None, *limits))
    assert (problem is not None) == wrong
    assert problem is None or problem.code == "limits_invalid"
