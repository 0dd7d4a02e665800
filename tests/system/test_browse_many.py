"""A browse of 100,000 nodes ends, says how far it is, and is left with Ctrl-C at any moment."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.test_browse import hears_ctrl_c

NODES = 100_000


@pytest.fixture
async def config(tmp_path: Path) -> AsyncIterator[Path]:
    """A configuration with a server of that many variables behind it."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.scale.many_nodes", "--nodes", str(NODES), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    try:
        async with asyncio.timeout(120):
            about = json.loads(await server.stdout.readline())
        path = tmp_path / "many.yaml"
        path.write_text(f"devices: {{many: {{driver: opcua, url: '{about['url']}', security: {{insecure: true}}}}}}\n", encoding="utf-8")
        yield path
    finally:
        server.kill()
        await server.wait()


async def browse(config: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "browse", str(config), "many", "--state-dir", str(config.parent), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**26, preexec_fn=hears_ctrl_c,
    )  # fmt: skip


@pytest.mark.system
async def test_it_is_left_with_ctrl_c_in_the_middle_and_goes_to_the_end_with_progress_shown(config: Path) -> None:
    process = await browse(config)
    assert process.stdout is not None
    async with asyncio.timeout(300):
        assert (await process.stdout.readuntil(b"V01000")).startswith(b"Aliases"), "what was found stays listed"
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert err.decode().splitlines()[-1] == "stopped before the end"

    process = await browse(config, "--csv")
    async with asyncio.timeout(600):
        out, err = await process.communicate()
    told = err.decode().splitlines()
    assert process.returncode == 0, told
    rows = out.decode().splitlines()
    assert rows[:2] == ["tag,node,type", "V00000,nsu=urn:test:many;s=V00000,uint32"]
    assert len({row.split(",")[0] for row in rows}) == NODES + 1
    assert f"{NODES} tags" in told
    assert any(line.endswith("variables") for line in told), "every few seconds it says how far it is"
