"""What `browse` and `read` share: one device of a configuration, connected for as long as a person looks at it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from drivers import make_driver, make_explorer, prepare
from drivers.base import Driver, Explorer, LinkError, TagError
from gateway.cli.errors import CommandError
from gateway.cli.run import default_state_dir
from gateway.clock import SystemClock
from gateway.config import SecretError, read_secret
from gateway.config.one_device import OneDevice
from gateway.supervise import honour_cancellation

_PATIENCE_S = 10.0
"""A person waits longer than a poll: a server that is asked for a thousand nodes at once takes its time."""
_PATIENT_DRIVERS = ("opcua",)


def add_arguments(parser: Any) -> None:
    """CONFIG, DEVICE and --state-dir."""
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("device", metavar="DEVICE", help="its name below `devices:`; it needs no tags yet")
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="where own and trusted certificates are (default: $STATE_DIRECTORY, else ./state)"
    )


@asynccontextmanager
async def connected(device: OneDevice, state_dir: Path | None) -> AsyncIterator[Driver | Explorer]:
    """The device's explorer where its protocol has one, else its driver; closed at the end, Ctrl-C included. Raises CommandError."""
    settings = device.settings
    if settings.driver in _PATIENT_DRIVERS:
        settings = settings.model_copy(update={"timeout": max(settings.timeout, _PATIENCE_S)})
    folder = state_dir or default_state_dir()
    arguments: dict[str, Any] = {"name": device.name, "secrets": read_secret, "state_dir": folder}
    clock = SystemClock()
    with told():
        if device.gateway_id is not None:
            await asyncio.to_thread(prepare, [settings], folder, device.gateway_id, clock.now())
        driver = make_explorer(settings, clock, **arguments) or make_driver(settings, clock, **arguments)
        try:
            await driver.connect()
            yield driver
        finally:
            await driver.close()


@contextmanager
def told() -> Iterator[None]:
    """Turns what a driver raises into the two sentences of every command."""
    try:
        yield
    except LinkError as error:
        raise CommandError(error.remedy_en or str(error), str(error), status=1) from error
    except SecretError as error:
        raise CommandError(str(error), error.expert, status=1) from error
    except TagError as error:
        raise CommandError(str(error)) from error


def printable(text: str) -> str:
    """What a device says, on one line and without anything that a terminal would obey."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


class Progress:
    """Says on standard error how far it is: in place on a terminal, elsewhere a line every few seconds."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._in_place = sys.stderr.isatty()
        self._pause_s = 0.2 if self._in_place else 5.0
        self._next_at = self._clock.monotonic() + self._pause_s

    def __call__(self, text: str) -> None:
        """Called between two requests, so that Ctrl-C ends a browse whatever a library did with it."""
        honour_cancellation()
        now = self._clock.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + self._pause_s
        print(f"\r{text:<78}" if self._in_place else text, end="" if self._in_place else "\n", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for what is printed next."""
        if self._in_place:
            print(f"\r{'':<78}\r", end="", file=sys.stderr, flush=True)
