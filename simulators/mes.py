"""An independent MES: an MQTT consumer (paho, none of the gateway's code) that keeps an exact copy of the ledger.

It drops repeats by id, convicts contradictions, holes and disorder, and acknowledges what it holds without a hole on
`_gateway/{id}/ack`. A ledger whose beginning it missed is asked for on `_gateway/{id}/replay`.

    python -m simulators.mes --broker 127.0.0.1:1883 --report-file mes.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from simulators.ledger_copy import LedgerCopy, Taken, parse_json, to_json
from simulators.loopback import HOST
from simulators.process import run_until_stopped

_SESSION_EXPIRY_S = 3600
_FLUSH_S = 0.1


class Mes:
    """`start`, then `run` (which sends the acknowledgements), then `stop`. paho's own thread takes the events.

    `persistent` keeps the broker session across connections, so that a broker queues for an MES that is away.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        consumer: str = "mes",
        base: str = "lineside/v1/acme/lyon",
        protocol: str = "5",
        persistent: bool = True,
        acknowledge: bool = True,
        user: tuple[str, str] | None = None,
    ) -> None:
        self.consumer = consumer
        self.acknowledge = acknowledge
        self.connections = 0
        self._address = (host, port)
        self._base = base
        self._persistent = persistent
        self._five = protocol == "5"
        self._lock = threading.Lock()
        self._retained: dict[str, Any] = {}
        self._copy = LedgerCopy()
        self._acknowledged: dict[str, int] = {}
        self._asked: set[str] = set()
        self._gateways: dict[str, str] = {}
        self._client = self._build_client(user)

    def _build_client(self, user: tuple[str, str] | None) -> mqtt.Client:
        name = f"{self.consumer}-consumer"
        if self._five:
            client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        else:
            client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311, clean_session=not self._persistent)
        if user is not None:
            client.username_pw_set(*user)
        client.reconnect_delay_set(1, 2)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        return client

    def start(self) -> None:
        """Connect in the background and stay connected; returns at once, also while the broker is away."""
        host, port = self._address
        if self._five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = _SESSION_EXPIRY_S if self._persistent else 0
            self._client.connect_async(host, port, keepalive=10, clean_start=not self._persistent, properties=properties)
        else:
            self._client.connect_async(host, port, keepalive=10)
        self._client.loop_start()

    async def run(self, stopped: asyncio.Event) -> None:
        """Acknowledge what is held, several times a second, until `stopped`."""
        while not stopped.is_set():
            self._flush()
            await asyncio.sleep(_FLUSH_S)
        self._flush()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def connected(self) -> bool:
        return self._client.is_connected()

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """Events in order of arrival, each once, from index `after` on."""
        with self._lock:
            return self._copy.events[after:]

    def retained(self) -> dict[str, Any]:
        """Last message of each state, job and tag topic, by topic below enterprise/site."""
        with self._lock:
            return dict(self._retained)

    def report(self) -> dict[str, Any]:
        with self._lock:
            return {
                **self._copy.report(),
                "connected": self.connected,
                "connections": self.connections,
                "acknowledged": dict(self._acknowledged),
            }

    def request_replay(self, gateway: str, epoch: str, from_sequence: int) -> None:
        """Ask the gateway to send again everything it still has from a sequence on."""
        self._publish(gateway, "replay", {"epoch": epoch, "from_sequence": from_sequence})

    def _on_connect(self, client: mqtt.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            return
        self.connections += 1
        with self._lock:
            self._acknowledged.clear()
        words = ("+/+/+/event/#", "_gateway/+/event/#", "+/+/+/state", "+/+/+/job/+", "+/+/+/tag/+")
        topics = [f"{self._base}/{word}" for word in words]
        client.subscribe([(topic, 1) for topic in topics])

    def _on_message(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        below = message.topic.removeprefix(self._base + "/")
        try:
            content = parse_json(message.payload)
        except ValueError:
            content = None
        with self._lock:
            if "/event/" in f"/{below}":
                if self._copy.take(content) is Taken.NEW:
                    self._gateways[content["epoch"]] = content["id"].split(":")[0]
            else:
                self._retained[below] = content

    def _flush(self) -> None:
        """Acknowledge up to the first hole; ask once for the beginning of a ledger that was joined in the middle."""
        with self._lock:
            due = [(epoch, x.high_water, x.first) for epoch, x in self._copy.epochs.items()]
            gateways = dict(self._gateways)
        for epoch, high_water, first in due:
            if not self.connected:
                return
            gateway = gateways[epoch]
            if high_water == 0 and first > 1 and epoch not in self._asked:
                self._asked.add(epoch)
                self.request_replay(gateway, epoch, 1)
            if self.acknowledge and high_water > self._acknowledged.get(epoch, 0):
                self._publish(gateway, "ack", {"consumer": self.consumer, "epoch": epoch, "sequence": high_water})
                with self._lock:
                    self._acknowledged[epoch] = high_water

    def _publish(self, gateway: str, word: str, message: dict[str, Any]) -> None:
        self._client.publish(f"{self._base}/_gateway/{gateway}/{word}", json.dumps(message), qos=1)


async def _serve(args: argparse.Namespace, stopped: asyncio.Event) -> None:
    host, _, port = args.broker.rpartition(":")
    mes = Mes(host or HOST, int(port), consumer=args.consumer, base=args.base, protocol=args.protocol, acknowledge=not args.silent)
    mes.start()
    try:
        await mes.run(stopped)
    finally:
        mes.stop()
        text = to_json(mes.report())
        if args.report_file:
            await asyncio.to_thread(Path(args.report_file).write_text, text, "utf-8")
        else:
            print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.mes",
        description="An MQTT consumer that keeps an exact copy of a gateway's ledger and reports it as JSON at its end.",
        epilog="example: python -m simulators.mes --broker 127.0.0.1:1883 --protocol 3.1.1",
    )
    parser.add_argument("--broker", default=f"{HOST}:1883", help="HOST:PORT")
    parser.add_argument("--protocol", choices=("5", "3.1.1"), default="5")
    parser.add_argument("--consumer", default="mes")
    parser.add_argument("--base", default="lineside/v1/acme/lyon", help="root/enterprise/site (default lineside/v1/acme/lyon)")
    parser.add_argument("--silent", action="store_true", help="do not acknowledge")
    parser.add_argument("--report-file", help="where the report goes at the end (default: standard output)")
    args = parser.parse_args(argv)
    return run_until_stopped(lambda stopped: _serve(args, stopped))


if __name__ == "__main__":
    sys.exit(main())
