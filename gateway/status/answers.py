"""Answers of the HTTP side that no cache keeps."""

from __future__ import annotations

from aiohttp import web

from gateway.domain.cloud_event import encode
from gateway.status.payloads import Payload


def html(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers={"Cache-Control": "no-store"})


def json(body: Payload, status: int = 200) -> web.Response:
    return web.Response(body=encode(body), status=status, content_type="application/json", headers={"Cache-Control": "no-store"})
