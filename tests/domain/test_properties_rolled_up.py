"""A line, an area and the site are the sum of their machines, whatever happened on these."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st

from gateway.domain.equipment import Cost, WorkUnit
from gateway.domain.events import WindowClosed
from gateway.domain.kpi import COSTS, KPIS, LOSSES, SUMMED, roll_up
from gateway.domain.work_center import LineRule, WorkCenter
from tests.domain.post import unit
from tests.domain.stories import Step, Story, property_, steps, units

Line = dict[str, Any]
DAY = 24 * 3600
NAMES = ("saw", "drill", "press")

days: st.SearchStrategy[list[tuple[WorkUnit, list[Step]]]] = st.lists(st.tuples(units, steps.map(lambda s: s[:50])), min_size=2, max_size=3)


def told(days: list[tuple[WorkUnit, list[Step]]]) -> tuple[dict[str, Story], dict[str, dict[str, Line]], dict[str, Line]]:
    """The machines, what each said last of each hour, and what the line said last."""
    machines = {name: Story(replace(of, name=name)).play(story) for name, (of, story) in zip(NAMES, days, strict=False)}
    line = WorkCenter("line", {name: one.post.unit for name, one in machines.items()}, LineRule())
    hours: dict[str, dict[str, Line]] = {}
    of_line: dict[str, Line] = {}
    for name, one in machines.items():
        one.post.end(max(m.now for m in machines.values()))
        for event in one.post.events:
            if isinstance(event, WindowClosed) and event.line["window"]["kind"] == "hour":
                hours.setdefault(event.line["window"]["from"], {})[name] = dict(event.line)
                of_line |= {
                    found.line["window"]["from"]: dict(found.line) for found in line.closed(event) if isinstance(found, WindowClosed)
                }
    return machines, hours, of_line


@property_(days=days)
def test_the_line_is_the_sum_of_its_machines(days: list[tuple[WorkUnit, list[Step]]]) -> None:
    """Times, quantities and losses add up; ratios come from the sums, so the line's OEE lies between those of its machines."""
    machines, hours, of_line = told(days)
    assert set(of_line) == {start for start, said in hours.items() if set(said) == set(machines)}
    for start, line in of_line.items():
        members = list(hours[start].values())
        for name in SUMMED:
            values = [member[name] for member in members]
            if None in values:
                assert line[name] is None, name
            else:
                assert float(line[name]) == pytest.approx(float(sum(values)), abs=1e-6), name
        if line["losses"] is not None:
            for name, _, _ in LOSSES:
                assert line["losses"][name] == pytest.approx(sum(m["losses"][name] for m in members), abs=1e-6), name
        assert line["degraded"] == any(m["degraded"] for m in members)
        oees = [m["oee"] for m in members]
        # (Pieces made outside required time alone give a machine no OEE of its own.)
        if line["oee"] is not None and None not in oees:
            assert min(oees) - 1e-9 <= line["oee"] <= max(oees) + 1e-9
            assert line["oee"] * line["planned_s"] == pytest.approx(sum(m["oee"] * m["planned_s"] for m in members), abs=1e-6)
    assert_a_sum_of_sums_is_the_sum([one.post.window() for one in machines.values()])


def assert_a_sum_of_sums_is_the_sum(lines: list[Line]) -> None:
    """The site from its machines = the site from its lines."""
    window = lines[0]["window"]
    whole, first, rest = (roll_up(some, window=window) for some in (lines, lines[:1], lines[1:]))
    in_steps = roll_up([rest, first], window=window)
    for name in (*SUMMED, *(kpi.key for kpi in KPIS if kpi.key != "allocation_ratio")):
        one, other = whole[name], in_steps[name]
        assert (one is None) == (other is None), name
        if one is not None:
            assert float(other) == pytest.approx(float(one), abs=1e-6), name


def test_money_adds_up_too() -> None:
    one, other = (replace(unit(), name=name, cost=Cost("EUR", price)) for name, price in (("a", 60), ("b", 90)))
    lines = []
    for of in (one, other):
        told = Story(of)
        told.post.read(0, running=0, parts=0)
        lines.append(told.post.end(3600).window())
    whole = roll_up(lines, window=lines[0]["window"])
    assert {name: whole[name] for name in COSTS} == {
        "loss_cost": 150,
        "scrap_cost": None,
        "scrap_piece_cost": None,
        "scrap_material_cost": None,
    }
