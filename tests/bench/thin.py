"""The floor: a thin pymodbus-to-MQTT script, as a site would write it in an afternoon.

One JSON message per poll and device, QoS 1, no model, no journal, no buffer. It is what `make bench` compares with.

    python -m tests.bench.thin --modbus 5020,5021 --broker 1883 --interval 1.0
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from pymodbus.client import AsyncModbusTcpClient

REGISTERS = 100


async def poll(port: int, number: int, interval_s: float, client: mqtt.Client) -> None:
    plc = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=1, retries=0)
    await plc.connect()
    names = [f"r{address:02d}" for address in range(REGISTERS)]
    due = time.monotonic()
    while True:
        reply = await plc.read_holding_registers(0, count=REGISTERS, device_id=1)
        if not reply.isError():
            values = dict(zip(names, reply.registers, strict=True))
            message = json.dumps({"timestamp_ms": time.time_ns() // 1_000_000, "values": values})
            client.publish(f"thin/plc-{number}", message, qos=1)
        due += interval_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def run(ports: list[int], broker: int, interval_s: float) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="thin")
    client.connect("127.0.0.1", broker)
    client.loop_start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    polls = [asyncio.create_task(poll(port, number, interval_s, client)) for number, port in enumerate(ports)]
    await stop.wait()
    for task in polls:
        task.cancel()
    client.disconnect()
    client.loop_stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modbus", required=True, help="ports, separated by commas")
    parser.add_argument("--broker", type=int, required=True)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds")
    given = parser.parse_args()
    asyncio.run(run([int(port) for port in given.modbus.split(",")], given.broker, given.interval))


if __name__ == "__main__":
    main()
