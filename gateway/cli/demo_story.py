"""What the demo tells: sentences made from the events that reached the MES, so that the story is what really happened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_MICRO_STOPS_TOLD = 2
_OVERTAKEN = re.compile(r"overtaken by (\S+?)(?: and \d+ more)?;")
"""How the basis of a promise begins when an order that came later goes first."""


class Story:
    """Feed it ledger events in order; it yields plain sentences for a newcomer."""

    def __init__(self) -> None:
        self._micro_stops: dict[str, int] = {}
        self._stopped: set[str] = set()
        self._totals: dict[str, Mapping[str, Any]] = {}
        self._told_share: dict[str, int] = {}
        self._ended: set[str] = set()

    def tell(self, event: Mapping[str, Any]) -> Iterator[str]:
        """Sentences for one CloudEvent, none for what would only be noise."""
        kind = str(event["type"]).removeprefix("lineside.").removesuffix(".v1")
        unit = str(event["source"]).rsplit("/", 1)[-1]
        teller = {
            "state.changed": self._state,
            "stop.ended": self._stop,
            "job.changed": self._job,
            "job.progress": self._progress,
            "promise.changed": self._promise,
            "quality.result": self._quality,
            "command.written": self._written,
            "alert.raised": self._alert,
        }.get(kind)
        if teller is not None:
            yield from teller(unit, event.get("subject") or "", event["data"])

    def _state(self, unit: str, order: str, data: Mapping[str, Any]) -> Iterator[str]:
        if data["item_state"] == "Executing":
            if unit in self._stopped:
                self._stopped.discard(unit)
                yield f"{unit} runs again"
        elif data.get("reason") and unit not in self._stopped:
            self._stopped.add(unit)
            yield f"{unit} stopped: {_words(data['reason'])}"

    def _stop(self, unit: str, order: str, data: Mapping[str, Any]) -> Iterator[str]:
        if data["class"] == "stop":
            yield f"{unit} had stood for {data['duration_s']:.1f} s: {_words(data['reason']) or 'no reason given'}"
            return
        told = self._micro_stops[unit] = self._micro_stops.get(unit, 0) + 1
        if told <= _MICRO_STOPS_TOLD:
            last = "; further ones are on the page" if told == _MICRO_STOPS_TOLD else ""
            yield f"{unit} hesitated for {data['duration_s']:.1f} s: a micro-stop{last}"

    def _job(self, unit: str, order: str, data: Mapping[str, Any]) -> Iterator[str]:
        state = data["state"]
        if state in {"AllowedToStart", "NotAllowedToStart"} and data.get("previous") is None:
            yield f"order {order} taken from the ERP, it waits for {unit}"
        elif state == "Running":
            yield f"order {order} {'taken from the ERP and started at once' if data.get('previous') is None else 'started'} on {unit}"
        elif state in {"Ended", "Aborted"} and order not in self._ended:
            self._ended.add(order)
            totals = self._totals.get(order, {})
            counted = f": {totals['good']} good, {totals['scrap']} scrap" if totals else ""
            yield f"order {order} {'finished' if state == 'Ended' else 'aborted'} on {unit}{counted}"

    def _written(self, unit: str, order: str, data: Mapping[str, Any]) -> Iterator[str]:
        if data["phase"] == "after" and data["problem"] is None:
            yield f"order {order}: {data['value']} written to {unit} ({_words(data['tag'])}) and read back"

    def _progress(self, unit: str, order: str, data: Mapping[str, Any]) -> Iterator[str]:
        self._totals[order] = data
        target = data.get("target")
        if not target or data.get("final"):
            return
        quarter = int(4 * data["good"] / target)
        if quarter > self._told_share.get(order, 0) and quarter < 4:
            self._told_share[order] = quarter
            yield f"order {order}: {data['good']} of {target} good on {unit}"

    def _promise(self, unit: str, order: str, data: Mapping[str, Any]) -> Iterator[str]:
        words = {"at_risk": "may be late", "late": "will be late", "on_time": "will be on time"}
        first_good_news = data["verdict"] == "on_time" and data.get("previous") in (None, "unknown")
        if data["verdict"] in words and not first_good_news:
            overtaken = _OVERTAKEN.match(data.get("basis") or "")
            why = f": {overtaken[1]} came later and goes first" if overtaken else ""
            yield f"order {order} {words[data['verdict']]} for its customer, likely done {_clock_time(data['eta_likely'])} UTC{why}"

    def _quality(self, unit: str, order: str, data: Mapping[str, Any]) -> Iterator[str]:
        if data["result"] == "Fail":
            limits = f"{data['lower']} to {data['upper']}"
            yield f"{unit} {_words(data['characteristic'])} {data['value']} {data['unit']} is outside {limits}: fail"

    def _alert(self, unit: str, order: str, data: Mapping[str, Any]) -> Iterator[str]:
        if data["severity"] != "info":
            text, remedy = data["text"]["en"], data["remedy"]["en"]
            yield f"{data['severity']}: {text} {remedy}".rstrip()


def _words(code: str | None) -> str:
    return (code or "").replace("_", " ")


def _clock_time(stamp: str | None) -> str:
    return "?" if not stamp else stamp[11:19]
