"""An MQTT broker for loopback: mosquitto where its program is given, else amqtt in pure Python (MQTT 3.1.1 only).

Anonymous, in memory: nothing survives its end. mosquitto runs below this process and ends with it, also when it has
changed to a user of its own and would no longer hear of its parent's end.

    python -m simulators.broker --port 1883
    python -m simulators.broker --port 1883 --mosquitto /usr/sbin/mosquitto
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from simulators.loopback import HOST, free_port
from simulators.process import run_until_stopped


async def _serve_mosquitto(args: argparse.Namespace, port: int, stopped: asyncio.Event) -> None:
    lines = (f"listener {port} {args.host}", "allow_anonymous true", "persistence false", "max_queued_messages 0", "log_dest stderr")
    with tempfile.TemporaryDirectory(prefix="lineside-broker-") as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n", "utf-8")
        process = await asyncio.create_subprocess_exec(args.mosquitto, "-c", str(config))
        print(f"mqtt://{args.host}:{port}", flush=True)
        ended = asyncio.create_task(process.wait(), name="mosquitto")
        asked = asyncio.create_task(stopped.wait(), name="stopped")
        await asyncio.wait((ended, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if ended.done():
            raise SystemExit(f"mosquitto ended by itself with code {ended.result()}")
        process.terminate()
        await ended


async def _serve_amqtt(args: argparse.Namespace, port: int, stopped: asyncio.Event) -> None:
    from amqtt.broker import Broker  # an optional extra: a plant with mosquitto does not need it

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{args.host}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    print(f"mqtt://{args.host}:{port}", flush=True)
    try:
        await stopped.wait()
    finally:
        await broker.shutdown()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.broker",
        description="An MQTT broker for loopback: mosquitto, or amqtt where there is none.",
        epilog="example: python -m simulators.broker --port 1883",
    )
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=1883, help="0: a free one (default 1883)")
    parser.add_argument("--mosquitto", metavar="PROGRAM", help="run this mosquitto (MQTT 5) instead of amqtt (MQTT 3.1.1)")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when standard input ends")
    args = parser.parse_args(argv)
    logging.getLogger("amqtt").setLevel(logging.ERROR)
    logging.getLogger("transitions").setLevel(logging.ERROR)
    port = args.port or free_port()
    serve = _serve_amqtt if args.mosquitto is None else _serve_mosquitto
    return run_until_stopped(lambda stopped: serve(args, port, stopped), with_stdin=args.exit_with_stdin)


if __name__ == "__main__":
    sys.exit(main())
