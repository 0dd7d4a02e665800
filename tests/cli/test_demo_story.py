from __future__ import annotations

from typing import Any

from gateway.cli.demo_story import Story


def event(kind: str, *, subject: str | None = None, **data: Any) -> dict[str, Any]:
    source = "/acme/lyon/stamping/line-3/press-07"
    return {"type": f"lineside.{kind}.v1", "source": source, "subject": subject, "data": data}


def tell(story: Story, *events: dict[str, Any]) -> list[str]:
    return [sentence for e in events for sentence in story.tell(e)]


def stop(class_: str, duration_s: float, reason: str | None = None) -> dict[str, Any]:
    return event("stop.ended", **{"class": class_}, duration_s=duration_s, reason=reason)


def test_an_order_is_told_from_taken_to_finished() -> None:
    told = tell(
        Story(),
        event("job.changed", subject="OF-1", state="AllowedToStart", previous=None),
        event("job.changed", subject="OF-1", state="Running", previous="AllowedToStart"),
        event("job.progress", subject="OF-1", good=10, scrap=0, target=100, final=False),
        event("job.progress", subject="OF-1", good=26, scrap=1, target=100, final=False),
        event("job.progress", subject="OF-1", good=27, scrap=1, target=100, final=False),
        event("job.progress", subject="OF-1", good=100, scrap=2, target=100, final=True),
        event("job.changed", subject="OF-1", state="Ended", previous="Running"),
    )
    assert told == [
        "order OF-1 taken from the ERP, it waits for press-07",
        "order OF-1 started on press-07",
        "order OF-1: 26 of 100 good on press-07",
        "order OF-1 finished on press-07: 100 good, 2 scrap",
    ]


def test_an_order_for_an_idle_machine_starts_at_once() -> None:
    told = tell(Story(), event("job.changed", subject="OF-1", state="Running", previous=None))
    assert told == ["order OF-1 taken from the ERP and started at once on press-07"]


def test_a_value_written_to_the_machine_is_told_once_it_is_read_back() -> None:
    told = tell(
        Story(),
        event("command.written", subject="OF-1", tag="target", value=250, phase="before", problem=None),
        event("command.written", subject="OF-1", tag="target", value=250, phase="after", problem=None),
        event("command.written", subject="OF-2", tag="target", value=70, phase="after", problem="BadUserAccessDenied"),
    )
    assert told == ["order OF-1: 250 written to press-07 (target) and read back"]


def test_who_becomes_late_is_told_with_the_order_that_came_later() -> None:
    late = {"verdict": "late", "previous": "at_risk", "eta_likely": "2026-11-25T06:10:00Z"}
    told = tell(
        Story(),
        event("promise.changed", subject="OF-2", basis="overtaken by OF-9; ideal 1.2 s/piece", **late),
        event("promise.changed", subject="OF-3", basis="overtaken by OF-9 and 1 more; after OF-2; ideal 1.2 s/piece", **late),
        event("promise.changed", subject="OF-4", basis="after OF-3; ideal 1.2 s/piece", **late),
    )
    assert told == [
        "order OF-2 will be late for its customer, likely done 06:10:00 UTC: OF-9 came later and goes first",
        "order OF-3 will be late for its customer, likely done 06:10:00 UTC: OF-9 came later and goes first",
        "order OF-4 will be late for its customer, likely done 06:10:00 UTC",
    ]


def test_a_fault_is_told_with_its_reason_and_its_end() -> None:
    told = tell(
        Story(),
        event("state.changed", item_state="NotExecuting", reason=None),
        event("state.changed", item_state="NotExecuting", reason="coil_change"),
        event("state.changed", item_state="Executing", reason=None),
        stop("stop", 9.25, "coil_change"),
        event("state.changed", item_state="Executing", reason=None),
    )
    assert told == ["press-07 stopped: coil change", "press-07 runs again", "press-07 had stood for 9.2 s: coil change"]


def test_only_the_first_micro_stops_are_told() -> None:
    told = tell(Story(), *[stop("micro_stop", 2.5) for _ in range(5)])
    assert len(told) == 2
    assert told[1].endswith("further ones are on the page")


def test_failed_measurements_promises_and_alerts_are_told_the_good_ones_are_not() -> None:
    quality = {"characteristic": "bore_diameter", "unit": "MMT", "lower": 11.98, "upper": 12.02}
    text = {"text": {"fr": "x", "en": "Link lost."}, "remedy": {"fr": "y", "en": "Check the cable."}}
    told = tell(
        Story(),
        event("quality.result", value=12.0, result="Pass", **quality),
        event("quality.result", value=12.03, result="Fail", **quality),
        event("promise.changed", subject="OF-1", verdict="on_time", previous=None, eta_likely="2026-11-25T04:20:00Z"),
        event("promise.changed", subject="OF-1", verdict="late", previous="on_time", eta_likely="2026-11-25T04:30:00Z"),
        event("promise.changed", subject="OF-1", verdict="on_time", previous="late", eta_likely="2026-11-25T04:25:00Z"),
        event("promise.changed", subject="OF-1", verdict="unknown", previous="on_time", eta_likely=None),
        event("alert.raised", severity="warning", **text),
        event("alert.raised", severity="info", **text),
    )
    assert told == [
        "press-07 bore diameter 12.03 MMT is outside 11.98 to 12.02: fail",
        "order OF-1 will be late for its customer, likely done 04:30:00 UTC",
        "order OF-1 will be on time for its customer, likely done 04:25:00 UTC",
        "warning: Link lost. Check the cable.",
    ]
