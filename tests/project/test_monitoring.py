"""What docs/monitoring asks Prometheus for must exist: in the very registry that the daemon serves at /metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics
from gateway.status.scrape import BoardCollector
from tests.manual_clock import ManualClock
from tests.status.fake_board import board

FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
RULES = FOLDER / "lineside.rules.yml"
DASHBOARD = FOLDER / "lineside.dashboard.json"
_NAME = re.compile(r"\b(?:lineside|process)_[a-z0-9_]+")
_LABELS = re.compile(r"(\w+)\s*(?:=~|=|!=)\s*\"")


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.fixture(scope="module")
def served() -> dict[str, set[str]]:
    """Name of each sample that the daemon can serve -> its labels; of a counter that has not counted yet the name alone."""
    metrics = Metrics()
    metrics.registry.register(BoardCollector(board, ManualClock()))
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        found.setdefault(family.name + ("_total" if family.type == "counter" else ""), set())
        if family.type == "histogram":
            found |= {f"{family.name}_bucket": {"le"}}
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in rules()), *queries()])
def test_a_query_names_metrics_and_labels_that_exist(query: str, served: dict[str, set[str]]) -> None:
    names = _NAME.findall(query)
    assert set(names) <= set(served) or query.startswith("up{")
    assert query.count("(") == query.count(")")
    known = {"instance", "job", *(label for name in names for label in served[name])}
    empty = [name for name in names if not served[name]]
    assert set(_LABELS.findall(query)) <= known or empty


def test_each_rule_says_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) > 10
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["targets"] for panel in panels)
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"source", "instance"}
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
