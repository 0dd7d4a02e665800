from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.demo_plant import demo_config
from gateway.outbox.statedir import DATABASE
from simulators.loopback import HOST, free_port

pytestmark = pytest.mark.slow

WRONG_INPUT, CANNOT_START = 2, 1


def write_config(folder: Path, edit: Callable[[dict[str, Any]], None] = lambda tree: None, *, port: int = 0) -> Path:
    """A configuration whose peers are all away: a wrong start must not need them."""
    token = folder / "erp.token"
    token.write_text("secret")
    nobody = free_port()
    text = demo_config(
        speed=1.0, language="en", listen=f"{HOST}:{port or free_port()}", press_url=f"opc.tcp://{HOST}:{nobody}",
        packer_url=f"tcp://{HOST}:{nobody}", erp_url=f"http://{HOST}:{nobody}", broker_url=f"mqtt://{HOST}:{nobody}", protocol="auto",
        token=f"{{file: {json.dumps(str(token))}}}",
    )  # fmt: skip
    tree = yaml.safe_load(text)
    edit(tree)
    path = folder / "line.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


async def start(config: Path, state_dir: Path) -> asyncio.subprocess.Process:
    # The journal's service manager and its credentials are not those of whoever runs the tests.
    environment = {key: value for key, value in os.environ.items() if key not in ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "run", "-c", str(config), "--state-dir", str(state_dir),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip


async def refused(config: Path, state_dir: Path) -> tuple[int, list[str]]:
    """Exit code and what was said on standard error, a line each; nothing may hang or break."""
    process = await start(config, state_dir)
    try:
        async with asyncio.timeout(30):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = said.decode()
    assert "Traceback" not in text, text
    assert process.returncode is not None
    return process.returncode, text.splitlines()


@asynccontextmanager
async def running(config: Path, state_dir: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A daemon that has its state directory; it ends with 0."""
    process = await start(config, state_dir)
    try:
        assert process.stderr is not None
        async with asyncio.timeout(30):
            while b"started" not in await process.stderr.readline():
                assert process.returncode is None
        yield process
        process.terminate()
        async with asyncio.timeout(30):
            await process.communicate()
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with closing(socket.create_server((HOST, 0))) as other:
        port = other.getsockname()[1]
        code, said = await refused(write_config(tmp_path, port=port), tmp_path / "state")
    assert code == CANNOT_START
    assert f"{HOST}:{port}" in said[-2], said
    assert "listen" in said[-2], "the remedy names the key"
    assert said[-1].startswith("    expert: "), said


async def test_a_state_directory_in_use_by_a_second_process(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with running(write_config(first), state) as owner:
        code, said = await refused(write_config(second), state)
        assert code == CANNOT_START
        sentence = f"The state directory {state} is already in use by another gateway (process {owner.pid})."
        assert said[-2] == f"{sentence} Stop the other gateway, or name another directory with --state-dir."
        assert owner.returncode is None, "the first one goes on"


async def test_a_journal_of_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    config, state = write_config(tmp_path), tmp_path / "state"
    async with running(config, state):
        pass
    with closing(sqlite3.connect(state / DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 9999")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = (state / DATABASE).read_bytes()
    code, said = await refused(config, state)
    assert code == CANNOT_START
    assert said[-2].startswith(f"The journal {state / DATABASE} was written by a newer version of lineside. Install the newer version"), (
        said
    )
    assert "9999" in said[-1]
    assert (state / DATABASE).read_bytes() == before
    assert not list(state.glob("*corrupt*"))


@pytest.mark.parametrize("secret", [{"credential": "erp"}, {"file": "gone.token"}])
async def test_a_credential_that_is_missing(secret: dict[str, str], tmp_path: Path) -> None:
    def edit(tree: dict[str, Any]) -> None:
        tree["uplinks"]["erp"]["token"] = secret

    config = write_config(tmp_path, edit)
    code, said = await refused(config, tmp_path / "state")
    assert code == WRONG_INPUT
    text = "\n".join(said)
    assert str(config) in text
    assert "uplinks.erp.token" in text
    assert next(iter(secret.values())) in text
    assert not (tmp_path / "state").exists()


async def test_a_key_that_does_not_exist(tmp_path: Path) -> None:
    def edit(tree: dict[str, Any]) -> None:
        device = tree["devices"]["packer_plc"]
        device["intervall"] = device.pop("interval")

    config = write_config(tmp_path, edit)
    code, said = await refused(config, tmp_path / "state")
    line = next(number for number, text in enumerate(config.read_text().splitlines(), start=1) if "intervall" in text)
    assert code == WRONG_INPUT
    text = "\n".join(said)
    assert f"{config}:{line}" in text, text
    assert "intervall" in text
    assert "interval" in text.replace("intervall", ""), "the remedy names the key that was meant"
    assert said[-1] == "1 problem in the configuration"
    assert not (tmp_path / "state").exists(), "nothing was begun"
