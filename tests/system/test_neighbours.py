"""A device that hangs, one that is slow and one that flaps do not disturb the polling of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scale.neighbours import LIMIT_S, measure, table

pytestmark = pytest.mark.system


def test_the_other_seven_are_polled_as_steadily_as_before(tmp_path: Path) -> None:
    verdict = measure(10.0, tmp_path)
    print(*table(verdict), sep="\n")
    assert verdict.disturbed.p99 <= verdict.undisturbed.p99 + LIMIT_S
    assert min(verdict.undisturbed.polls, verdict.disturbed.polls) > 0.9
