"""What comes over MQTT and from an ERP over HTTP."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

from gateway.domain.entry import Entry
from gateway.domain.inbound import Refusal
from gateway.domain.job_order import Answer, FactVerb, ReturnStatus, Verb
from gateway.uplink.erp.http_request import retry_after_s
from gateway.uplink.erp.http_schedule import read_schedule
from gateway.uplink.erp.posting import Posting, PostingPlan, Untrusted
from gateway.uplink.messages import AckMessage, NotAMessage, ReplayMessage, answer_payload, parse_command, parse_control
from tests.fuzz.engine import Parser, simple
from tests.uplink.test_messages import FULL, LEAST

NOW = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)


def fact(command: str, **fields: Any) -> dict[str, Any]:
    return {"command": command, "command_id": f"f-{command}", "at": "2026-11-25T05:00:00Z", "work_unit": "press-07", **fields}


FACTS = (
    fact("ExplainStop", reason="jam", by="Léa"),
    fact("DeclareState", state="running"),
    fact("DeclareProduction", job_order_id="OF-1", good=12, scrap=1.5),
    fact("DeclareScrap", job_order_id="OF-1", quantity=-2, reason="jam", corrects="f-1"),
    fact("DeclareRework", quantity=3),
    fact("LoadLot", material_id="COIL", lot_id="L-1", quantity=500.5, unit="KGM", queued=True),
    fact("UnloadLot", material_id="COIL", lot_id="L-1", quantity=12),
    fact("DeclareConsumption", material_id="COIL", quantity=0.25, unit="KGM", use="Other"),
    fact("StartLot", lot_id="P-2"),
    fact("DeclareSerial", serial="S-1", lot_id="P-2", job_order_id="OF-1"),
    fact("RecordQuality", characteristic="bore", value=12.013, lot_id="P-2", serial="S-1"),
    fact("CancelQuality", characteristic="bore", corrects="f-2"),
    {**fact("Reassign", to="2026-11-25T05:30:00Z", job_order_id=None), "from": "2026-11-25T04:00:00Z"},
)
COMMANDS: tuple[dict[str, Any], ...] = (FULL, LEAST, *(LEAST | {"command": verb.value} for verb in Verb), *FACTS)
WORDS = tuple(word.value.encode() for word in (*Verb, *FactVerb))


def encoded(*messages: object) -> tuple[bytes, ...]:
    return tuple(json.dumps(message).encode() for message in messages)


def command(data: bytes) -> None:
    """From the wire to an answer that can be published."""
    for kind in ("job", "fact"):
        for retained in (False, True):
            inbound = parse_command(data, retained=retained, topic_work_unit="press-07", kind=kind)
            if isinstance(inbound, Refusal):
                answer_payload(Answer(inbound.command_id, ReturnStatus(inbound.return_status), None, inbound.problem))


def control(data: bytes) -> None:
    parse_control(data, AckMessage, retained=False)
    parse_control(data, ReplayMessage, retained=False)


def schedule(data: bytes) -> None:
    for lowest_first in (False, True):
        with contextlib.suppress(NotAMessage, Untrusted):
            read_schedule(data, lowest_first=lowest_first)


def _posting() -> tuple[PostingPlan, Posting]:
    rows = [Entry(n, "e1", n, f"demo:e1:{n}", "press-07", "quantity.counted", None, NOW, b"{}") for n in range(1, 6)]
    plan = PostingPlan()
    return plan, plan.next(rows)


def performance(data: bytes) -> None:
    """The ERP's answer to a batch of five rows: what it retires or parks was in the batch."""
    plan, posting = _posting()
    known = {entry.position for entry in posting.entries}
    try:
        assert plan.acknowledged(posting, data).accepted <= known
    except Untrusted:
        assert plan.unanswered is posting
    plan, posting = _posting()
    assert {position for position, _ in plan.refused(posting, 422, data).parked} <= known


def retry_after(data: bytes) -> None:
    """The header as aiohttp hands it over."""
    wait_s = retry_after_s(data.decode("utf-8", "surrogateescape"), NOW)
    assert wait_s is None or 0 <= wait_s <= 3600


PARSERS = (
    Parser("command", encoded(*COMMANDS), simple(command), WORDS, is_json=True),
    Parser(
        "control",
        encoded({"consumer": "mes", "epoch": "e1", "sequence": 7}, {"epoch": "e1", "from_sequence": 1}),
        simple(control),
        is_json=True,
    ),
    Parser(
        "schedule",
        encoded({"commands": [FULL, *FACTS[:3]], "cursor": "c-7"}, {"commands": [], "cursor": None}),
        simple(schedule),
        WORDS,
        True,
    ),
    Parser(
        "performance",
        encoded(
            {"acknowledged": 3, "epoch": "e1"},
            {"acknowledged": 5},
            {"rejected": [{"id": "demo:e1:2", "reason": "no such order"}]},
            {"error": "oops"},
        ),
        simple(performance),
        is_json=True,
    ),
    Parser(
        "retry-after",
        (b"120", b"Wed, 25 Nov 2026 06:02:00 GMT", b"25 Nov 2026 06:02 +0100", b"Sun Nov  6 08:49:37 1994"),
        simple(retry_after),
    ),
)
