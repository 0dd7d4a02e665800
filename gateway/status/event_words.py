"""Ledger events in words, for the journal page. `data` is the event's own or what was read back from JSON: both are understood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from gateway.domain.events import Text
from gateway.status.board import EventLine
from gateway.status.screens import Reader

Data = Mapping[str, Any]

TYPE_WORDS: Mapping[str, Text] = {
    "state.changed": Text("État", "State"),
    "stop.ended": Text("Fin d’arrêt", "Stop over"),
    "quantity.counted": Text("Comptage", "Count"),
    "job.changed": Text("OF", "Order"),
    "job.progress": Text("Avancement", "Progress"),
    "material.consumed": Text("Consommation", "Consumption"),
    "quality.result": Text("Contrôle", "Check"),
    "quality.cancelled": Text("Contrôle annulé", "Check cancelled"),
    "quality.summary": Text("Bilan qualité", "Quality summary"),
    "alert.raised": Text("Alerte", "Alert"),
    "alert.cleared": Text("Fin d’alerte", "Alert over"),
    "promise.changed": Text("Promesse", "Promise"),
    "window.closed": Text("Bilan", "Window closed"),
    "command.answered": Text("Commande", "Command"),
    "command.written": Text("Écriture automate", "Written to PLC"),
    "counter.gap": Text("Compteur", "Counter"),
    "clock.stepped": Text("Horloge", "Clock"),
    "row.parked": Text("Refus", "Refused"),
    "row.dropped": Text("Abandon", "Dropped"),
}


def type_word(event: EventLine, reader: Reader) -> str:
    known = TYPE_WORDS.get(event.type)
    return reader.text(known) if known else event.type


def summary(event: EventLine, reader: Reader) -> str:
    """One line; an event of a type this page does not know yet says nothing more than its name."""
    said = _SUMMARIES.get(event.type)
    return said(event.data, reader) if said else ""


def _either(value: Any, reader: Reader) -> str:
    if isinstance(value, Text):
        return reader.text(value)
    return str(value.get(reader.language, "")) if isinstance(value, Mapping) else str(value or "")


def _time(value: Any, reader: Reader) -> str:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return reader.formats.when(moment, reader.now)


def _join(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def _state(data: Data, reader: Reader) -> str:
    state = str(data.get("state") or data.get("item_state"))
    fault = data.get("fault")
    return _join(reader.words.get(f"state.{state}", state), str(data.get("reason") or ""), f"F{fault}" if fault else "")


def _stop(data: Data, reader: Reader) -> str:
    word = reader.words["legend.micro" if data.get("class") == "micro_stop" else "state.stopped"]
    return _join(f"{word}, {reader.formats.duration(data.get('duration_s'))}", str(data.get("reason") or reader.words["no_reason"]).lower())


def _count(data: Data, reader: Reader) -> str:
    quantity, words = reader.formats.quantity, reader.words
    one = abs(float(data.get("good") or 0)) < 2
    parts = [f"+{quantity(data.get('produced'))}", f"{quantity(data.get('good'))} {words['good_one' if one else 'good'].lower()}"]
    if data.get("scrap"):
        parts.append(f"{quantity(data['scrap'])} {words['scrap'].lower()}")
    late = reader.text(Text("relevé après coup", "counted late")) if data.get("late") else ""
    return _join(", ".join(parts), late)


def _job(data: Data, reader: Reader) -> str:
    state = str(data.get("state"))
    return _join(reader.words.get(f"job.{state}", state), str(data.get("problem") or ""))


def _progress(data: Data, reader: Reader) -> str:
    quantity = reader.formats.quantity
    return f"{quantity(data.get('good'))} / {quantity(data.get('target'))} {reader.formats.unit(data.get('unit'))}".strip()


def _material(data: Data, reader: Reader) -> str:
    amount = f"{reader.formats.quantity(data.get('quantity'))} {reader.formats.unit(data.get('unit'))}".strip()
    return _join(f"{data.get('material_id')}, {amount}", str(data.get("lot_id") or ""))


def _quality(data: Data, reader: Reader) -> str:
    value = f"{reader.formats.quantity(data.get('value'))} {reader.formats.unit(data.get('unit'))}".strip()
    result = reader.words["conform" if data.get("result") == "Pass" else "not_conform"]
    return f"{data.get('characteristic')} {value}, {result}"


def _alert(data: Data, reader: Reader) -> str:
    return _either(data.get("text"), reader)


def _promise(data: Data, reader: Reader) -> str:
    verdict = reader.words.get(f"verdict.{data.get('verdict')}", str(data.get("verdict")))
    return _join(verdict, f"{reader.words['end_at']} {_time(data.get('eta_likely'), reader)}–{_time(data.get('eta_safe'), reader)}")


def _window(data: Data, reader: Reader) -> str:
    window = data.get("window") or {}
    name = str(window.get("name", ""))
    if window.get("kind") == "hour":
        name = _time(name, reader)
    trs = f"{reader.words['trs']} {reader.formats.percent(data.get('oee'))}"
    return _join(name, trs, reader.words["degraded"] if data.get("degraded") else "")


def _command(data: Data, reader: Reader) -> str:
    accepted = data.get("return_status") == 1
    verdict = reader.text(Text("acceptée", "accepted") if accepted else Text("refusée", "refused"))
    problem = data.get("problem")
    return _join(str(data.get("command_id") or "?"), verdict, str(problem.get("text", "")) if isinstance(problem, Mapping) else "")


def _written(data: Data, reader: Reader) -> str:
    sign = "←" if data.get("phase") == "before" else "="
    return _join(f"{data.get('tag')} {sign} {reader.formats.value(data.get('value'))}", str(data.get("problem") or ""))


def _gap(data: Data, reader: Reader) -> str:
    previous, value = reader.formats.quantity(data.get("previous")), reader.formats.quantity(data.get("value"))
    return _join(str(data.get("kind")), f"{data.get('tag')} {previous} → {value}")


def _clock(data: Data, reader: Reader) -> str:
    return f"{reader.formats.number(data.get('step_s'), 1)} s"


def _parked(data: Data, reader: Reader) -> str:
    return _join(f"{data.get('uplink')} n° {data.get('sequence')}", str(data.get("reason") or ""))


_SUMMARIES: Mapping[str, Callable[[Data, Reader], str]] = {
    "state.changed": _state,
    "stop.ended": _stop,
    "quantity.counted": _count,
    "job.changed": _job,
    "job.progress": _progress,
    "material.consumed": _material,
    "quality.result": _quality,
    "alert.raised": _alert,
    "alert.cleared": _alert,
    "promise.changed": _promise,
    "window.closed": _window,
    "command.answered": _command,
    "command.written": _written,
    "counter.gap": _gap,
    "clock.stepped": _clock,
    "row.parked": _parked,
    "row.dropped": _parked,
}
