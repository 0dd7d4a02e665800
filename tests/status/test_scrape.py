"""`/metrics` says what the board shows: the same numbers, ages of the moment, nothing for what is unknown."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from prometheus_client import CollectorRegistry

from gateway.status.board import Board
from gateway.status.scrape import BoardCollector
from tests.manual_clock import ManualClock
from tests.status.fake_board import board as make_board


class Scrape:
    def __init__(self, board: Board, age_s: float = 2.0) -> None:
        self.registry = CollectorRegistry()
        clock = ManualClock(board.at)
        clock.step_wall(age_s)
        self.registry.register(BoardCollector(lambda: board, clock))

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"lineside_{name}", labels)


def test_links_uplinks_and_journal_are_those_of_the_board() -> None:
    board = make_board()
    scrape = Scrape(board)
    for link in board.links:
        of = {"link": link.name, "kind": link.kind}
        expected = None if link.last_good is None else (board.at - link.last_good).total_seconds() + 2
        assert scrape("link_last_good_age_seconds", **of) == expected
        assert scrape("link_outages_total", **of) == link.outages
        assert scrape("link_failed_tries", **of) == link.attempt
        assert scrape("link_state", state=link.state.value, **of) == 1
    assert sum(s.value for m in scrape.registry.collect() if m.name == "lineside_link_state" for s in m.samples) == len(board.links)
    for uplink in board.uplinks:
        assert scrape("backlog_bytes", uplink=uplink.name) == uplink.bytes
        assert scrape("rows_set_apart", uplink=uplink.name) == uplink.parked
    assert scrape("journal_bytes") == board.journal.bytes
    assert scrape("journal_committing") == 1
    assert scrape("disk_state", state="ok") == 1
    assert scrape("disk_state", state="full") == 0
    assert scrape("ledger_sequence") == board.journal.sequence
    assert scrape("journal_hours_left") == board.journal.hours_left
    unknown = replace(board, journal=replace(board.journal, hours_left=None))
    assert Scrape(unknown)("journal_hours_left") is None


def test_alerts_tasks_units_and_who_speaks() -> None:
    board = make_board()
    scrape = Scrape(board)
    counted = {severity: scrape("alerts", severity=severity) for severity in ("critical", "warning", "info")}
    assert sum(count or 0 for count in counted.values()) == len(board.alerts)
    for alert in board.alerts:
        assert scrape("alert_active", alert=alert.key) == 1
    for task in board.tasks:
        assert task.last_progress_at is not None
        assert scrape("task_progress_age_seconds", task=task.name) == (board.at - task.last_progress_at).total_seconds() + 2
    for unit in board.units:
        view = unit.view
        assert scrape("unit_state", work_unit=view.work_unit, state=view.state) == 1
        for kind, line in view.windows.items():
            told = scrape("window_oee", work_unit=view.work_unit, window=kind)
            assert told == (None if line["oee"] is None else float(line["oee"]))
    info = board.gateway
    labels = {"version": info.version, "gateway": info.gateway_id, "epoch": board.journal.epoch, "config": info.config_hash}
    assert scrape("build_info", **labels) == 1
    assert scrape("uptime_seconds") == (board.at - board.started_at).total_seconds() + 2
    assert scrape("status_age_seconds") == 2


def test_days_that_certificates_have_left() -> None:
    board = make_board()
    link = replace(board.links[0], certificates={"server": board.at + timedelta(days=60), "own": board.at - timedelta(days=1)})
    scrape = Scrape(replace(board, links=(link,)), age_s=0.0)
    assert scrape("certificate_days_left", device=link.name, which="server") == 60
    assert scrape("certificate_days_left", device=link.name, which="own") == -1
