"""A daemon and a secured PLC that it does not know yet: refused with a sentence, believed after `lineside pki trust`, watched."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from drivers.opcua_certificates import thumbprint
from simulators.loopback import HOST, free_port
from tests.drivers import opcua_certificates as make
from tests.drivers.secured_plc import SecuredDevice

pytestmark = pytest.mark.slow

CONFIG = """
gateway: {{id: line-pc-07, enterprise: acme, site: lyon, time_zone: Europe/Paris, listen: "127.0.0.1:{page}"}}
devices:
  press_plc:
    driver: opcua
    url: opc.tcp://127.0.0.1:{plc}
    security: {{policy: Basic256Sha256, mode: SignAndEncrypt}}
    user: {{name: gateway, password: {{file: password}}}}
    interval: 100ms
    tags: {{parts: {{node: "nsu=urn:test:plc;s=parts"}}, running: {{node: "nsu=urn:test:plc;s=running"}}}}
  old_plc:
    driver: opcua
    url: opc.tcp://192.0.2.3:4840
    security: {{insecure: true}}
    user: {{name: gateway, password: {{file: password}}, clear_text: true}}
    tags: {{parts: {{node: "ns=2;s=parts"}}}}
work_units:
  press-07:
    area: stamping
    work_center: line-3
    device: press_plc
    ideal_cycle_time: 1s
    state: {{from: bits, running: running}}
    counts: {{total: parts}}
"""


class Gateway:
    """The daemon as a process; `command` runs another `lineside` beside it."""

    def __init__(self, folder: Path, plc: SecuredDevice, http: aiohttp.ClientSession) -> None:
        self.state = folder / "state"
        self.config = folder / "line.yaml"
        self.page = f"http://{HOST}:{free_port()}"
        self.config.write_text(CONFIG.format(page=self.page.rpartition(":")[2], plc=plc.port), encoding="utf-8")
        (folder / "password").write_text("secret\n", encoding="ascii")
        self._http = http

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        process = await self._start("run", "-c", str(self.config), "--state-dir", str(self.state))
        try:
            yield
        finally:
            process.terminate()
            await process.communicate()

    async def command(self, *words: str) -> str:
        process = await self._start(*words, "-c", str(self.config), "--state-dir", str(self.state))
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    async def _start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )

    async def shows(self, path: str, found: Callable[[Any], bool]) -> Any:
        """What `path` answers, once `found` holds. Raises TimeoutError after a minute."""
        async with asyncio.timeout(60):
            while True:
                try:
                    async with self._http.get(self.page + path) as answer:
                        shown = await (answer.text() if path == "/metrics" else answer.json())
                    if found(shown):
                        return shown
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.1)


async def test_an_unknown_plc_is_refused_until_a_person_trusts_it(tmp_path: Path) -> None:
    plc = SecuredDevice(tmp_path)
    await plc.start()
    certificate = make.make(days=30.5)
    await plc.install(certificate)
    mark = thumbprint(certificate)
    try:
        async with aiohttp.ClientSession() as http:
            gateway = Gateway(tmp_path, plc, http)
            async with gateway.running():
                shown = await gateway.shows("/api/status", lambda status: "pki trust" in str(status))
                assert f"lineside pki trust {mark}" in str(shown)
                counted = 'lineside_refused_peers_total{device="press_plc",reason="BadCertificateUntrusted"}'
                await gateway.shows("/metrics", lambda text: counted in text)
                for allowed in ("insecure", "clear_text"):
                    await gateway.shows(
                        "/metrics", lambda text, key=f"device.{allowed}:old_plc": f'alert_active{{alert="{key}"}} 1.0' in text
                    )
                assert f"rejected  {mark}" in await gateway.command("pki", "list")
                await gateway.command("pki", "trust", mark[:8])
                await gateway.shows("/metrics", lambda text: 'link_up{kind="device",link="press_plc"} 1.0' in text)
                text = await gateway.shows("/metrics", lambda text: 'certificate_days_left{device="press_plc",which="server"}' in text)
                left = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if "certificate_days_left{" in line}
                assert 30 < left['lineside_certificate_days_left{device="press_plc",which="server"}'] < 31
                assert left['lineside_certificate_days_left{device="press_plc",which="own"}'] > 1800
                await gateway.shows("/metrics", lambda text: 'alert_active{alert="certificate.server:press_plc"} 1.0' in text)
                assert "urn:lineside:line-pc-07" in await gateway.command("pki", "show", "own")
                # The PLC gets a new certificate, signed by an authority that the site trusts.
                authority = make.Authority()
                file = make.put(tmp_path, "authority.der", make.der(authority.certificate()))
                await gateway.command("pki", "trust", str(file))
                await plc.install(make.make(authority=authority))
                for connection in list(plc.server.bserver.clients):
                    connection.transport.abort()
                await gateway.shows("/metrics", lambda text: 'alert_active{alert="certificate.server:press_plc"}' not in text)
    finally:
        await plc.stop()
