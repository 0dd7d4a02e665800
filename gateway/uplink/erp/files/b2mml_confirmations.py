"""Confirmations as B2MML V7: a WorkPerformance with one JobResponse, in XML or in JSON.

WorkPerformance and not OperationsPerformance: what the line knows is the job it ran at one work unit, and only this form names the job
order itself. Quantities of MaterialActual and EquipmentActual are what is new in this message; the totals are in JobResponseData.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from gateway.uplink.erp.files.booked import Confirmation, Row
from gateway.uplink.erp.files.csv_confirmations import plain

NAMESPACE = "http://www.mesa.org/xml/B2MML"

_TOTALS = (
    ("PQ", "produced_total"), ("GQ", "good_total"), ("SQ", "scrap_total"), ("RQ", "rework_total"),
    ("APT", "run_s_total"), ("AUST", "setup_s_total"), ("ADET", "stop_s_total"),
)  # fmt: skip
"""Names of ISO 22400; quantities in the order's unit, times in seconds."""

Tree = dict[str, Any]


class B2mmlConfirmations:
    def __init__(self, *, as_xml: bool) -> None:
        self._as_xml = as_xml

    def files(self, confirmation: Confirmation, facts: Mapping[str, Any]) -> dict[str, bytes]:
        """One file, whatever kinds of rows there are."""
        message = performance(confirmation, facts)
        if self._as_xml:
            # Element names without a prefix, as the schema's own examples have them; Python would invent one for a qualified name.
            root = Element("WorkPerformance", {"xmlns": NAMESPACE})
            _fill(root, message)
            return {confirmation.kind: tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"}
        return {confirmation.kind: json.dumps({"WorkPerformance": message}, ensure_ascii=False).encode() + b"\n"}


def performance(confirmation: Confirmation, facts: Mapping[str, Any]) -> Tree:
    """The message; members in the order of the schema, lists where it allows several."""
    at = _time(confirmation.at)
    state = "Completed" if confirmation.booked.closed else "Running"
    response: Tree = {"ID": facts["confirmation_id"], "PublishedDate": at}
    if confirmation.kind == "start":
        response["StartTime"] = at
    if confirmation.kind == "close":
        response["EndTime"] = at
    response |= {"WorkType": "Production", "JobOrderID": facts["job_order_id"], "JobState": state}
    data = _data(confirmation)
    equipment = _equipment(confirmation, facts)
    materials = _materials(confirmation, facts)
    for name, found in (("JobResponseData", data), ("EquipmentActual", equipment), ("MaterialActual", materials)):
        if found:
            response[name] = found
    work: Tree = {"ID": facts["confirmation_id"], "WorkType": "Production"}
    if facts.get("order_id"):
        work["WorkRequestID"] = facts["order_id"]
    work |= {"ResponseState": state, "JobResponse": [response]}
    return {
        "ID": facts["confirmation_id"],
        "PublishedDate": at,
        "WorkType": "Production",
        "WorkScheduleID": facts.get("order_id") or facts["job_order_id"],
        "WorkState": state,
        "WorkResponse": [work],
    }


def _data(confirmation: Confirmation) -> list[Tree]:
    found = []
    for row in (*confirmation.rows.get("totals", ()), *confirmation.rows.get("close", ())):
        for name, field in _TOTALS:
            unit = row["unit"] if field.split("_")[0] in ("produced", "good", "scrap", "rework") else "SEC"
            found.append({"ID": name, "Value": [_value(row[field], unit)]})
    for row in confirmation.rows.get("promise", ()):
        said = ("eta_likely", "eta_safe", "verdict", "basis")
        found += [{"ID": name, "Value": [_value(row[name])]} for name in said if row[name] is not None]
    return found


def _equipment(confirmation: Confirmation, facts: Mapping[str, Any]) -> list[Tree]:
    name = facts["work_center"]
    found: list[Tree] = []
    for row in confirmation.rows.get("totals", ()):
        for use, field in (("Run", "run_s"), ("Setup", "setup_s"), ("Stop", "stop_s")):
            if row[field]:
                found.append(
                    {
                        "ID": f"{facts['confirmation_id']}/{use}",
                        "EquipmentID": [name],
                        "EquipmentUse": use,
                        "Quantity": [_quantity(row[field], "SEC")],
                    }
                )
    for row in confirmation.rows.get("stops", ()):
        said = {"from": row["from"], "to": row["to"], "reason": row["reason"], "induced": row["induced"]}
        found.append(
            {
                "ID": row["stop_id"],
                "EquipmentID": [name],
                "EquipmentUse": "StopEvent",
                "Quantity": [_quantity(row["duration_s"], "SEC")],
                "EquipmentActualProperty": [{"ID": field, "Value": [_value(value)]} for field, value in said.items() if value is not None],
            }
        )
    return found or ([{"ID": f"{facts['confirmation_id']}/E", "EquipmentID": [name]}] if confirmation.kind == "start" else [])


def _materials(confirmation: Confirmation, facts: Mapping[str, Any]) -> list[Tree]:
    found: list[Tree] = []

    def add(material: str | None, lot: str | None, use: str, row: Row, field: str, disposition: str | None = None) -> None:
        entry: Tree = {"ID": f"{facts['confirmation_id']}/M{len(found) + 1}"}
        if material:
            entry["MaterialDefinitionID"] = [material]
        if lot:
            entry["MaterialLotID"] = [lot]
        entry["MaterialUse"] = use
        entry["Quantity"] = [_quantity(row[field], row["unit"])]
        properties: list[Tree] = [{"ID": "total", "Quantity": [_quantity(row[f"{field}_total"], row["unit"])]}]
        if disposition:
            properties.insert(0, {"ID": "disposition", "Value": [_value(disposition)]})
        entry["MaterialActualProperty"] = properties
        found.append(entry)

    for row in confirmation.rows.get("totals", ()):
        # B2MML has no use for scrap and rework: `Other`, and a property says which.
        for field, use, disposition in (("good", "Produced", None), ("scrap", "Other", "Scrap"), ("rework", "Other", "Rework")):
            if row[field]:
                add(facts.get("product_id"), None, use, row, field, disposition)
    for row in confirmation.rows.get("consumption", ()):
        add(row["material_id"], row["lot_id"], row["use"], row, "quantity", "Scrap" if row["use"] == "Other" else None)
    results = confirmation.rows.get("quality", ())
    for lot in dict.fromkeys(row["lot_id"] for row in results):
        found.append(_tested(lot, [row for row in results if row["lot_id"] == lot], facts, len(found) + 1))
    return found


def _tested(lot: str | None, rows: Sequence[Row], facts: Mapping[str, Any], number: int) -> Tree:
    entry: Tree = {"ID": f"{facts['confirmation_id']}/M{number}"}
    if facts.get("product_id"):
        entry["MaterialDefinitionID"] = [facts["product_id"]]
    if lot:
        entry["MaterialLotID"] = [lot]
    entry["MaterialUse"] = "Produced"
    entry["TestResult"] = [
        {
            "ID": row["result_id"],
            "EvaluationDate": _time(row["at"]),
            "TestableObjectID": lot or facts["job_order_id"],
            "EvaluatedCriterionResult": "Cancelled" if row["cancelled"] else row["result"],
            "PropertyMeasurement": [
                {
                    "ID": row["result_id"],
                    **_limits(row),
                    "TestableObjectPropertyID": [row["characteristic"]],
                    "MeasurementDate": _time(row["at"]),
                    "Value": _value(row["value"], row["unit"]),
                }
            ],
        }
        for row in rows
    ]
    return entry


def _limits(row: Row) -> Tree:
    """The schema has no place for limits; they are said in words."""
    if row["lower"] is None and row["upper"] is None:
        return {}
    ends = ["" if row[end] is None else plain(row[end]) for end in ("lower", "upper")]
    return {"Description": [f"limits {ends[0]}..{ends[1]}"]}


def _quantity(number: Decimal, unit: str) -> Tree:
    return {"QuantityString": plain(number), "DataType": "decimal", "UnitOfMeasure": unit}


def _value(value: object, unit: str | None = None) -> Tree:
    if isinstance(value, bool):
        said, kind = ("true" if value else "false"), "boolean"
    elif isinstance(value, Decimal | int):
        said, kind = plain(Decimal(value)), "decimal"
    elif isinstance(value, datetime):
        said, kind = _time(value), "dateTime"
    else:
        said, kind = str(value), "string"
    return {"ValueString": said, "DataType": kind} | ({"UnitOfMeasure": unit} if unit else {})


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fill(element: Element, tree: Tree) -> None:
    for name, members in tree.items():
        for member in members if isinstance(members, list) else [members]:
            child = SubElement(element, name)
            if isinstance(member, dict):
                _fill(child, member)
            else:
                child.text = str(member)
