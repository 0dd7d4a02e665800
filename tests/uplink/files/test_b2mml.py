"""B2MML: our messages before the public schema, and the messages of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import jsonschema
import pytest
import xmlschema

from gateway.uplink.erp.files import booked
from gateway.uplink.erp.files.b2mml_confirmations import B2mmlConfirmations
from gateway.uplink.erp.files.b2mml_orders import B2mmlOrders
from gateway.uplink.erp.files.b2mml_tree import read_json, read_xml
from gateway.uplink.erp.files.booked import Booked, Confirmation
from gateway.uplink.erp.files.faults import Unreadable
from gateway.uplink.erp.files.orders import PlanMaker
from gateway.uplink.erp.port import Consumption, Measurement, Plan, PlanState, PromisedDate, Stop, Totals
from tests.uplink.files.public_schema import FOLDER, judge_json, judge_xml

PARIS = ZoneInfo("Europe/Paris")
AT = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
FACTS = {
    "confirmation_id": "line-pc-07/OF-1/000002", "gateway": "line-pc-07", "job_order_id": "OF-1/0020", "order_id": "OF-1",
    "work_unit": "press-07", "work_center": "PRESSE-07", "product_id": "ART & <Co>",
}  # fmt: skip
TOTALS = Totals(
    AT, Decimal(18848), Decimal(423), Decimal(7), "C62",
    (Consumption("MP-TOLE-1.5", "BOB-77812", "Consumed", Decimal("3083.360"), "KGM"),
     Consumption("MP-TOLE-1.5", None, "Other", Decimal("12.5"), "KGM")),
    run_s=22380.5, setup_s=600.0, stop_s=2820.0,
    stops=(Stop("s-1", AT.replace(hour=8), AT.replace(hour=8, minute=4), "bourrage", induced=True),),
)  # fmt: skip
LESS = Totals(AT, Decimal(18840), Decimal(431), Decimal(7), "C62", run_s=22380.5, setup_s=600.0, stop_s=2820.0)
RESULTS = (
    Measurement("e-1", AT, "diametre_alesage", Decimal("12.003"), "MMT", Decimal("11.9"), None, passed=True, lot_id="LOT-1"),
    Measurement("e-2", AT, "aspect", Decimal(0), None, None, None, passed=False, lot_id=None, is_cancelled=True),
)


def _confirmations() -> dict[str, Confirmation]:
    first = booked.reported(Booked(), TOTALS)
    assert first is not None
    found = {
        "start": booked.started(Booked(), AT),
        "totals": first,
        "less": booked.reported(first.booked, LESS),
        "quality": booked.measured(Booked(), RESULTS),
        "promise": booked.promised(Booked(), PromisedDate(AT, AT, None, "at_risk", "60 pieces per hour, 2 shifts")),
        "close": booked.closed(first.booked, TOTALS),
    }
    return {name: confirmation for name, confirmation in found.items() if confirmation is not None}


def _written(confirmation: Confirmation, *, as_xml: bool) -> bytes:
    (data,) = B2mmlConfirmations(as_xml=as_xml).files(confirmation, FACTS).values()
    return data


@pytest.mark.parametrize("name", ["start", "totals", "less", "quality", "promise", "close"])
@pytest.mark.parametrize(("as_xml", "judge"), [(True, judge_xml), (False, judge_json)], ids=["xml", "json"])
def test_our_messages_are_valid(name: str, as_xml: bool, judge: Callable[[bytes], None]) -> None:
    judge(_written(_confirmations()[name], as_xml=as_xml))


def test_the_judge_judges() -> None:
    """A wrong order, a wrong state, a misspelt member and a missing one are seen, in both forms."""
    good = _written(_confirmations()["totals"], as_xml=True).decode()
    for bad in (
        good.replace("<JobState>Running</JobState>", "<JobState>Busy</JobState>"),
        good.replace("JobOrderID", "JobOrderId"),
        good.replace("<WorkScheduleID>OF-1</WorkScheduleID>", ""),
        good.replace("2026-11-25T09:30:00.000Z", "yesterday"),
    ):
        assert bad != good
        with pytest.raises(xmlschema.XMLSchemaValidationError):
            judge_xml(bad.encode())
    text = _written(_confirmations()["totals"], as_xml=False).decode()
    for bad in (
        text.replace('"JobState": "Running"', '"JobState": "Busy"'),
        text.replace("JobOrderID", "JobOrderId"),
        text.replace('"MaterialDefinitionID": ["ART & <Co>"]', '"MaterialDefinitionID": "ART"'),
        text.replace("2026-11-25T09:30:00.000Z", "yesterday"),
    ):
        assert bad != text
        with pytest.raises(jsonschema.ValidationError):
            judge_json(bad.encode())


def test_both_forms_say_the_same() -> None:
    for name, confirmation in _confirmations().items():
        _, from_xml = read_xml(_written(confirmation, as_xml=True))
        _, from_json = read_json(_written(confirmation, as_xml=False))
        assert from_xml == from_json, name


def _response(confirmation: Confirmation) -> dict[str, Any]:
    message = json.loads(_written(confirmation, as_xml=False))["WorkPerformance"]
    found: dict[str, Any] = message["WorkResponse"][0]["JobResponse"][0]
    return found


def test_quantities_are_what_is_new_and_the_totals_stand_beside() -> None:
    response = _response(_confirmations()["less"])
    made = [(each["MaterialUse"], each["Quantity"][0]["QuantityString"]) for each in response["MaterialActual"][:2]]
    assert made == [("Produced", "-8"), ("Other", "8")]
    assert response["MaterialActual"][1]["MaterialActualProperty"][0]["Value"][0]["ValueString"] == "Scrap"
    totals = {each["ID"]: each["Value"][0]["ValueString"] for each in response["JobResponseData"]}
    assert totals == {"PQ": "19278", "GQ": "18840", "SQ": "431", "RQ": "7", "APT": "22380.5", "AUST": "600", "ADET": "2820"}
    assert [each["Quantity"][0]["QuantityString"] for each in response["MaterialActual"][2:]] == ["-3083.36", "-12.5"]


def test_a_close_says_completed_once() -> None:
    response = _response(_confirmations()["close"])
    assert response["JobState"] == "Completed"
    assert "MaterialActual" not in response


def plans(name: str, work_centers: dict[str, str]) -> list[Plan]:
    data = (FOLDER / "foreign" / name).read_bytes()
    orders = B2mmlOrders(read_json if name.endswith(".json") else read_xml, PARIS).read(data)
    assert orders.faults == []
    found, faults = PlanMaker(list(work_centers), work_centers, lowest_first=False).plans(orders.drafts)
    assert faults == []
    return [plan for plan, _ in found]


def test_foreign_sap_process_order() -> None:
    (plan,) = plans("sap-process-order.xml", {"filler-1": "PESCO00"})
    order = plan.job_order
    assert (plan.work_unit, plan.state, order.job_order_id) == ("filler-1", PlanState.RELEASED, "000001004711/1")
    assert (order.product_id, order.quantity, order.unit, order.lot_id) == ("000000000070001234", Decimal(500), "CS", "CHARGE0A")
    assert order.start_time == datetime(2026, 11, 25, 13, tzinfo=UTC)
    assert order.work_master_id == "SLQ0"
    assert [(row.material_id[-6:], row.quantity_per, row.unit) for row in order.material_requirements] == [
        ("000904", Decimal("6.5"), "KG"), ("000913", Decimal(1), "EA"),
    ]  # fmt: skip


def test_foreign_shop_order() -> None:
    saw, mill = plans("shop-order.xml", {"saw-1": "WC10-SAW", "mill-1": "WC20-MILL"})
    assert (saw.key, saw.work_unit, mill.key, mill.work_unit) == ("F26-20911/005", "saw-1", "F26-20911/010", "mill-1")
    assert mill.job_order.quantity == Decimal(25)
    assert mill.job_order.end_time == datetime(2026, 11, 27, 22, tzinfo=UTC)
    assert mill.state is PlanState.RELEASED


def test_foreign_process_production_schedule() -> None:
    charge, _, discharge = plans("process-production-schedule.xml", {"cooker-3": "cooker-3"})
    assert charge.work_unit == "cooker-3"
    assert discharge.key == "BATCH-A2-3101/3"
    assert (discharge.job_order.product_id, discharge.job_order.quantity, discharge.job_order.unit) == ("product-A2", Decimal("3.1"), "t")
    assert discharge.job_order.material_requirements[0].quantity_per == Decimal(80)
    data = (
        (FOLDER / "foreign/process-production-schedule.xml").read_bytes().replace(b"ProcessProductionSchedule", b"CancelProductionSchedule")
    )
    cancelled = B2mmlOrders(read_xml, PARIS).read(data)
    assert {draft.state for draft in cancelled.drafts} == {PlanState.CANCELLED}


def test_foreign_work_schedule() -> None:
    (plan,) = plans("work-schedule.json", {"press-07": "PRESSE-07"})
    order = plan.job_order
    assert (plan.key, plan.work_unit, plan.state) == ("OF-2026-004512/0020", "press-07", PlanState.RELEASED)
    assert (order.ideal_cycle_time_s, order.pieces_per_cycle, order.priority) == (Decimal(1), 2, 50)
    assert order.customer is not None
    assert (order.customer.name, order.customer.requirements) == ("Renault Douai", ("pas de rayures", "caisses KLT"))
    assert order.customer.delivery_to == datetime(2026, 11, 26, 11, tzinfo=UTC)
    assert [(row.characteristic, row.lower, row.upper) for row in order.quality_requirements] == [
        ("diametre_alesage", Decimal("11.9"), Decimal("12.1"))
    ]
    assert order.properties == {"plan_de_controle": "PC-77"}
    assert order.material_requirements[0].quantity_per == Decimal("0.16")


def test_foreign_operations_schedule() -> None:
    judge_xml((FOLDER / "foreign/operations-schedule.xml").read_bytes())
    press, pack = plans("operations-schedule.xml", {"press-07": "PRESSE-07", "packer-02": "COND-02"})
    assert (press.key, press.job_order.order_id, press.job_order.operation_id) == ("4500987/0010", "4500987", "0010")
    assert (press.job_order.priority, press.job_order.work_master_id) == (7, "GAMME-88")
    assert press.job_order.ideal_cycle_time_s == Decimal("1.2")
    assert (pack.work_unit, pack.state) == ("packer-02", PlanState.CANCELLED)


def _fault(message: bytes, read: Callable[[bytes], Any] = read_xml) -> str:
    """The first thing wrong with a message of one order."""
    try:
        orders = B2mmlOrders(read, PARIS).read(message)
    except Unreadable as error:
        return error.fault.sentence("en")
    _, faults = PlanMaker(["press-07"], {}, lowest_first=False).plans(orders.drafts)
    return [*orders.faults, *faults][0].sentence("en")


GOOD = (
    "<WorkRequest><ID>W</ID><JobOrder><ID>OF-1</ID><StartTime>2026-11-25T06:00:00Z</StartTime><DispatchStatus>Ready</DispatchStatus>"
    "<MaterialRequirement><ID>M</ID><MaterialUse>Produced</MaterialUse><Quantity><QuantityString>10</QuantityString></Quantity>"
    "</MaterialRequirement></JobOrder></WorkRequest>"
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Ready", "Lost", "order OF-1: DispatchStatus `Lost` is not in B2MML V7"),
        ("Produced", "Made", "order OF-1: MaterialUse `Made` is not in B2MML V7"),
        ("2026-11-25T06", "yesterday", "order OF-1: StartTime `yesterday"),
        (">10<", ">many<", "order OF-1: "),
        (">10<", ">-3<", "order OF-1: MaterialRequirement.Quantity is no possible number"),
        ("<ID>OF-1</ID>", "", "order ?: ID is required"),
        ("WorkRequest>", "Equipment>", "this message (Equipment) brings no order"),
        ("</WorkRequest>", "", "it is no complete XML"),
    ],
)
def test_what_the_schema_lets_pass_is_checked(old: str, new: str, said: str) -> None:
    bad = GOOD.replace(old, new)
    assert bad != GOOD
    found = _fault(bad.encode())
    assert said in found
    assert ";" in found, "a remedy comes after the semicolon"


BOMB = '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><WorkRequest><ID>&b;</ID></WorkRequest>'
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/passwd">]><WorkRequest><ID>&a;</ID></WorkRequest>'


@pytest.mark.parametrize("message", [BOMB, OUTSIDE])
def test_entities_are_refused(message: str) -> None:
    assert "DTD, entities" in _fault(message.encode())


def test_a_tower_of_brackets_is_refused() -> None:
    assert "levels" in _fault(("<a>" * 500 + "</a>" * 500).encode())
    assert "levels" in _fault(('{"WorkRequest": ' + '{"a": ' * 500 + "1" + "}" * 501).encode(), read_json)


def test_the_files_of_others_are_described() -> None:
    """Every message in the folder is named in its README, which says where its form comes from."""
    folder = FOLDER / "foreign"
    readme = (folder / "README.md").read_text()
    assert [path.name for path in folder.iterdir() if path.name != "README.md" and f"`{path.name}`" not in readme] == []
    assert "courtesy of MESA International" in (FOLDER / "LICENSE.mesa").read_text()
    assert ElementTree.parse(FOLDER / "B2MML-V7-subset.xsd") is not None
    assert Path(FOLDER / "B2MML-V7-subset.xsd").read_text().count("courtesy of MESA International") == 1
