"""Servers of other hands, from npm: run by node as processes of their own, pinned in package-lock.json, installed by `make test`."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

FOLDER = Path(__file__).parent


class MissingPeerError(Exception):
    """What the peers need is not there; says what to do. A test then fails: it never skips."""


def peer(script: str, *arguments: str, folder: Path = FOLDER) -> list[str]:
    """The command line that runs `script` of this folder. Raises MissingPeerError."""
    node = shutil.which("node")
    if node is None:
        raise MissingPeerError("node is missing: `make test` installs it as root, else `sudo apt-get install nodejs npm`")
    if not (folder / "node_modules").is_dir():
        raise MissingPeerError(f"the peers are not installed in {folder}: `make peers` installs them with npm ci")
    return [node, str(folder / script), *arguments]


async def listening(process: asyncio.subprocess.Process, limit_s: float = 100.0) -> None:
    """Until the peer says that it listens; its libraries print remarks of their own before that. Raises TimeoutError, AssertionError."""
    assert process.stdout is not None
    async with asyncio.timeout(limit_s):
        while b"listening" not in (told := await process.stdout.readline()):
            assert told, "the peer ended"
