"""Keeps an exact copy of a gateway's ledger in a file: drops repeats, acknowledges what is on disk, asks again for what is missing.

python consumer.py --broker 127.0.0.1:1883 --base lineside/v1/acme/lyon --consumer mes --file ledger.jsonl
"""

import argparse
import json
import os
import time
from pathlib import Path

import paho.mqtt.client as mqtt


class Copy:
    """`mark`: per (gateway, epoch) everything up to this sequence is in the file; `ahead`: what is there beyond the first hole."""

    def __init__(self, path: Path) -> None:
        whole = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
        path.write_bytes(whole[0] + whole[1])  # a line that a crash cut in half was never acknowledged
        self.mark: dict[tuple[str, str], int] = {}
        self.ahead: dict[tuple[str, str], set[int]] = {}
        for line in whole[0].splitlines():
            self.note(json.loads(line))
        self.file = path.open("ab")

    def note(self, event: dict) -> bool:
        """Whether the event is new: its id says so, whatever topic, order or repeat it came with."""
        key, sequence = tuple(event["id"].split(":")[:2]), event["sequence"]
        ahead, mark = self.ahead.setdefault(key, set()), self.mark.setdefault(key, 0)
        if sequence <= mark or sequence in ahead:
            return False
        ahead.add(sequence)
        while self.mark[key] + 1 in ahead:
            self.mark[key] += 1
            ahead.remove(self.mark[key])
        return True

    def take(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        if self.note(json.loads(message.payload)):
            self.file.write(message.payload + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--broker", "--base", "--consumer", "--file"):
        parser.add_argument(option, required=True)
    args = parser.parse_args()
    copy, told, asked = Copy(Path(args.file)), {}, {}
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"{args.consumer}-copy", protocol=mqtt.MQTTv5)
    topics = [(f"{args.base}/+/+/+/event/#", 1), (f"{args.base}/_gateway/+/event/#", 1)]
    client.on_connect = lambda client, *_: (told.clear(), client.subscribe(topics))
    client.on_message = copy.take
    host, _, port = args.broker.rpartition(":")
    client.connect_async(host, int(port), keepalive=10)
    while True:
        if client.loop(0.2) != mqtt.MQTT_ERR_SUCCESS:
            time.sleep(0.5)
            try:
                client.reconnect()
            except OSError:
                continue
        copy.file.flush()
        os.fsync(copy.file.fileno())
        for key, mark in copy.mark.items():
            (gateway, epoch), now = key, time.monotonic()
            if mark > told.get(key, 0):  # only what is on disk
                told[key] = mark
                ack = {"consumer": args.consumer, "epoch": epoch, "sequence": mark}
                client.publish(f"{args.base}/_gateway/{gateway}/ack", json.dumps(ack), qos=1)
            if copy.ahead[key] and now > asked.get(key, 0.0):  # a hole: ask for it, and not again before half a minute
                asked[key] = now + 30
                again = {"epoch": epoch, "from_sequence": mark + 1}
                client.publish(f"{args.base}/_gateway/{gateway}/replay", json.dumps(again), qos=1)


if __name__ == "__main__":
    main()
