"""`lineside demo`: a simulated plant, the gateway and its page on this machine; a story, and a reconciliation at its end."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from gateway.cli.demo_books import Reconciliation, reconcile
from gateway.cli.demo_plant import HOST, PAGE_PORT, Children, DemoError, choose_broker, demo_config, free_port, python
from gateway.cli.demo_story import Story
from gateway.clock import SystemClock
from gateway.outbox.statedir import DATABASE, StoreError, lock

START_S = 30.0
ORDERS_S = 15.0
"""How long the machines wait for their first orders before they are switched on all the same."""
SETTLE_S = 20.0
"""How long journal, MES and ERP may take to catch up with machines that stand still."""
URGENT_AFTER_S = 10.0
"""Divided by the speed: while the first order is still on the machine."""
URGENT_UNIT = "press-07"
_TURN_S = 0.5
_UNITS = {"press-07": "stamping/line-3/press-07", "packer-02": "packing/line-3/packer-02"}
_COUNTERS = ("stamping/line-3/press-07/tag/parts", "stamping/line-3/press-07/tag/rejects", "packing/line-3/packer-02/tag/parts")


def add_parser(subparsers: Any) -> None:
    """Add `demo` to the command line."""
    parser = subparsers.add_parser(
        "demo",
        help="a simulated plant with the gateway and its page, on this machine",
        description="Start an OPC UA press, a Modbus packer, an MQTT broker, an MES and an ERP, all simulated, and the gateway between "
        "them. Say what to open and what happens; at the end (Ctrl-C or --for) compare the pieces at each PLC with the journal, the MES "
        "and the ERP. Exit code 0 when they are equal, 1 when they are not.",
        epilog="example: lineside demo --speed 5 --for 120",
    )
    parser.add_argument("--state-dir", type=Path, help="where configuration, journal and logs go (default: a temporary folder)")
    parser.add_argument("--speed", type=_speed, default=1.0, metavar="X", help="the plant is X times faster (default 1)")
    parser.add_argument(
        "--for", dest="seconds", type=_seconds, metavar="SECONDS", help="end by itself after this time (default: at Ctrl-C)"
    )
    parser.add_argument("--broker", choices=("auto", "mosquitto", "amqtt"), default="auto", help="default: mosquitto where it is installed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo to its end. 0: everything is equal, 1: it is not, or something could not be started."""
    own = args.state_dir is None
    folder: Path = Path(tempfile.mkdtemp(prefix="lineside-demo-")) if own else args.state_dir.resolve()
    try:
        _fresh(folder)
        code = asyncio.run(_Demo(folder, args.speed, args.seconds, args.broker).play())
    except DemoError as error:
        print(error, flush=True)
        code = 1
    except OSError as error:
        print(f"The demo could not go on: {error}", flush=True)
        code = 1
    if own and code == 0:
        shutil.rmtree(folder)
    else:
        print(f"Configuration, journal and logs: {folder}", flush=True)
    return code


def _fresh(folder: Path) -> None:
    """Each demo is a new plant with new counters: what an earlier one left is moved aside, not counted on."""
    try:
        os.close(lock(folder))
    except StoreError as error:
        raise DemoError(f"{error.problem.en} {error.remedy.en}") from error
    left = [path for path in folder.iterdir() if not path.name.startswith("earlier-")]
    if any(path.name == DATABASE for path in left):
        aside = folder / f"earlier-{sum(1 for _ in folder.glob('earlier-*')) + 1}"
        aside.mkdir()
        for path in left:
            path.rename(aside / path.name)
    (folder / "logs").mkdir(exist_ok=True)


class _Demo:
    """One run: start everything, tell the story, freeze the machines, compare, end everything."""

    def __init__(self, folder: Path, speed: float, seconds: float | None, broker: str) -> None:
        self._folder = folder
        self._speed = speed
        self._seconds = seconds
        self._broker = broker
        self._clock = SystemClock()
        self._children = Children(self._clock, folder / "logs")
        self._interrupted = asyncio.Event()
        self._abandoned = False
        self._control = ""
        self._page = ""
        self._story = Story()
        self._told = 0
        self._finished: list[str] = []

    async def play(self) -> int:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt, task)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as self._http:
            try:
                await self._start()
                await self._tell_story()
                return await self._settle_and_compare()
            except asyncio.CancelledError:
                print("Stopped at once; nothing was compared.", flush=True)
                return 1
            finally:
                await self._children.stop_all()

    def _interrupt(self, task: asyncio.Task[Any] | None) -> None:
        """The first Ctrl-C ends the story, the second one everything."""
        if self._interrupted.is_set() and not self._abandoned and task is not None:
            self._abandoned = True
            task.cancel()
        self._interrupted.set()

    async def _start(self) -> None:
        self._say(f"Starting a plant at {self._speed:g} times its speed; this takes a few seconds.")
        broker = choose_broker(self._broker)
        await self._children.start(broker.name, broker.command)
        token_file = self._folder / "erp.token"
        token_file.write_text(secrets.token_urlsafe(24), "utf-8")
        token_file.chmod(0o600)
        ports_file = self._folder / "plant.json"
        ports_file.unlink(missing_ok=True)
        options = ["--halted", "--no-proxies", "--broker", f"{HOST}:{broker.port}", "--protocol", broker.consumer]
        options += ["--speed", f"{self._speed:g}", "--token-file", str(token_file), "--ports-file", str(ports_file)]
        await self._children.start("plant", python("simulators.plant", *options))
        await self._wait("the simulated plant", lambda: _true(ports_file.exists()))
        addresses = json.loads(ports_file.read_text("utf-8"))
        self._control = addresses["control"]
        await self._wait("the MES to reach the broker", self._mes_is_connected)
        port = free_port(PAGE_PORT)
        self._page = f"http://{HOST}:{port}"
        config = self._folder / "demo.yaml"
        config.write_text(
            demo_config(
                speed=self._speed,
                language="fr" if os.environ.get("LANG", "").startswith("fr") else "en",
                listen=f"{HOST}:{port}",
                press_url=addresses["press_plc"],
                packer_url=addresses["packer_plc"],
                erp_url=addresses["erp"],
                broker_url=addresses["broker"],
                protocol=broker.protocol,
                token=f"{{file: {json.dumps(str(token_file))}}}",
            ),
            "utf-8",
        )
        await self._children.start("gateway", python("gateway", "run", "-c", str(config), "--state-dir", str(self._folder)))
        await self._wait("the gateway to be ready", self._gateway_is_ready)
        other = "" if port == PAGE_PORT else f"  (port {PAGE_PORT} is taken by something else)"
        self._say(f"Open {self._page}/ in a browser: two machines, their orders and links{other}")
        await self._wait("the gateway to read both machines", self._counters_are_read)
        await self._until(self._orders_run, ORDERS_S)
        for unit in _UNITS:
            await self._post(f"/machines/{unit}", {"do": "release"})
        self._say("The gateway has read both counters. The machines are switched on.")

    async def _tell_story(self) -> None:
        loop_end = None if self._seconds is None else self._clock.monotonic() + self._seconds
        if loop_end is None:
            self._say("Ctrl-C stops it all and compares the counts.")
        urgent_at = self._clock.monotonic() + max(URGENT_AFTER_S / self._speed, 2.0)
        urgent = False
        while not self._interrupted.is_set() and (loop_end is None or self._clock.monotonic() < loop_end):
            if not urgent and self._clock.monotonic() >= urgent_at:
                urgent = True
                await self._order_urgently()
            await self._turn()

    async def _order_urgently(self) -> None:
        """What every plan meets: a customer who cannot wait. The queue re-orders, and whoever becomes late is told with the reason."""
        order = (await self._post("/erp/urgent", {"work_unit": URGENT_UNIT}))["job_order"]
        self._say(
            f"The CRM reports an urgent need of {order['customer']['name']}: the ERP sends order {order['job_order_id']}, "
            f"{order['quantity']} pieces, before all that waits for {URGENT_UNIT}. Who becomes late is told when it has been so for a "
            f"minute; {self._page}/orders shows why"
        )

    async def _turn(self) -> None:
        self._children.check()
        await self._tell_news()
        await self._clock.sleep(_TURN_S)

    async def _tell_news(self) -> None:
        for event in (await self._get(f"/mes/events?after={self._told}"))["events"]:
            self._told += 1
            for sentence in self._story.tell(event):
                self._say(sentence)
        for order in (await self._get("/erp/finished"))["finished"][len(self._finished) :]:
            self._finished.append(order)
            self._say(f"order {order} is finished in the ERP too")

    async def _settle_and_compare(self) -> int:
        for unit in _UNITS:
            await self._post(f"/machines/{unit}", {"do": "halt"})
        self._say("The machines are switched off; waiting until journal, MES and ERP have everything.")
        result: Reconciliation | None = None
        deadline = self._clock.monotonic() + SETTLE_S
        while self._clock.monotonic() < deadline:
            await self._turn()
            try:
                result = reconcile(await self._get("/state"), self._folder)
            except sqlite3.Error:
                continue
            if not result.differences():
                break
        code = await self._children.stop("gateway")
        return self._report(result, code)

    def _report(self, result: Reconciliation | None, gateway_code: int | None) -> int:
        if result is None:
            print("\nThe journal could not be read, nothing was compared.", flush=True)
            return 1
        print("\nReconciliation: pieces since the gateway's first reading\n", flush=True)
        print("\n".join(result.table()), flush=True)
        print(f"\nOrders finished in the ERP: {', '.join(self._finished) or 'none yet'}", flush=True)
        differences = result.differences()
        if gateway_code != 0:
            differences.append(f"the gateway ended with code {gateway_code} instead of 0")
        if differences:
            print("NOT EQUAL:\n" + "\n".join(f"  {line}" for line in differences), flush=True)
            return 1
        print("Equal: every piece is in the journal, at the MES and in the ERP, once.", flush=True)
        return 0

    async def _mes_is_connected(self) -> bool:
        return bool((await self._get("/state"))["mes"]["connected"])

    async def _gateway_is_ready(self) -> bool:
        try:
            async with self._http.get(f"{self._page}/readyz") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _counters_are_read(self) -> bool:
        """A tag is good only after the sample that holds it was committed: the first one is the baseline."""
        retained = await self._get("/mes/retained")
        return all((retained.get(topic) or {}).get("quality") == "good" for topic in _COUNTERS)

    async def _orders_run(self) -> bool:
        await self._tell_news()
        events = (await self._get("/mes/events"))["events"]
        running = {str(e["source"]).rsplit("/", 1)[-1] for e in events if "job.changed" in e["type"] and e["data"]["state"] == "Running"}
        return running >= set(_UNITS)

    async def _wait(self, what: str, done: Callable[[], Awaitable[bool]]) -> None:
        if not await self._until(done, START_S) and not self._interrupted.is_set():
            raise DemoError(f"Waited {START_S:g} s for {what}, in vain. The logs tell more: {self._folder / 'logs'}")

    async def _until(self, done: Callable[[], Awaitable[bool]], seconds: float) -> bool:
        deadline = self._clock.monotonic() + seconds
        while not await done():
            self._children.check()
            if self._interrupted.is_set():
                raise DemoError("Stopped before the plant was up.")
            if self._clock.monotonic() > deadline:
                return False
            await self._clock.sleep(0.2)
        return True

    async def _get(self, path: str) -> Any:
        return await self._ask("GET", path, None)

    async def _post(self, path: str, message: Any) -> Any:
        return await self._ask("POST", path, message)

    async def _ask(self, method: str, path: str, message: Any) -> Any:
        try:
            async with self._http.request(method, self._control + path, json=message, raise_for_status=True) as response:
                return await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._children.check()
            raise DemoError(f"The simulated plant does not answer: {error}") from error

    def _say(self, sentence: str) -> None:
        print(f"{self._clock.now().astimezone():%H:%M:%S}  {sentence}", flush=True)


async def _true(value: bool) -> bool:
    return value


def _speed(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 20:
        raise argparse.ArgumentTypeError("must be between 0.1 and 20")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value
