"""OPC UA security against a server of another hand: node-opcua makes its own certificate, and judges ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from drivers import make_driver
from drivers.base import PeerRefusedError, Quality
from drivers.opcua_pki import Pki, prepare
from drivers.opcua_security import POLICIES
from drivers.opcua_settings import OpcUaSettings
from gateway.clock import SystemClock
from simulators.loopback import HOST, free_port
from tests.peers import FOLDER, listening, peer

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


class Peer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.port = free_port()

    async def connect(self, policy: str, mode: str) -> Quality:
        settings = OpcUaSettings.model_validate(
            {
                "driver": "opcua", "url": f"opc.tcp://{HOST}:{self.port}", "timeout": 5.0, "security": {"policy": policy, "mode": mode},
                "tags": {"total": {"node": "nsu=urn:lineside:chaos;s=Counters.Total"}},
            }
        )  # fmt: skip
        driver = make_driver(settings, SystemClock(), name="plc", secrets=str, state_dir=self.state)
        try:
            await driver.connect()
            return (await driver.read(["total"]))[0].quality
        finally:
            await driver.close()

    def trust(self) -> None:
        pki = Pki(self.state)
        for path, certificate in list(pki.certificates("rejected")):
            assert certificate is not None
            pki.move(path, certificate, "trusted")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Peer]:
    found = Peer(tmp_path_factory.mktemp("peer"))
    prepare(found.state, "line-pc-07", SystemClock().now())
    process = await asyncio.create_subprocess_exec(
        *peer("opcua_server.js", str(found.port), str(found.folder / "npm")),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=FOLDER,
    )  # fmt: skip
    await listening(process)
    yield found
    process.kill()
    await process.communicate()


async def test_every_policy_and_mode(server: Peer) -> None:
    with pytest.raises(PeerRefusedError, match="BadCertificateUntrusted"):
        await server.connect("Basic256Sha256", "Sign")
    server.trust()
    for policy in POLICIES:
        for mode in ("Sign", "SignAndEncrypt"):
            assert await server.connect(policy, mode) is Quality.GOOD
