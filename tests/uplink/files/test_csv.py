"""CSV: orders in by the site's columns, confirmations out by the ERP's, and what the `.err` says of what is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from gateway.uplink.erp.files import booked
from gateway.uplink.erp.files.booked import Booked
from gateway.uplink.erp.files.csv_confirmations import CsvConfirmations
from gateway.uplink.erp.files.csv_orders import CsvOrders
from gateway.uplink.erp.files.faults import Fault, Unreadable
from gateway.uplink.erp.files.orders import PlanMaker
from gateway.uplink.erp.files.settings import CsvColumns, CsvDialect
from gateway.uplink.erp.port import Consumption, Plan, PlanState, Totals

PARIS = ZoneInfo("Europe/Paris")
AT = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
SAGE = {
    "order_id": "OF",
    "operation_id": "OPE",
    "work_unit": "POSTE",
    "product_id": "ART",
    "quantity": "QTE",
    "end_time": "FIN",
    "state": "STA",
}
FRENCH = CsvDialect(decimal=",", dates="%d/%m/%Y %H:%M", states={"1": "released", "2": "forecast", "X": "cancelled"})
HEADER = "OF;OPE;POSTE;ART;QTE;FIN;STA;DESIGNATION\n"


def read(data: str | bytes, columns: dict[str, str] | None = None, dialect: CsvDialect = FRENCH) -> tuple[list[Plan], list[Fault]]:
    orders = CsvOrders(SAGE if columns is None else columns, dialect, PARIS).read(data.encode() if isinstance(data, str) else data)
    plans, faults = PlanMaker(["press-07", "packer-02"], {"press-07": "PRESSE-07"}, lowest_first=True).plans(orders.drafts)
    return [plan for plan, _ in plans], [*orders.faults, *faults]


def said(data: str | bytes, columns: dict[str, str] | None = None, dialect: CsvDialect = FRENCH) -> tuple[str, str]:
    """What is wrong, in both languages."""
    try:
        _, faults = read(data, columns, dialect)
    except Unreadable as error:
        faults = [error.fault]
    return faults[0].sentence("fr"), faults[0].sentence("en")


def test_orders_by_the_sites_columns() -> None:
    plans, faults = read(HEADER + "OF-1;20;PRESSE-07;CAPOT;1500,5;25/11/2026 14:00;1;Capot é\nOF-2;10;packer-02;BOX;;;2;\n")
    assert faults == []
    first, second = plans
    assert (first.key, first.work_unit, first.state) == ("OF-1/20", "press-07", PlanState.RELEASED)
    assert (first.job_order.quantity, first.job_order.end_time) == (Decimal("1500.5"), datetime(2026, 11, 25, 13, tzinfo=UTC))
    assert (first.job_order.order_id, first.job_order.operation_id, first.job_order.lowest_first) == ("OF-1", "20", True)
    assert (second.state, second.job_order.quantity) == (PlanState.FORECAST, None)


def test_a_changed_line_is_a_new_revision_and_a_repeated_one_is_not() -> None:
    line = "OF-1;20;PRESSE-07;CAPOT;100;;1;\n"
    (one,), (same,), (more,), (gone,) = (
        read(HEADER + text)[0] for text in (line, line, line.replace("100", "120"), line.replace(";1;", ";X;"))
    )
    assert one.revision == same.revision
    assert len({one.revision, more.revision, gone.revision}) == 3


def test_lines_of_one_order_are_its_materials_and_characteristics() -> None:
    header = "job_order_id;work_unit;quantity;material_id;quantity_per;material_unit;characteristic;lower;upper;customer;delivery_to\n"
    rows = (
        "OF-1;press;10;STEEL;0.16;KGM;bore;11.9;12.1;Renault;2026-11-26T12:00:00\n"
        "OF-1;press;10;PAINT;0.01;LTR;;;;Renault;2026-11-26T12:00:00\n"
    )
    orders = CsvOrders(None, CsvDialect(), PARIS).read((header + rows).encode())
    ((plan, _),), faults = PlanMaker(["press"], {}, lowest_first=False).plans(orders.drafts)
    assert (orders.faults, faults) == ([], [])
    order = plan.job_order
    assert [(row.material_id, row.quantity_per, row.unit) for row in order.material_requirements] == [
        ("STEEL", Decimal("0.16"), "KGM"), ("PAINT", Decimal("0.01"), "LTR"),
    ]  # fmt: skip
    assert [(row.characteristic, row.upper) for row in order.quality_requirements] == [("bore", Decimal("12.1"))]
    assert order.customer is not None
    assert order.customer.delivery_to == datetime(2026, 11, 26, 11, tzinfo=UTC)


def test_what_the_erp_wants_back_is_kept_as_it_is() -> None:
    columns = {"job_order_id": "OF", "properties.site": "SITE", "work_unit": "POSTE"}
    (plan,), faults = read("OF;SITE;POSTE\nOF-1;LYO;packer-02\n", columns, CsvDialect())
    assert faults == []
    assert plan.job_order.properties == {"site": "LYO"}
    assert json.loads(plan.note)["properties"] == {"site": "LYO"}


def test_columns_that_nobody_named_are_called_as_the_fields_properties_too() -> None:
    header = "job_order_id;properties.site;work_unit;remark\n"
    (plan,), faults = read(f"{header}OF-1;LYO;packer-02;-\n", {}, CsvDialect())
    assert faults == []
    assert plan.job_order.properties == {"site": "LYO"}


def test_a_file_without_header_has_numbered_columns() -> None:
    dialect = CsvDialect(header=False, delimiter=",")
    plans, faults = read("OF-1,x,packer-02,12\n", {"job_order_id": "1", "work_unit": "3", "quantity": "4"}, dialect)
    assert (plans[0].key, plans[0].job_order.quantity, faults) == ("OF-1", Decimal(12), [])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_with_and_without_its_mark(encoding: str) -> None:
    plans, _ = read((HEADER + "OF-É;20;PRESSE-07;CAPOT;1;;1;\n").encode(encoding))
    assert plans[0].key == "OF-É/20"


def test_windows_1252_when_it_is_said() -> None:
    dialect = FRENCH.model_copy(update={"encoding": "windows-1252"})
    plans, _ = read((HEADER + "OF-É€;20;PRESSE-07;CAPOT;1;;1;\n").encode("cp1252"), None, dialect)
    assert plans[0].key == "OF-É€/20"


LINE = "OF-1;20;PRESSE-07;CAPOT;100;25/11/2026 14:00;1;\n"


@pytest.mark.parametrize(
    ("data", "fr", "en"),
    [
        ((HEADER + "OF-É;20;PRESSE-07;;1;;1;\n").encode("cp1252"), "ligne 2: le fichier n'est pas en utf-8", "line 2: the file is not in"),
        ((HEADER + LINE).encode("utf-16"), "en UTF-16 et non en utf-8", "in UTF-16 and not in utf-8"),
        (HEADER.replace("QTE", "QTÉ") + LINE, "colonne absente : QTE", "line 1: column missing: QTE"),
        (HEADER.replace("DESIGNATION", "QTE") + LINE, "colonne deux fois : QTE", "column twice: QTE"),
        (HEADER.replace(";", ",") + LINE, "corriger l'export, le séparateur", "correct the export, the delimiter"),
        (HEADER + LINE.replace(";1;", ""), "ligne 2: 6 colonnes au lieu de 8", "line 2: 6 columns instead of 8"),
        (HEADER + LINE.replace("100", "1 000"), "ligne 2, colonne QTE: « 1 000 »", "line 2, column QTE: `1 000` is no number"),
        (HEADER + LINE.replace("100", "1.5"), "l'écrire comme 12,5", "write it like 12,5"),
        (HEADER + LINE.replace("100", "-3"), "QTE n'est pas un nombre possible", "line 2: QTE is no possible number"),
        (HEADER + LINE.replace("25/11/2026 14:00", "2026-11-25"), "ligne 2, colonne FIN", "write it like 25/11/2026 06:00"),
        (HEADER + LINE.replace(";1;", ";Z;"), "colonne STA: l'état « Z »", "write one of 1, 2, X"),
        (HEADER + LINE.replace("PRESSE-07", "TOUR-1"), "ajouter à `work_centers`", "line 2: the work unit `TOUR-1`"),
        (HEADER + LINE.replace("OF-1", ""), "le numéro d'ordre manque", "the order number is missing"),
        (HEADER + LINE.replace("OF-1", "X" * 140), "trop long", "too long"),
        (HEADER + LINE + LINE.replace("100", "200"), "autre valeur que ligne 2", "line 3, column QTE: another value than in line 2"),
        (HEADER + LINE[:-1], "dernière ligne n'a pas de fin", "the last line has no end"),
        (HEADER + LINE.replace("CAPOT", '"CAPOT'), "guillemets", "quotation marks"),
        (HEADER, "", ""),
        ("", "le fichier est vide", "the file is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_line_field_and_remedy(data: str | bytes, fr: str, en: str) -> None:
    if data == HEADER:
        assert read(data) == ([], [])
        return
    french, english = said(data)
    assert fr in french
    assert en in english
    assert " ; " in french
    assert "; " in english


def test_one_bad_line_leaves_the_other_orders() -> None:
    plans, faults = read(HEADER + LINE + LINE.replace("OF-1", "OF-2").replace("100", "many") + LINE.replace("OF-1", "OF-3"))
    assert [plan.key for plan in plans] == ["OF-1/20", "OF-3/20"]
    assert len(faults) == 1


@pytest.mark.parametrize("wrong", ["OF-1;20;STEEL;much;KGM\n", "OF-1;20;STEEL\n", "OF-1;20;STEEL;0,5;KGM;;\n"])
@pytest.mark.parametrize("is_first", [True, False])
def test_an_order_with_one_bad_line_of_materials_is_not_taken_without_it(wrong: str, is_first: bool) -> None:
    columns = {"order_id": "OF", "operation_id": "OPE", "material_id": "MAT", "quantity_per": "PAR", "material_unit": "UN"}
    good, other = "OF-1;20;PAINT;0,1;KGM\n", "OF-2;20;PAINT;0,1;KGM\n"
    lines = wrong + good if is_first else good + wrong
    orders = CsvOrders(columns, FRENCH, PARIS).read(f"OF;OPE;MAT;PAR;UN\n{lines}{other}".encode())
    assert [draft.fields["job_order_id"] for draft in orders.drafts] == ["OF-2/20"]
    assert len(orders.faults) == 1


def test_utf8_that_is_called_windows_1252_is_seen() -> None:
    dialect = FRENCH.model_copy(update={"encoding": "windows-1252"})
    assert "in UTF-8 and not in windows-1252" in said(HEADER + LINE.replace("CAPOT", "CÂPOT"), None, dialect)[1]


TOTALS = Totals(
    AT, Decimal(100), Decimal(3), Decimal(0), "C62", (Consumption("STEEL", "L1", "Consumed", Decimal("16.48"), "KGM"),), run_s=5400.0
)
FACTS = {
    "confirmation_id": "gw/OF-1/000002",
    "order_id": "OF-1",
    "job_order_id": "OF-1/20",
    "product_id": "ÉQUERRE",
    "properties": {"site": "LYO"},
}


def test_confirmations_by_the_erps_columns() -> None:
    columns = CsvColumns.model_validate(
        {
            "totals": {"MFGFCY": "properties.site", "MFGNUM": "order_id", "ITMREF": "product_id", "QTY": "good", "REJ": "scrap",
                       "DAT": "date", "TIM": "run_h", "END": 1, "KEY": "confirmation_id"},
            "consumption": {"ITM": "material_id", "USEQTY": "quantity"},
        }
    )  # fmt: skip
    confirmation = booked.reported(Booked(), TOTALS)
    assert confirmation is not None
    dialect = CsvDialect(decimal=",", dates="%d/%m/%Y %H:%M", encoding="windows-1252")
    files = CsvConfirmations(columns, dialect, PARIS).files(confirmation, FACTS)
    assert files["totals"].decode("cp1252") == (
        "MFGFCY;MFGNUM;ITMREF;QTY;REJ;DAT;TIM;END;KEY\r\nLYO;OF-1;ÉQUERRE;100;3;25/11/2026;1,5;1;gw/OF-1/000002\r\n"
    )
    assert files["consumption"].decode() == "ITM;USEQTY\r\nSTEEL;16,48\r\n"
    assert "stops" not in files


def test_a_kind_without_columns_is_not_written() -> None:
    confirmation = booked.started(Booked(), AT)
    assert confirmation is not None
    columns = CsvColumns.model_validate({"totals": {"Q": "good"}})
    assert CsvConfirmations(columns, CsvDialect(), PARIS).files(confirmation, FACTS) == {}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"totals": {"Q": "goood"}}, "there is no field `goood` in totals"),
        ({"orders": {"number": "OF"}}, "there is no field `number` of an order"),
        ({"orders": {"quantity": "Q"}}, "no column says which order a line is"),
        ({"orders": {"job_order_id": ""}}, "it is no column"),
    ],
)
def test_wrong_columns_are_a_configuration_error(columns: dict[str, dict[str, str]], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CsvColumns.model_validate(columns)
