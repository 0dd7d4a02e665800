"""What ERPs put into files, and what a Tryton server answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from drivers.settings import Secret
from gateway.clock import SystemClock
from gateway.seams import UplinkError
from gateway.uplink.erp.files.b2mml_orders import B2mmlOrders
from gateway.uplink.erp.files.b2mml_tree import read_json, read_xml
from gateway.uplink.erp.files.csv_orders import CsvOrders
from gateway.uplink.erp.files.orders import Orders
from gateway.uplink.erp.files.settings import CsvDialect
from gateway.uplink.erp.http_request import Reply
from gateway.uplink.erp.tryton.rpc import Busy, Declined, Rpc, Stale, Unanswered, _LoggedOut
from gateway.uplink.erp.tryton.settings import TrytonSettings
from tests.fuzz.engine import Call, Parser, simple
from tests.fuzz.of_messages import encoded
from tests.uplink.files.public_schema import FOLDER
from tests.uplink.files.test_any_bytes import PARIS, swallowed

CSV = (
    b"job_order_id,work_center,product_id,quantity,unit,start_time,end_time,priority,material_id,quantity_per,material_unit,mode\n"
    b"OF-1,PRESSE-07,CAPOT12,200,C62,2026-11-25T06:00:00,2026-11-25T14:00:00+01:00,5,TOLE,0.16,KGM,backflush\n"
    b'OF-2,PRESSE-07,"CAPOT ""12""",1.5,C62,2026-11-26,2026-11-27,,COIL,,,\n',
    b"job_order_id,work_center,quantity\nOF-1,PRESSE-07,20\nOF-2,,30\n",
)
ANSWERS = encoded(
    {"id": 1, "result": [{"id": 7, "number": "PR-1", "quantity": 20.5, "state": "running", "_timestamp": "1.5"}]},
    {"id": 1, "result": [1, "5e2c"]},
    {"id": 1, "result": [{"effective_date": {"__class__": "date", "year": 2026, "month": 11, "day": 25}}]},
    {"id": 1, "result": [{"cost": {"__class__": "Decimal", "decimal": "12.50"}, "duration": {"__class__": "timedelta", "seconds": 90.5}}]},
    {"id": 1, "error": ["UserError", ["The production is locked", ""]]},
    {"id": 1, "error": ["UserWarning", ["name", "message", "description"]]},
    {"id": 1, "error": ["ConcurrencyException", "records changed"]},
    {"id": 1, "error": "database is locked"},
)


def _order_files(read: Callable[[bytes], Orders]) -> Call:
    return lambda data: swallowed(read, data)


def tryton(data: bytes) -> None:
    settings = TrytonSettings.model_validate(
        {
            "type": "tryton", "url": "http://127.0.0.1:8000", "database": "acme", "user": "lineside",
            "password": Secret(credential="tryton"), "work_centers": {"press-07": "Press 07"},
        }
    )  # fmt: skip
    for status in (200, 401, 403, 429, 500):
        rpc = Rpc(settings, clock=SystemClock(), secrets=lambda secret: "secret")
        rpc._count = 1
        with suppress(_LoggedOut, Declined, Busy, Stale, Unanswered, UplinkError):
            rpc._result("model.production.search_read", Reply(status, data))


PARSERS = (
    Parser("orders-csv", CSV, simple(_order_files(CsvOrders(None, CsvDialect(), PARIS).read)), largest=8192),
    Parser(
        "b2mml-xml",
        tuple(path.read_bytes() for path in sorted((FOLDER / "foreign").glob("*.xml"))),
        simple(_order_files(B2mmlOrders(read_xml, PARIS).read)),
        largest=16 * 1024,
    ),
    Parser(
        "b2mml-json",
        tuple(path.read_bytes() for path in sorted((FOLDER / "foreign").glob("*.json"))),
        simple(_order_files(B2mmlOrders(read_json, PARIS).read)),
        is_json=True,
        largest=16 * 1024,
    ),
    Parser("tryton", ANSWERS, simple(tryton), (b"__class__", b"error", b"result", b"decimal", b"seconds"), is_json=True),
)
