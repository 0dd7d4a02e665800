"""From the unit's state inputs to one `Condition`: bits, codes, PackML (ISA-TR88) or Machinery (OPC 40001-1).

Each source is a table; a unit whose state comes `from: counts` has no inputs here, its condition is made by the gap
between pieces (`gateway.domain.tracker`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.domain.equipment import (
    STATE_NAMES,
    FaultSource,
    Reason,
    Signal,
    StateFromBits,
    StateFromCodes,
    StateFromCounts,
    StateFromMachinery,
    StateFromOrder,
    StateFromPackML,
    StateSource,
)
from gateway.domain.sample import Input, SampleValue

FaultCode = int | str
# Digits of 64 bits: what a string tag says beyond that (`--5`, `²`, a page of digits) is text, never an error.
_INTEGER = re.compile(r"-?[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Condition:
    """What the machine says of itself at one instant.

    `state` is one of STATE_NAMES. `reason` is what explains a standstill (a code of `reasons:` or `fault:<n>`), None when
    nothing does. `induced` None: a transition that belongs to its neighbour's kind.
    """

    state: str
    reason: str | None = None
    fault: FaultCode | None = None
    induced: bool | None = False
    item_state: str = "NotExecuting"
    operation_mode: str = "Processing"
    unmapped: FaultCode | None = None
    """A code that the configuration's map does not name."""

    @property
    def stands(self) -> bool:
        """A standstill inside production: stopped, starved, blocked."""
        return self.state in ("stopped", "starved", "blocked")

    def dump(self) -> dict[str, Any]:
        """JSON-able; its constructor takes it back."""
        return {name: getattr(self, name) for name in self.__slots__}


# OPC 40001-1 words for the configuration's states: (MachineryItemState, MachineryOperationMode).
_MACHINERY_WORDS: Mapping[str, tuple[str, str]] = {
    "running": ("Executing", "Processing"),
    "stopped": ("NotExecuting", "Processing"),
    "starved": ("NotExecuting", "Processing"),
    "blocked": ("NotExecuting", "Processing"),
    "setup": ("NotExecuting", "Setup"),
    "maintenance": ("NotExecuting", "Maintenance"),
    "break": ("NotExecuting", "None"),
    "not_planned": ("NotExecuting", "None"),
    "unknown": ("NotAvailable", "None"),
}

UNKNOWN = Condition("unknown", item_state="NotAvailable", operation_mode="None")


def condition(state: str, *, reason: str | None = None, fault: FaultCode | None = None, executing: bool = False) -> Condition:
    """A condition in the machinery words of its state. `executing`: the machine moves although it is set up."""
    item, mode = _MACHINERY_WORDS[state]
    induced = state in ("starved", "blocked") and reason is None
    return Condition(state, reason, fault, induced, "Executing" if executing else item, mode)


RUNNING = condition("running")


def unmapped(code: SampleValue) -> Condition:
    """Unknown time, because the machine says something that nobody told us the meaning of."""
    return replace(UNKNOWN, unmapped=code_of(code))


# PackML state numbers (OPC 30050): None = transition, belongs to its neighbour; True = induced (Suspended); False = own stop.
_PACKML_INDUCED: Mapping[int, bool | None] = {
    1: None, 2: False, 3: None, 4: False, 5: True, 7: False, 8: False, 9: False, 10: False, 11: False, 12: False,
    13: True, 14: True, 15: None, 16: None, 17: False,
}  # fmt: skip
_PACKML_NAMES = (
    "Clearing", "Stopped", "Starting", "Idle", "Suspended", "Execute", "Stopping", "Aborting", "Aborted", "Holding", "Held", "Unholding",
    "Suspending", "Unsuspending", "Resetting", "Completing", "Complete",
)  # fmt: skip
_PACKML_EXECUTE = 6
_PACKML_OUTER = frozenset({18, 19})
"""Cleared and Running of OPC 30050: which state it is, the next state machine inside says."""
_PACKML_MODES = {"Invalid": 0, "Produce": 1, "Production": 1, "Maintenance": 2, "Manual": 3}
_ITEM_STATES = ("NotAvailable", "OutOfService", "NotExecuting", "Executing")
_OPERATION_MODES = ("None", "Maintenance", "Setup", "Processing")
# `CurrentState/Id` names a state by a node of its companion specification's namespace, and never changes with the server's language.
# Numbers: node sets Opc.Ua.PackML 1.1.0 and Opc.Ua.Machinery 1.03.0, https://github.com/OPCFoundation/UA-Nodeset
_PACKML_IDS: Mapping[int, int] = {
    55: 1, 53: 2, 29: 3, 28: 4, 31: 5, 36: 6, 54: 7, 61: 8, 62: 9, 33: 10, 34: 11, 35: 12, 30: 13, 32: 14, 27: 15, 37: 16, 38: 17,
    5001: 18, 75: 19,
}  # fmt: skip
_ITEM_IDS: Mapping[int, int] = {5005: 0, 5004: 1, 5007: 2, 5006: 3}
_MODE_IDS: Mapping[int, int] = {5024: 0, 5025: 1, 5027: 2, 5026: 3}
_NODE_ID = re.compile(r"(?:(?:ns|nsu)=[^;]*;)?i=([0-9]{1,10})")


def code_of(value: SampleValue) -> FaultCode | None:
    """A tag's value as a code: whole numbers as int, also when written as text; other text stripped; None for none.

    A number beyond 64 bits (a real tag that was never set) stays text: no message has an integer for it."""
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else str(value)
    whole = int(text) if isinstance(value, str) and _INTEGER.fullmatch(text) else None
    if not isinstance(value, str) and float(value).is_integer():
        whole = int(value)
    return text if whole is None or not -(1 << 63) <= whole < 1 << 64 else whole


def is_on(value: SampleValue) -> bool:
    """A tag's value as a bit."""
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "false", "off")
    return bool(value)


class StateReader:
    """Turns the held inputs of one unit into a Condition."""

    def __init__(self, source: StateSource, reasons: Mapping[str, Reason]) -> None:
        self._source = source
        self._reasons = reasons
        self._by_fault = {fault: reason.code for reason in reasons.values() for fault in reason.faults}
        self.tags = frozenset(_tags(source))

    def explain(self, fault: FaultCode) -> str:
        """The reason a fault code stands for; an unmapped one explains as `fault:<n>`."""
        return self._by_fault.get(fault, f"fault:{fault}")

    def read(self, inputs: Mapping[str, Input]) -> Condition:
        """The condition now. An input that was never read or is bad makes the state unknown, a bad fault word only no fault."""
        source = self._source
        if isinstance(source, StateFromBits):
            return self._from_bits(source, inputs)
        if isinstance(source, StateFromCodes):
            return self._from_codes(source, inputs)
        if isinstance(source, StateFromPackML):
            return _from_packml(source, inputs)
        if isinstance(source, StateFromMachinery):
            return _from_machinery(source, inputs)
        raise TypeError("a unit whose state comes from counts or from its order has no state inputs")

    def _from_bits(self, source: StateFromBits, inputs: Mapping[str, Input]) -> Condition:
        running = _bit(source.running, inputs)
        if running is None:
            return UNKNOWN
        if source.planned and _bit(source.planned, inputs):
            return condition("not_planned")
        if source.setup and _bit(source.setup, inputs):
            return condition("setup", executing=running)
        if running:
            return RUNNING
        fault = self._fault(source.fault, inputs)
        if fault is not None:
            return condition("stopped", reason=self.explain(fault), fault=fault)
        for name, signal in (("blocked", source.blocked), ("starved", source.starved)):
            if signal and _bit(signal, inputs):
                return condition(name)
        return condition("stopped")

    def _from_codes(self, source: StateFromCodes, inputs: Mapping[str, Input]) -> Condition:
        code = code_of(_value(source.tag, inputs))
        if code is None:
            return UNKNOWN
        word = source.codes.get(code)
        if word is None:
            return unmapped(code)
        if word not in STATE_NAMES:
            return condition("stopped", reason=word)
        if word == "stopped":
            fault = self._fault(source.fault, inputs)
            if fault is not None:
                return condition("stopped", reason=self.explain(fault), fault=fault)
        return condition(word)

    def _fault(self, source: FaultSource | None, inputs: Mapping[str, Input]) -> FaultCode | None:
        if isinstance(source, tuple):
            return next((code_of(signal.tag) for signal in source if _bit(signal, inputs)), None)
        code = code_of(_value(source, inputs)) if source else None
        return None if code in (None, 0, "") else code


def _tags(source: StateSource) -> list[str]:
    if isinstance(source, StateFromCounts | StateFromOrder):
        return []
    if isinstance(source, StateFromBits):
        signals = (source.running, source.setup, source.starved, source.blocked, source.planned)
        return [s.tag for s in signals if s] + _fault_tags(source.fault)
    if isinstance(source, StateFromCodes):
        return [source.tag, *_fault_tags(source.fault)]
    tags = [source.state, source.mode]
    if isinstance(source, StateFromPackML):
        tags += [source.machine_state, source.execute_state]
    return [tag for tag in tags if tag]


def _fault_tags(source: FaultSource | None) -> list[str]:
    if isinstance(source, tuple):
        return [signal.tag for signal in source]
    return [source] if source else []


def _value(tag: str, inputs: Mapping[str, Input]) -> SampleValue:
    held = inputs.get(tag)
    return None if held is None or held.bad else held.value


def _bit(signal: Signal, inputs: Mapping[str, Input]) -> bool | None:
    value = _value(signal.tag, inputs)
    return None if value is None else is_on(value) != signal.invert


def _number(value: SampleValue, names: Mapping[str, int], nodes: Mapping[int, int] = {}) -> int | None:
    """A state or mode given by number, by its name, or by the node that stands for it."""
    code = code_of(value)
    if not isinstance(code, str):
        return code
    node = _NODE_ID.fullmatch(code)
    return names.get(code) if node is None else nodes.get(int(node[1]))


_PACKML_NUMBERS = {name: number for number, name in enumerate((*_PACKML_NAMES, "Cleared", "Running"), start=1)}
_ITEM_NUMBERS = {name: number for number, name in enumerate(_ITEM_STATES)}
_MODE_NUMBERS = {name: number for number, name in enumerate(_OPERATION_MODES)}


def _from_packml(source: StateFromPackML, inputs: Mapping[str, Input]) -> Condition:
    said_mode: SampleValue = _value(source.mode, inputs) if source.mode else 1
    raw, number = _innermost(source, inputs)
    if raw is None or said_mode is None:
        return UNKNOWN
    # A machine builder may add modes of his own, by number or name: none of them is production.
    mode = _number(said_mode, _PACKML_MODES)
    if mode == 2:
        return condition("maintenance")
    if mode != 1:
        return condition("not_planned")
    if number == _PACKML_EXECUTE:
        return RUNNING
    if number is None or number not in _PACKML_INDUCED:
        return unmapped(raw)
    return Condition("stopped", induced=_PACKML_INDUCED[number])


def _innermost(source: StateFromPackML, inputs: Mapping[str, Input]) -> tuple[SampleValue, int | None]:
    """The state as it was said, and its number: that of the state machine furthest inside that is active."""
    raw: SampleValue = None
    number: int | None = None
    for tag in (source.state, source.machine_state, source.execute_state):
        if tag is not None:
            raw = _value(tag, inputs)
            number = _number(raw, _PACKML_NUMBERS, _PACKML_IDS)
            if number not in _PACKML_OUTER:
                break
    return raw, number


def _from_machinery(source: StateFromMachinery, inputs: Mapping[str, Input]) -> Condition:
    raw = _value(source.state, inputs)
    said_mode: SampleValue = _value(source.mode, inputs) if source.mode else 3
    if raw is None or said_mode is None:
        return UNKNOWN
    number, mode = _number(raw, _ITEM_NUMBERS, _ITEM_IDS), _number(said_mode, _MODE_NUMBERS, _MODE_IDS)
    if number == 0:
        return UNKNOWN
    if number not in (1, 2, 3):
        return unmapped(raw)
    if mode not in (0, 1, 2, 3):
        return unmapped(said_mode)
    item, word = _ITEM_STATES[number], _OPERATION_MODES[mode]
    state = {1: "maintenance", 2: "setup"}.get(mode) or ("running" if number == 3 else "stopped")
    return Condition(state, item_state=item, operation_mode=word)
