"""Small facts about this machine's loopback interface."""

from __future__ import annotations

import random
import socket

HOST = "127.0.0.1"

_BELOW_EPHEMERAL = range(20_000, 32_000)
"""Outgoing connections never get these, so a server that is away for a while finds its port free when it comes back."""


def free_port() -> int:
    """A TCP port nobody listens on right now. Raises OSError when none of many is free."""
    for port in random.sample(_BELOW_EPHEMERAL, 200):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError("no free port on loopback")
