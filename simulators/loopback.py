"""Small facts about this machine's loopback interface."""

from __future__ import annotations

import os
import random
import socket
from collections import deque

HOST = "127.0.0.1"

_BELOW_EPHEMERAL = range(20_000, 32_000)
"""Outgoing connections never get these, so a server that is away for a while finds its port free when it comes back."""
_MOST_HELD = 128

_held: deque[int] = deque()
"""Descriptors of the bound sockets that keep a port this process was given from whoever else asks `free_port`."""


def free_port() -> int:
    """A TCP port nobody listens on, kept from other processes that ask here while this one lives (the latest `_MOST_HELD` of them are).

    A server that sets SO_REUSEADDR, as all do that mean to come back on their port, may listen there all the same.
    Raises OSError when none of many is free.
    """
    for port in random.sample(_BELOW_EPHEMERAL, 200):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            # Only now: two that ask at once must not both get it.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _held.append(probe.detach())
        if len(_held) > _MOST_HELD:
            os.close(_held.popleft())
        return port
    raise OSError("no free port on loopback")
