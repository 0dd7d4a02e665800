"""An MQTT broker in pure Python (amqtt, MQTT 3.1.1 only) for a demo on a machine without mosquitto.

Anonymous, in memory, for loopback: sessions are clean and nothing survives its end.

    python -m simulators.broker --port 1883
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from simulators.loopback import HOST, free_port
from simulators.process import run_until_stopped


async def _serve(args: argparse.Namespace, stopped: asyncio.Event) -> None:
    from amqtt.broker import Broker  # an optional extra: a plant with mosquitto does not need it

    port = args.port or free_port()
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
        description="A small MQTT 3.1.1 broker for loopback.",
        epilog="example: python -m simulators.broker --port 1883",
    )
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=1883, help="0: a free one (default 1883)")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when standard input ends")
    args = parser.parse_args(argv)
    logging.getLogger("amqtt").setLevel(logging.ERROR)
    logging.getLogger("transitions").setLevel(logging.ERROR)
    return run_until_stopped(lambda stopped: _serve(args, stopped), with_stdin=args.exit_with_stdin)


if __name__ == "__main__":
    sys.exit(main())
