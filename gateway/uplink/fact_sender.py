"""One facts command from the command line to the running gateway, over the broker that both know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from drivers.base import Clock
from gateway.seams import UplinkError
from gateway.uplink.mqtt_connection import Connection

ANSWER_S = 10.0
"""The gateway answers after its commit, well within a second; a broker on a slow line may take a few."""
_NOBODY = 0x10
_REFUSED = 0x80


class NoAnswerError(UplinkError):
    """The broker took the command and no gateway answered it."""


async def send_fact(connection: Connection, topic: str, response: str, fact: Mapping[str, Any], *, clock: Clock) -> dict[str, Any]:
    """Publish `fact` on `topic` and wait for the answer to its `command_id` on `response`. Raises UplinkError, NoAnswerError."""
    if await connection.subscribe([response]):
        raise UplinkError(f"the broker refuses to let this user read {response}")
    reason = await connection.confirmed(topic, json.dumps(fact).encode())
    if reason is None:
        raise UplinkError("the connection was lost")
    if reason == _NOBODY:
        raise NoAnswerError(f"nobody has subscribed to {topic}")
    if reason >= _REFUSED:
        raise UplinkError(f"the broker refuses to let this user write {topic}: reason {reason:#x}")
    try:
        async with clock.timeout(ANSWER_S):
            return await _answer(connection, str(fact["command_id"]))
    except TimeoutError:
        raise NoAnswerError(f"no answer on {response} within {ANSWER_S:g} s") from None


async def _answer(connection: Connection, command_id: str) -> dict[str, Any]:
    while True:
        coming = asyncio.ensure_future(connection.messages.get())
        try:
            await asyncio.wait((coming, connection.lost), return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                raise UplinkError(connection.lost.result())
        finally:
            coming.cancel()
        message = coming.result()
        connection.ack(message)
        answer = _object(message.payload)
        if answer.get("command_id") == command_id:
            return answer


def _object(payload: bytes) -> dict[str, Any]:
    """What others publish there is no answer of the gateway's."""
    try:
        found = json.loads(payload)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
