"""Some seconds in `make test`, five minutes in `make system`; a day of events with `make soak`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.soak import USUAL_RATE, Looks, Outcome, failures, run, table

FIRST_MINUTES_MB = 3.0
"""In the first minutes memories that are bounded still fill up, faster on a busy machine; `make soak` waits for them and holds a day to one
megabyte: docs/durability.md says what they are."""


@pytest.mark.slow
def test_a_few_seconds_lose_nothing(tmp_path: Path) -> None:
    outcome = run(5.0, None, 10.0 * USUAL_RATE, tmp_path, warm_up_s=2.0)
    assert (outcome.holes, outcome.left) == (0, 0), "\n".join(table(outcome))
    assert outcome.events > 100


@pytest.mark.system
@pytest.mark.calm
def test_five_minutes_at_ten_times_the_usual_rate(tmp_path: Path) -> None:
    """The first two are warm-up."""
    outcome = run(180.0, None, 10.0 * USUAL_RATE, tmp_path, warm_up_s=120.0)
    assert list(failures(outcome, FIRST_MINUTES_MB)) == [], "\n".join(table(outcome))
    assert outcome.events / outcome.seconds > 8 * USUAL_RATE


def _steady() -> Outcome:
    seconds = range(300)
    looks = Looks([float(at) for at in seconds], [95e6 + at % 2 for at in seconds], [6] * 300, [36] * 300, [55] * 300)
    return Outcome(looks, 30_000, 300.0, 0.1, 0.001, 0.0, 0, 0, 0)


def test_the_rig_sees_what_grows_and_what_is_late() -> None:
    steady = _steady()
    assert list(failures(steady)) == []
    looks = steady.looks
    worse = {
        "memory": replace(steady, looks=replace(looks, rss=[95e6 + 5e3 * at for at in range(300)])),
        "threads": replace(steady, looks=replace(looks, threads=[6 + at // 60 for at in range(300)])),
        "descriptors": replace(steady, looks=replace(looks, files=[36] * 150 + [37] * 150)),
        "tasks": replace(steady, looks=replace(looks, tasks=[55 + at // 30 for at in range(300)])),
        "the loop": replace(steady, late_share=0.02),
        "the consumer": replace(steady, holes=1),
    }
    for what, outcome in worse.items():
        assert [line.startswith(what) for line in failures(outcome)] == [True], what
    assert list(failures(replace(steady, late_share=0.02, idle_late_share=0.015))) == [], "the machine itself was late"
