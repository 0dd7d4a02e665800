"""The other end of the outage run, a process of its own: a consumer on the broker and an ERP, which keep only what they must.

It says that it is ready, and answers each line of standard input with what there is so far; `{"clock_offset_s": ...}` tells it how the
gateway's clock goes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import orjson
import paho.mqtt.client as paho
from aiohttp import web
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from simulators.loopback import HOST

ACK_EVERY_S = 0.25


@dataclass
class Copy:
    """Which sequences have come: a byte each, and per work unit the highest one, so that order is judged without keeping rows."""

    seen: bytearray = field(default_factory=lambda: bytearray(1))
    repeats: int = 0
    out_of_order: int = 0
    mark: int = 0
    _highest: dict[str, int] = field(default_factory=dict)

    def take(self, place: str, sequence: int) -> None:
        if sequence >= len(self.seen):
            self.seen.extend(bytes(max(sequence + 1 - len(self.seen), len(self.seen))))
        if self.seen[sequence]:
            self.repeats += 1
            return
        self.seen[sequence] = 1
        if sequence < self._highest.get(place, 0):
            self.out_of_order += 1
        self._highest[place] = sequence

    def move(self) -> int:
        """The sequence up to which nothing is missing."""
        hole = self.seen.find(0, self.mark + 1)
        self.mark = (len(self.seen) if hole < 0 else hole) - 1
        return self.mark

    def report(self) -> dict[str, int]:
        return {"mark": self.move(), "rows": self.seen.count(1), "repeats": self.repeats, "out_of_order": self.out_of_order}


def _subscriber(broker: int, topics: list[str], on_message: Any) -> paho.Client:
    subscribed = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_connect = lambda client, *_: client.subscribe([(topic, 1) for topic in topics])
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = on_message
    client.connect(HOST, broker)
    client.loop_start()
    if not subscribed.wait(30):
        raise TimeoutError(f"no subscription to {topics}")
    return client


class Peers:
    def __init__(self, broker: int, root: str, gateway: str) -> None:
        self._offset_s: float | None = None
        self._ack = f"{root}/_gateway/{gateway}/ack"
        self.mes, self.erp = Copy(), Copy()
        self.late_s: list[float] = []
        self._begun: set[str] = set()
        self.epoch = ""
        self._acked = 0
        # Two connections: what a broker has queued for one consumer says nothing about how late the gateway was for another.
        self._rows = _subscriber(broker, [f"{root}/+/+/+/event/#", f"{root}/_gateway/+/event/#"], self._on_row)
        self._live = _subscriber(broker, [f"{root}/+/+/+/tag/+"], self._on_tag)

    def _on_row(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        event = orjson.loads(message.payload)
        self.epoch = event["epoch"]
        self.mes.take(event["source"], event["sequence"])

    def _on_tag(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        # A counter moves every second; what was retained, or has not changed, tells no time. The first value of all is the baseline: it
        # is told, however old, to whoever could not hear it when it was read.
        if "/tag/parts" not in message.topic or message.retain or self._offset_s is None:
            return
        if message.topic in self._begun:
            self.late_s.append(time.time() + self._offset_s - orjson.loads(message.payload)["timestamp_ms"] / 1000)
        self._begun.add(message.topic)

    def acknowledge(self) -> None:
        mark = self.mes.move()
        if mark > self._acked:
            self._acked = mark
            self._live.publish(self._ack, json.dumps({"consumer": "mes", "epoch": self.epoch, "sequence": mark}), qos=1)

    async def performance(self, request: web.Request) -> web.Response:
        """The ERP's half: every event of a batch is booked."""
        events = orjson.loads(await request.read())["events"]
        for event in events:
            self.erp.take(event["source"], event["sequence"])
        return web.json_response({"acknowledged": events[-1]["sequence"], "epoch": events[-1]["epoch"]})

    async def schedule(self, _request: web.Request) -> web.Response:
        return web.json_response({"commands": [], "cursor": "none"})

    def asked(self, question: dict[str, float]) -> dict[str, Any]:
        if "clock_offset_s" in question:
            self._offset_s = question["clock_offset_s"]
        late, self.late_s = sorted(self.late_s), []
        return {
            "mes": self.mes.report(),
            "erp": self.erp.report(),
            "live": {"count": len(late), "p50_s": late[len(late) // 2], "worst_s": late[-1]} if late else {"count": 0},
        }


async def _serve(args: argparse.Namespace) -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    peers = Peers(args.broker, args.root, args.gateway)
    app = web.Application(client_max_size=2**26)
    app.add_routes([web.post("/work-performance", peers.performance), web.get("/work-schedule", peers.schedule)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, args.erp).start()
    print(json.dumps({"ready": True}), flush=True)
    while True:
        try:
            async with asyncio.timeout(ACK_EVERY_S):
                line = await lines.get()
        except TimeoutError:
            peers.acknowledge()
            continue
        if not line:
            return
        print(json.dumps(peers.asked(json.loads(line))), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outage_peers")
    parser.add_argument("--broker", type=int, required=True)
    parser.add_argument("--erp", type=int, required=True)
    parser.add_argument("--root", required=True, help="{root}/{enterprise}/{site}")
    parser.add_argument("--gateway", required=True)
    asyncio.run(_serve(parser.parse_args()))
