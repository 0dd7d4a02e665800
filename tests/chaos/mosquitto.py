"""A real mosquitto for the chaos rigs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.uplink.brokers import Mosquitto


@asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[int]:
    """Its port. It keeps nothing across its own end and drops nothing while it lives."""
    broker = Mosquitto(folder)
    await broker.start()
    try:
        yield broker.port
    finally:
        broker.kill()
