"""What the daemon tells systemd: READY, STATUS, WATCHDOG (only while the pipeline moves) and STOPPING.

The protocol of sd_notify(3): a datagram of `KEY=value` lines to the socket that NOTIFY_SOCKET names, where a leading
`@` stands for the NUL of an abstract address. Without that variable every call does nothing, so the daemon runs the
same in a terminal.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

import structlog

from drivers.base import Clock

_log = structlog.get_logger(__name__)

OVERSLEPT_S = 2.0
"""A round that comes so late says nothing of the parts: they were kept waiting as long."""


class Notifier:
    """Speaks to the service manager of this process; never raises and never waits longer than a second.

    `watchdog_s` is the interval within which systemd wants a sign of life (WatchdogSec=), None when it wants none.
    """

    def __init__(self, address: str | None, *, watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID (a watchdog meant for another process is not ours)."""
        pid = environ.get("WATCHDOG_PID")
        usec = environ.get("WATCHDOG_USEC", "")
        ours = usec.isdecimal() and int(usec) > 0 and pid in (None, str(os.getpid()))
        return cls(environ.get("NOTIFY_SOCKET"), watchdog_s=int(usec) / 1e6 if ours else None)

    def ready(self, status: str = "") -> bool:
        """Started: journal open, page listening. It does not wait for a PLC or a broker. True when systemd was told."""
        return self._send("READY=1", f"STATUS={_one_line(status)}" if status else "", wait_s=1.0)

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(f"STATUS={_one_line(text)}")

    def watchdog(self) -> bool:
        return self._send("WATCHDOG=1")

    def stopping(self) -> bool:
        return self._send("STOPPING=1", wait_s=1.0)

    def _send(self, *lines: str, wait_s: float = 0.0) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as peer:
                peer.settimeout(wait_s)
                peer.sendto("\n".join(filter(None, lines)).encode(), self._address)
        except OSError as error:
            # A service manager that does not listen must not stop the daemon; it will restart us when it minds.
            _log.debug("systemd_not_told", line=lines[0], error=str(error))
            return False
        return True


def _one_line(text: str) -> str:
    return " ".join(text.split())


class WatchdogGuard:
    """Pings systemd's watchdog only while every part of the pipeline has moved lately.

    `sources`: a part's name (`writer`, `poller press_plc`) -> a callable that gives the monotonic time of its last
    progress. The event loop needs no entry: when it hangs, nobody pings. A part is stalled after `limit_s`, or after
    what its own entry in `limits_s` says (a device polled once a minute, one that is being connected). systemd then ends
    and restarts the daemon, which goes on from its journal: a hang becomes a short gap instead of a silent line.
    """

    def __init__(
        self,
        notifier: Notifier,
        clock: Clock,
        sources: Mapping[str, Callable[[], float]],
        *,
        limit_s: float = 20.0,
        limits_s: Mapping[str, Callable[[], float]] | None = None,
    ) -> None:
        self._notifier = notifier
        self._clock = clock
        self._sources = sources
        self._limit_s = limit_s
        self._limits_s = limits_s or {}
        self._told: frozenset[str] = frozenset()

    def stalled(self) -> frozenset[str]:
        """Names of the parts that have not moved within their limit."""
        now = self._clock.monotonic()
        return frozenset(name for name, moved in self._sources.items() if now - moved() > self._limit(name))

    def _limit(self, name: str) -> float:
        limit = self._limits_s.get(name)
        return self._limit_s if limit is None else limit()

    def check(self) -> bool:
        """One round: ping, or log once which parts hang. True when all move."""
        stalled = self.stalled()
        if stalled != self._told:
            if stalled:
                _log.error("watchdog_withheld", stalled=sorted(stalled))
            else:
                _log.info("watchdog_resumed")
            self._told = stalled
        if stalled:
            return False
        self._notifier.watchdog()
        return True

    async def run(self) -> None:
        """Rounds for ever, three within each interval of the watchdog; returns at once when systemd wants none."""
        if self._notifier.watchdog_s is None:
            return
        every_s = self._notifier.watchdog_s / 3
        due = self._clock.monotonic()
        while True:
            if self._clock.monotonic() - due < OVERSLEPT_S:
                self.check()
            else:
                # The process did not run (the machine slept): nobody had a chance to move.
                self._notifier.watchdog()
            due = self._clock.monotonic() + every_s
            await self._clock.sleep(every_s)
