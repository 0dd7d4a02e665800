"""A real mosquitto for the chaos rigs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from simulators.loopback import HOST, free_port
from tests.system.line import die_with_parent, eventually

_PATH = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"


@asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[int]:
    """Its port. It keeps nothing across its own end and drops nothing while it lives."""
    program = shutil.which("mosquitto", path=_PATH)
    if program is None:
        raise RuntimeError("mosquitto is needed: apt-get install mosquitto")
    port, config = free_port(), folder / "mosquitto.conf"
    config.write_text(f"listener {port} {HOST}\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n")
    with (folder / "broker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(program, "-c", str(config), stdout=log, stderr=log, preexec_fn=die_with_parent)

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(listens, 30)
        yield port
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
