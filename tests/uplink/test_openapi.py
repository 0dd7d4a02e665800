"""The OpenAPI document of the ERP exchange: valid, current, and saying what the code takes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import ValidationError

from gateway.domain.inbound import Refusal
from gateway.uplink.erp.http_schedule import read_schedule
from gateway.uplink.erp.openapi import openapi
from tests.uplink.exchange import DOCUMENT, check_reply, check_request
from tests.uplink.test_messages import FULL, LEAST

PUBLISHED = Path(__file__).parents[2] / "docs/erp/openapi.json"
KEY = {"Idempotency-Key": "line-pc-07:e1:42"}


@pytest.mark.slow
def test_it_is_openapi_3_1() -> None:
    # Imported here: the fast tests do without its second of loading.
    from openapi_spec_validator import OpenAPIV31SpecValidator, validate

    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def test_the_published_file_is_current() -> None:
    assert json.loads(PUBLISHED.read_text()) == openapi(), "make schema"


def test_each_example_fits_its_schema_and_the_order_is_taken() -> None:
    schedule = DOCUMENT["paths"]["/work-schedule"]["get"]["responses"]["200"]["content"]["application/json"]["example"]
    check_reply("GET", "/work-schedule", 200, json.dumps(schedule).encode())
    (order,) = read_schedule(json.dumps(schedule).encode(), lowest_first=False).items
    assert not isinstance(order, Refusal)
    post = DOCUMENT["paths"]["/work-performance"]["post"]
    batch = post["requestBody"]["content"]["application/json"]["example"]
    check_request("POST", "/work-performance", {}, KEY, json.dumps(batch).encode())
    for status in ("200", "422"):
        check_reply(
            "POST",
            "/work-performance",
            int(status),
            json.dumps(post["responses"][status]["content"]["application/json"]["example"]).encode(),
        )


@pytest.mark.parametrize("message", [FULL, LEAST])
def test_what_the_gateway_takes_the_document_lets_an_erp_say(message: dict[str, Any]) -> None:
    body = json.dumps({"commands": [{**message, "work_unit": "press-07"}], "cursor": "7"}).encode()
    check_reply("GET", "/work-schedule", 200, body)
    (order,) = read_schedule(body, lowest_first=False).items
    assert not isinstance(order, Refusal)


@pytest.mark.parametrize(
    "body",
    [
        {"commands": [{key: value for key, value in FULL.items() if key != "work_unit"}]},
        {"commands": [{**FULL, "work_unit": "press-07", "command": "Explode"}]},
        {"commands": [{**FULL, "work_unit": "press-07", "colour": "red"}]},
        {"commands": [], "cursor": 7},
        {"commands": [], "cursor": "x" * 2001},
        {"cursor": "7"},
    ],
)
def test_what_the_gateway_refuses_the_document_forbids(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        check_reply("GET", "/work-schedule", 200, json.dumps(body).encode())


def test_the_checks_of_requests_can_fail() -> None:
    check_request("GET", "/work-schedule", {"gateway": "line-pc-07", "after": "7"}, {}, b"")
    for query in ({}, {"gateway": "a b"}, {"gateway": "line-pc-07", "colour": "red"}):
        with pytest.raises((AssertionError, ValidationError)):
            check_request("GET", "/work-schedule", query, {}, b"")
    with pytest.raises(ValidationError):
        check_request("POST", "/work-performance", {}, KEY, b'{"events": []}')
