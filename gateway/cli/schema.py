"""`lineside schema`: the published schemas, made from the models that the program itself uses."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from gateway.config import config_schema
from gateway.uplink import schema as wire
from gateway.uplink.erp.openapi import openapi

_SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "config": config_schema, "messages": wire.messages_schema, "asyncapi": wire.asyncapi, "openapi": openapi,
}  # fmt: skip


def add_parser(subparsers: Any) -> None:
    """Add `schema` to the command line."""
    parser = subparsers.add_parser(
        "schema",
        help="print a published schema",
        description="Print the JSON Schema of the configuration or of the messages, the AsyncAPI document of the topics, "
        "or the OpenAPI document of what an ERP offers over HTTP.",
        epilog="example: lineside schema config > lineside.schema.json",
    )
    parser.add_argument("what", choices=sorted(_SCHEMAS), metavar="config|messages|asyncapi|openapi")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the schema `args.what` as JSON."""
    print(json.dumps(_SCHEMAS[args.what](), indent=2, ensure_ascii=False))
    return 0
