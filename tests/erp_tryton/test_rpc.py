"""The session with a server that answers as it should not; nothing goes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.seams import UplinkError
from gateway.uplink.erp.http_request import Reply
from gateway.uplink.erp.tryton import TrytonPort, TrytonSettings, rpc
from tests.erp_tryton.test_steps import GOOD
from tests.manual_clock import ManualClock

Answer = Callable[[str], Any]


def a_port(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> TrytonPort:
    """`answer(method)` is the result, or the status where it is a number."""

    async def request(*_: object, data: bytes, **__: object) -> Reply:
        call = json.loads(data)
        result = answer(call["method"])
        if isinstance(result, int):
            return Reply(result, b"")
        return Reply(200, json.dumps({"id": call["id"], "result": result}).encode())

    monkeypatch.setattr(rpc, "request", request)
    return TrytonPort(TrytonSettings.model_validate(GOOD), clock=ManualClock(), secrets=lambda secret: "secret")


_WELL: dict[str, Any] = {
    "common.db.login": [5, "token"], "model.res.user.get_preferences": {"company": 1}, "model.ir.model.search_read": [],
    "model.product.uom.search_read": [], "model.company.company.read": [{"timezone": "Europe/Paris"}],
}  # fmt: skip


async def test_a_session_that_is_over_already_is_no_trouble_when_it_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    port = a_port(monkeypatch, lambda method: _WELL.get(method, 401))
    await port.connect()
    await port.disconnect()


@pytest.mark.parametrize("login", [["five", "token"], [None, "token"], {}, [], None, 401, 404, 500])
async def test_a_login_that_means_nothing_is_told(monkeypatch: pytest.MonkeyPatch, login: object) -> None:
    port = a_port(monkeypatch, lambda method: login if method == "common.db.login" else _WELL.get(method))
    with pytest.raises(UplinkError):
        await port.connect()


@pytest.mark.parametrize("method", [method for method in _WELL if method != "common.db.login"])
@pytest.mark.parametrize("result", [None, "hello", {}, [{}], [None]])
async def test_what_is_asked_at_the_start_and_answered_with_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, method: str, result: object
) -> None:
    port = a_port(monkeypatch, lambda asked: result if asked == method else _WELL.get(asked))
    with pytest.raises(UplinkError):
        await port.connect()
