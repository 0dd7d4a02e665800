"""Three OPC UA devices that can be told to misbehave: one server behind three proxies that spoil its links."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import IO

from simulators.loopback import free_port
from tests.bench.run import process
from tests.scale.many_nodes import NAMESPACE, node_name
from tests.scale.ten_devices import FLAP_S, SLOW_S

NODES = 100


class OpcUaTrouble:
    """Runs until `stack` ends. `urls`: of the one that will be dead, the slow one, the flapping one."""

    def __init__(self, stack: ExitStack, log: IO[bytes]) -> None:
        server = stack.enter_context(
            process(
                sys.executable, "-m", "tests.scale.many_nodes", "--nodes", str(NODES), "--changes", str(NODES),
                log=log, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
        )  # fmt: skip
        assert server.stdout is not None
        target = json.loads(server.stdout.readline())["url"].removeprefix("opc.tcp://")
        self._proxies = []
        self.urls = []
        for _ in range(3):
            port = free_port()
            command = [sys.executable, "-m", "simulators.faults", "--target", target, "--port", str(port)]
            self._proxies.append(stack.enter_context(process(*command, log=log, stdin=subprocess.PIPE)))
            self.urls.append(f"opc.tcp://127.0.0.1:{port}")
        self._over = threading.Event()
        self._flapping = threading.Thread(target=self._flap, name="flapping")
        stack.callback(self._stop)

    def disturb(self) -> None:
        dead, slow, _ = self._proxies
        _tell(dead, {"kind": "blackhole"})
        _tell(slow, {"kind": "latency", "delay_s": SLOW_S})
        self._flapping.start()

    def _flap(self) -> None:
        flapping = self._proxies[2]
        while not self._over.wait(FLAP_S):
            _tell(flapping, {"kind": "reset"})
            self._over.wait(FLAP_S)
            _tell(flapping, {"kind": "pass"})

    def _stop(self) -> None:
        self._over.set()
        if self._flapping.is_alive():
            self._flapping.join()


def _tell(proxy: subprocess.Popen[bytes], fault: dict[str, object]) -> None:
    assert proxy.stdin is not None
    proxy.stdin.write(json.dumps(fault).encode() + b"\n")
    proxy.stdin.flush()


def device(url: str) -> dict[str, object]:
    """Its section of a configuration."""
    tags = {node_name(number): {"node": f"nsu={NAMESPACE};s={node_name(number)}"} for number in range(NODES)}
    return {"driver": "opcua", "url": url, "security": {"insecure": True}, "interval": "100ms", "timeout": "1s", "tags": tags}
