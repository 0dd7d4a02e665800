"""A day is the sum of its hours, to the microsecond and to the stop."""

from __future__ import annotations

import json
from dataclasses import fields

from hypothesis import assume

from gateway.domain.equipment import WorkUnit
from gateway.domain.oee import Window, load_window, sum_windows
from gateway.domain.outlook import outlook
from gateway.domain.standstill import load_stop
from gateway.domain.windows import KEEP
from tests.domain.post import CODES, Post
from tests.domain.stories import Step, Story, steps, units
from tests.domain.test_properties import property_

HOW_IT_IS_CALLED = {"kind", "name", "start", "end", "revision", "closed"}


def of_hours(post: Post) -> tuple[Window, Window]:
    """The sum of all hours, from what the journal has and what is still open; and the range that was kept beside them."""
    snapshot, rows = post.saved()
    del snapshot
    pending, stand = outlook(post.tracker.machine)
    hours = [w for w in pending if w.kind == "hour"]
    hours += [load_window(json.loads(row.body)) for row in rows if row.kind == "window" and row.key.startswith("hour:")]
    stops = {row.key: load_stop(json.loads(row.body)) for row in rows if row.kind == "stop"}
    if stand is not None:
        stops[str(stand.start)] = stand
    kept = next(w for w in pending if w.kind == "range")
    summed = sum_windows(hours, [stop.counted for stop in stops.values()], "range", "range", kept.start, kept.end or 0)
    return summed, kept


@property_(of=units, story=steps)
def test_the_hours_together_are_the_range(of: WorkUnit, story: list[Step]) -> None:
    assume(sum(delay for delay, _ in story) * 1_000_000 < KEEP)
    summed, kept = of_hours(Story(of).play(story).post)
    for field in fields(Window):
        if field.name not in HOW_IT_IS_CALLED:
            assert getattr(summed, field.name) == getattr(kept, field.name), field.name


def test_a_stop_over_two_hours_is_one_of_the_day() -> None:
    post = Post(state=CODES)
    post.read(0, parts=0, state=0)
    post.read(3000, state=50)
    post.read(9000, state=0)
    post.read(9100, state=51)
    post.wait(11_000)
    assert [post.hour(n)["stop_count"] for n in range(4)] == [1, 1, 2, 1]
    summed, kept = of_hours(post)
    assert summed.stop_count == kept.stop_count == 2
    assert summed.reasons == kept.reasons == {"stop|jam|0": [6_000_000_000, 1], "stop|no_parts|1": [1_900_000_000, 1]}


def test_a_revised_hour_revises_the_sum() -> None:
    hours = [Window("hour", str(n), n, n + 1, revision=revision, closed=True) for n, revision in enumerate((1, 3, 2))]
    assert sum_windows(hours, [], "day", "d", 0, 3).revision == 4
