"""The plant in the box: a press on OPC UA, a packer on Modbus, an ERP, an MES, and a fault proxy on each link.

Prints one JSON line of addresses when everything answers, then obeys its control port:

    GET  /state                    machines (true pieces, counters, PLC up), ERP, MES, faults
    GET  /mes/events?after=N       ledger events as the MES got them, from index N
    GET  /mes/retained             last state, job and tag messages, by topic below enterprise/site
    GET  /erp/report   /erp/finished   /erp/events?after=N        POST /erp/faults   /erp/orders   /erp/urgent
    POST /machines/{unit}          {"do": "release | halt | stop | reset_counters", "seconds": 30, "fault": 21}
    POST /servers/{name}           {"do": "start | stop | restart"}   name: press_plc, packer_plc, erp
    POST /faults/{link}            {"kind": "blackhole"}              link: press_plc, packer_plc, erp, broker

    python -m simulators.plant --broker 127.0.0.1:1883 --speed 5
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulators.erp import Books, Erp, add_control
from simulators.faults import Fault, FaultProxy
from simulators.ledger_copy import to_json
from simulators.loopback import HOST
from simulators.mes import Mes
from simulators.modbus_plc import ModbusPlc
from simulators.opcua_plc import OpcUaPlc
from simulators.press import Packer, Press
from simulators.process import run_until_stopped
from simulators.work_plan import WorkPlan

M = TypeVar("M", bound=BaseModel)

PRESS, PACKER = "press-07", "packer-02"
_TICK_S = 0.02


class MachineOrder(BaseModel):
    """What the control port may ask of a machine; `seconds` are machine seconds of a stop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    do: Literal["release", "halt", "stop", "reset_counters"]
    seconds: float = Field(default=30.0, gt=0)
    fault: int = Field(default=0, ge=0, le=65535)


class ServerOrder(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    do: Literal["start", "stop", "restart"]


class Plant:
    """Everything in one process. `broker`: host and port for the MES, None for a plant without one.

    `proxied` puts a fault proxy in front of each server and gives out the proxies' addresses.
    """

    def __init__(
        self,
        *,
        speed: float = 1.0,
        seed: int = 3,
        halted: bool = False,
        token: str = "demo",
        broker: tuple[str, int] | None = None,
        protocol: str = "5",
        acknowledge: bool = True,
        proxied: bool = True,
        planned: bool = True,
        control_port: int = 0,
    ) -> None:
        self.speed = speed
        self.press = Press(seed=seed, speed=speed, halted=halted)
        self.packer = Packer(seed=seed + 1, speed=speed, halted=halted)
        self.machines: dict[str, Press | Packer] = {PRESS: self.press, PACKER: self.packer}
        self.press_plc = OpcUaPlc(self.press)
        self.packer_plc = ModbusPlc(self.packer)
        plan = WorkPlan(lambda: datetime.now(UTC), speed=speed) if planned else None
        self.erp = Erp(Books(plan), token)
        self.servers: dict[str, OpcUaPlc | ModbusPlc | Erp] = {"press_plc": self.press_plc, "packer_plc": self.packer_plc, "erp": self.erp}
        self.mes = None if broker is None else self._build_mes(broker, protocol, acknowledge)
        self.proxies: dict[str, FaultProxy] = {}
        if proxied:
            self.proxies = {name: FaultProxy(HOST, server.port) for name, server in self.servers.items()}
            if broker is not None:
                self.proxies["broker"] = FaultProxy(*broker)
        self._broker = broker
        self._control_port = control_port
        self._control: web.AppRunner | None = None

    @staticmethod
    def _build_mes(broker: tuple[str, int], protocol: str, acknowledge: bool) -> Mes:
        # A 3.1.1 broker of the demo keeps sessions only for known users, so there the MES starts clean.
        return Mes(*broker, protocol=protocol, persistent=protocol == "5", acknowledge=acknowledge)

    def addresses(self) -> dict[str, Any]:
        """Where a gateway finds the plant, through the proxies where there are any; `direct` without them."""
        ports = {name: self.proxies[name].port if name in self.proxies else server.port for name, server in self.servers.items()}
        broker = self._broker
        if broker is not None and "broker" in self.proxies:
            broker = (HOST, self.proxies["broker"].port)
        return {
            "press_plc": f"opc.tcp://{HOST}:{ports['press_plc']}",
            "packer_plc": f"tcp://{HOST}:{ports['packer_plc']}",
            "erp": f"http://{HOST}:{ports['erp']}",
            "broker": None if broker is None else f"mqtt://{broker[0]}:{broker[1]}",
            "control": f"http://{HOST}:{self._control_port}",
            "direct": {"press_plc": self.press_plc.url, "packer_plc": self.packer_plc.url, "erp": self.erp.url},
        }

    async def run(self, stopped: asyncio.Event, ready: Callable[[dict[str, Any]], None]) -> None:
        """Start everything, call `ready` with the addresses, live until `stopped`, end everything."""
        try:
            await asyncio.gather(*(server.start() for server in self.servers.values()))
            for proxy in self.proxies.values():
                await proxy.start()
            await self._start_control()
            if self.mes is not None:
                self.mes.start()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(stopped), name="machines")
                if self.mes is not None:
                    tasks.create_task(self.mes.run(stopped), name="mes")
                ready(self.addresses())
        finally:
            await self._end()

    def state(self) -> dict[str, Any]:
        machines = {
            name: {
                "made": asdict(machine.made),
                "counters": asdict(machine.values()),
                "halted": machine.halted,
                "executing": machine.executing,
                "stoppage": None if machine.stoppage is None else machine.stoppage.name,
            }
            for name, machine in self.machines.items()
        }
        return {
            "speed": self.speed,
            "machines": machines,
            "servers": {name: server.up for name, server in self.servers.items()},
            "faults": {name: proxy.fault.kind for name, proxy in self.proxies.items()},
            "erp": self.erp.report(),
            "mes": None if self.mes is None else self.mes.report(),
        }

    async def _pump(self, stopped: asyncio.Event) -> None:
        """Machine time follows real time; each change is shown with the moment at which it happened."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while not stopped.is_set():
            await asyncio.sleep(_TICK_S)
            now = loop.time()
            slice_start = datetime.now(UTC) - timedelta(seconds=now - last)
            self.packer.advance(now - last)
            await self.press_plc.publish(self.press.advance(now - last), slice_start)
            last = now

    async def _end(self) -> None:
        if self.mes is not None:
            self.mes.stop()
        for proxy in self.proxies.values():
            await proxy.stop()
        for server in self.servers.values():
            await server.stop()
        if self._control is not None:
            await self._control.cleanup()

    async def _start_control(self) -> None:
        app = web.Application()
        app.router.add_get("/state", self._get_state)
        app.router.add_get("/mes/events", self._get_mes_events)
        app.router.add_get("/mes/retained", self._get_mes_retained)
        app.router.add_post("/machines/{unit}", self._post_machine)
        app.router.add_post("/servers/{name}", self._post_server)
        app.router.add_post("/faults/{link}", self._post_fault)
        add_control(app, self.erp, "/erp")
        self._control = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._control.setup()
        site = web.TCPSite(self._control, HOST, self._control_port)
        await site.start()
        self._control_port = int(self._control.addresses[0][1])

    async def _get_state(self, request: web.Request) -> web.Response:
        return _answer(200, self.state())

    async def _get_mes_events(self, request: web.Request) -> web.Response:
        after = int(request.query.get("after", "0"))
        return _answer(200, {"events": [] if self.mes is None else self.mes.events(after)})

    async def _get_mes_retained(self, request: web.Request) -> web.Response:
        return _answer(200, {} if self.mes is None else self.mes.retained())

    async def _post_machine(self, request: web.Request) -> web.Response:
        machine = self.machines.get(request.match_info["unit"])
        if machine is None:
            return _answer(404, {"error": f"machines: {', '.join(self.machines)}"})

        async def obey(order: MachineOrder) -> None:
            if order.do == "stop":
                machine.stop_for(order.seconds, order.fault)
            else:
                {"release": machine.release, "halt": machine.halt, "reset_counters": machine.reset_counters}[order.do]()

        return await _obey(request, MachineOrder, obey)

    async def _post_server(self, request: web.Request) -> web.Response:
        server = self.servers.get(request.match_info["name"])
        if server is None:
            return _answer(404, {"error": f"servers: {', '.join(self.servers)}"})

        async def obey(order: ServerOrder) -> None:
            if order.do in {"stop", "restart"}:
                await server.stop()
            if order.do in {"start", "restart"}:
                await server.start()

        return await _obey(request, ServerOrder, obey)

    async def _post_fault(self, request: web.Request) -> web.Response:
        proxy = self.proxies.get(request.match_info["link"])
        if proxy is None:
            return _answer(404, {"error": f"links: {', '.join(self.proxies) or 'none, started without proxies'}"})
        return await _obey(request, Fault, proxy.set)


async def _obey(request: web.Request, model: type[M], obey: Callable[[M], Awaitable[None]]) -> web.Response:
    try:
        order = model.model_validate_json(await request.read())
    except ValidationError as error:
        return _answer(400, {"error": str(error)})
    await obey(order)
    return _answer(200, {"ok": True})


def _answer(status: int, body: Any) -> web.Response:
    return web.json_response(body, status=status, dumps=to_json)


def _ready(ports_file: str | None) -> Callable[[dict[str, Any]], None]:
    def tell(addresses: dict[str, Any]) -> None:
        line = json.dumps(addresses)
        if ports_file:
            part = Path(ports_file + ".part")
            part.write_text(line, "utf-8")
            part.replace(ports_file)  # a reader sees the whole file or none
        print(line, flush=True)

    return tell


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.plant",
        description="A press, a packer, an ERP and an MES in one process, each behind a fault proxy, with a control port.",
        epilog="example: python -m simulators.plant --broker 127.0.0.1:1883 --speed 5 --ports-file ports.json",
    )
    parser.add_argument("--speed", type=float, default=1.0, help="how much faster than real time the machines live")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--halted", action="store_true", help="machines stand still until POST /machines/{unit} {do: release}")
    parser.add_argument("--token", default="demo", help="bearer token of the ERP")
    parser.add_argument("--token-file", help="file that holds the token instead")
    parser.add_argument("--broker", help="HOST:PORT of an MQTT broker for the MES; without it there is no MES")
    parser.add_argument("--protocol", choices=("5", "3.1.1"), default="5", help="of the MES")
    parser.add_argument("--silent-mes", action="store_true", help="the MES does not acknowledge")
    parser.add_argument("--no-proxies", action="store_true")
    parser.add_argument("--no-plan", action="store_true", help="the ERP starts without orders")
    parser.add_argument("--control-port", type=int, default=0, help="0: a free one, printed")
    parser.add_argument("--ports-file", help="also write the line of addresses here")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when standard input ends")
    args = parser.parse_args(argv)
    for name in ("asyncua", "pymodbus"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    host, _, port = (args.broker or "").rpartition(":")
    token = Path(args.token_file).read_text("utf-8").strip() if args.token_file else args.token

    async def serve(stopped: asyncio.Event) -> None:
        plant = Plant(
            speed=args.speed,
            seed=args.seed,
            halted=args.halted,
            token=token,
            broker=(host or HOST, int(port)) if args.broker else None,
            protocol=args.protocol,
            acknowledge=not args.silent_mes,
            proxied=not args.no_proxies,
            planned=not args.no_plan,
            control_port=args.control_port,
        )
        await plant.run(stopped, _ready(args.ports_file))

    return run_until_stopped(serve, with_stdin=args.exit_with_stdin)


if __name__ == "__main__":
    sys.exit(main())
