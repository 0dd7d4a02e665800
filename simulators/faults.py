"""A TCP proxy that spoils a link on demand: what networks, switches and half-dead servers do.

pass        bytes go through                       blackhole  connections stay open, nothing goes through
latency     each chunk `delay_s` late              reset      open connections are reset, new ones too
drip        `bytes_per_s` bytes a second           truncate   `after_bytes` of the answer, then the end
half_open   the peer is gone, our side is not told refuse     nobody listens

python -m simulators.faults --target 127.0.0.1:4840 --port 14840
then type a fault a line, as JSON: {"kind": "latency", "delay_s": 0.5}
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import sys
from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulators.loopback import HOST, free_port
from simulators.process import run_until_stopped


class Kind(StrEnum):
    PASS = "pass"
    LATENCY = "latency"
    BLACKHOLE = "blackhole"
    RESET = "reset"
    DRIP = "drip"
    TRUNCATE = "truncate"
    HALF_OPEN = "half_open"
    REFUSE = "refuse"


class Fault(BaseModel):
    """What the link does from now on. Only the field that belongs to `kind` matters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Kind.PASS
    delay_s: float = Field(default=0.2, ge=0)
    bytes_per_s: float = Field(default=200.0, gt=0)
    after_bytes: int = Field(default=3, ge=0)


class _Pair:
    """One client connection and its way to the target."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client_reader = reader
        self.client = writer
        self.target: asyncio.StreamWriter | None = None
        self.answered_bytes = 0

    def reset(self) -> None:
        """Both sides get a RST instead of a proper end."""
        for writer in (self.client, self.target):
            if writer is not None:
                _linger_nothing(writer)
                writer.transport.abort()

    def drop_target(self) -> None:
        if self.target is not None:
            self.target.transport.abort()

    def close(self) -> None:
        for writer in (self.client, self.target):
            if writer is not None:
                writer.close()


class FaultProxy:
    """Listens on `port` and forwards to the target, as the present fault allows."""

    def __init__(self, target_host: str, target_port: int, *, host: str = HOST, port: int = 0) -> None:
        self.target = (target_host, target_port)
        self.host = host
        self.port = port or free_port()
        self.fault = Fault()
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._pairs: dict[_Pair, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    @property
    def open_connections(self) -> int:
        return len(self._pairs)

    async def start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)

    async def stop(self) -> None:
        """Stop listening and end every connection; safe to call twice."""
        self._stop_listening()
        tasks = list(self._pairs.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def set(self, fault: Fault) -> None:
        """Change what the link does, for open connections too."""
        self.fault = fault
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if fault.kind in {Kind.RESET, Kind.REFUSE}:
            for pair in list(self._pairs):
                pair.reset()
        if fault.kind is Kind.HALF_OPEN:
            for pair in list(self._pairs):
                pair.drop_target()
        if fault.kind is Kind.REFUSE:
            self._stop_listening()
        else:
            await self.start()

    def _stop_listening(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        pair = _Pair(reader, writer)
        task = asyncio.current_task()
        if task is None:
            return
        self._pairs[pair] = task
        try:
            await self._forward(pair)
        except asyncio.CancelledError:
            pair.reset()
        except OSError:
            pair.reset()
        finally:
            del self._pairs[pair]
            pair.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _forward(self, pair: _Pair) -> None:
        if self.fault.kind is Kind.RESET:
            pair.reset()
            return
        while self.fault.kind in {Kind.BLACKHOLE, Kind.HALF_OPEN}:
            await self._changed.wait()
        target_reader, pair.target = await asyncio.open_connection(*self.target)
        ways = [
            asyncio.create_task(self._pump(pair, pair.client_reader, pair.target, answer=False)),
            asyncio.create_task(self._pump(pair, target_reader, pair.client, answer=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            results = await asyncio.gather(*ways, return_exceptions=True)
        if any(isinstance(result, OSError) for result in results):
            pair.reset()

    async def _pump(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answer: bool) -> None:
        while True:
            try:
                chunk = await reader.read(65536)
            except OSError:
                if self.fault.kind is not Kind.HALF_OPEN:
                    raise
                chunk = b""
            while self.fault.kind is Kind.BLACKHOLE or (self.fault.kind is Kind.HALF_OPEN and answer):
                await self._changed.wait()
            if not chunk:
                return
            if self.fault.kind is Kind.HALF_OPEN:
                continue
            if not await self._pass_on(pair, chunk, writer, answer=answer):
                return

    async def _pass_on(self, pair: _Pair, chunk: bytes, writer: asyncio.StreamWriter, *, answer: bool) -> bool:
        """Write one chunk as the fault allows; False ends the connection."""
        fault = self.fault
        if fault.kind is Kind.LATENCY:
            await asyncio.sleep(fault.delay_s)
        if fault.kind is Kind.DRIP:
            for i in range(len(chunk)):
                writer.write(chunk[i : i + 1])
                await writer.drain()
                if self.fault.kind is Kind.DRIP:
                    await asyncio.sleep(1 / fault.bytes_per_s)
            return True
        if fault.kind is Kind.TRUNCATE and answer:
            writer.write(chunk[: max(fault.after_bytes - pair.answered_bytes, 0)])
            await writer.drain()
            pair.answered_bytes += len(chunk)
            return pair.answered_bytes < fault.after_bytes
        writer.write(chunk)
        await writer.drain()
        return True


def _linger_nothing(writer: asyncio.StreamWriter) -> None:
    """Make the close a RST: linger on, zero seconds."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _serve(args: argparse.Namespace, stopped: asyncio.Event) -> None:
    host, _, port = args.target.rpartition(":")
    proxy = FaultProxy(host or HOST, int(port), host=args.host, port=args.port)
    await proxy.start()
    print(f"{proxy.host}:{proxy.port} -> {args.target}", flush=True)
    commands = asyncio.create_task(_obey_stdin(proxy), name="commands")
    try:
        await stopped.wait()
    finally:
        commands.cancel()
        await proxy.stop()


async def _obey_stdin(proxy: FaultProxy) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            await proxy.set(Fault.model_validate_json(line))
        except ValidationError as error:
            print(json.dumps({"error": str(error)}), flush=True)
        else:
            print(json.dumps({"fault": proxy.fault.kind, "open": proxy.open_connections}), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.faults",
        description="A TCP proxy that spoils a link on demand; faults are read from standard input, one JSON object a line.",
        epilog="""example: echo '{"kind": "latency", "delay_s": 0.5}' | python -m simulators.faults --target 127.0.0.1:1883 --port 11883""",
    )
    parser.add_argument("--target", required=True, help="HOST:PORT to forward to")
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=0, help="0: a free one, printed")
    return run_until_stopped(lambda stopped: _serve(parser.parse_args(argv), stopped))


if __name__ == "__main__":
    sys.exit(main())
