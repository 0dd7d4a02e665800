"""Where a Modbus device is found: `tcp://host[:502]`, `rtu+tcp://host:port` or `rtu:///dev/ttyUSB0?baudrate=19200&parity=E`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

EXAMPLE = "write tcp://192.168.10.22:502, rtu+tcp://192.168.10.23:4001 or rtu:///dev/ttyUSB0?baudrate=19200&parity=E"

# What UARTs and USB adapters offer; any other figure is a slip of the pen.
BAUDRATES = (300, 600, 1200, 2400, 4800, 9600, 14400, 19200, 28800, 38400, 57600, 76800, 115200, 230400, 460800, 921600)

# start, 8 data, parity and stop bit: 11 bits a character (Modbus over serial line v1.02, 2.5.1); with parity N and one stop bit it is 10.
_BITS_A_CHARACTER = 11
# Above 19,200 baud the silence between two frames is fixed (2.5.1.1); below, it is 3.5 characters.
_FAST_SILENCE_S = 0.00175


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed url. `host` and `port` of TCP, `path` and the rest of a serial line."""

    framing: Literal["tcp", "rtu+tcp", "rtu"]
    host: str = ""
    port: int = 0
    path: str = ""
    baudrate: int = 19200
    parity: str = "E"
    stopbits: int = 1

    @property
    def is_rtu(self) -> bool:
        """Frames without a transaction number: a late reply cannot be told from the awaited one."""
        return self.framing != "tcp"

    @property
    def is_serial(self) -> bool:
        return self.framing == "rtu"

    @property
    def line(self) -> str:
        """The same for all devices that share one connection, however its name is written."""
        return os.path.realpath(self.path) if self.is_serial else f"{self.host.lower()}:{self.port}"

    @property
    def shown(self) -> str:
        """For the technician: `192.168.10.22:502`, `/dev/ttyUSB0`."""
        return self.path if self.is_serial else f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def how(self) -> str:
        """What all devices of the line must agree on."""
        return f"{self.baudrate} baud, parity {self.parity}, {self.stopbits} stop bits" if self.is_serial else self.framing

    @property
    def silence_s(self) -> float:
        """Seconds a serial line must be silent between two frames."""
        if not self.is_serial:
            return 0.0
        return _FAST_SILENCE_S if self.baudrate > 19200 else 3.5 * _BITS_A_CHARACTER / self.baudrate

    def transfer_s(self, characters: int) -> float:
        """Seconds that many bytes need over a serial line."""
        return characters * _BITS_A_CHARACTER / self.baudrate if self.is_serial else 0.0


def parse_address(text: str) -> Address:
    """Raises ValueError: what is wrong and what to write."""
    url = urlsplit(text)
    try:
        port = url.port
    except ValueError:
        raise ValueError(f"{text!r} has no usable port; {EXAMPLE}") from None
    if url.scheme in ("tcp", "rtu+tcp"):
        if not url.hostname or url.path not in ("", "/") or url.query or port == 0 or url.username is not None:
            raise ValueError(f"{text!r} is no address of a Modbus device in the network; {EXAMPLE}")
        if url.scheme == "rtu+tcp" and port is None:
            raise ValueError(f"{text!r} needs the port of the serial device server; {EXAMPLE}")
        return Address("tcp" if url.scheme == "tcp" else "rtu+tcp", url.hostname, port or 502)
    if url.scheme != "rtu":
        raise ValueError(f"{text!r} is no Modbus address; {EXAMPLE}")
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    if url.netloc or len(url.path) < 2:
        raise ValueError(f"{text!r} is no serial line; {EXAMPLE}")
    for key, pattern, says in (
        ("baudrate", "|".join(map(str, BAUDRATES)), f"a baudrate is one of {', '.join(map(str, BAUDRATES))}"),
        ("parity", "[NEO]", "parity is N, E or O"),
        ("stopbits", "[12]", "stopbits is 1 or 2"),
        ("bytesize", "8", "Modbus RTU has 8 data bits"),
    ):
        if key in options and not re.fullmatch(pattern, options.pop(key)):
            raise ValueError(f"{text!r} is no serial line: {says}; {EXAMPLE}")
    if options:
        raise ValueError(f"{text!r} is no serial line: it has no {next(iter(options))}; {EXAMPLE}")
    options = dict(parse_qsl(url.query))
    return Address(
        "rtu", path=url.path, baudrate=int(options.get("baudrate", 19200)), parity=options.get("parity", "E"),
        stopbits=int(options.get("stopbits", 1)),
    )  # fmt: skip


def parse_range(text: str) -> tuple[str, int, int]:
    """`holding 40-49`, `holding:40-49` as `lineside browse` has it, or `input 7` -> (table, first, last). Raises ValueError."""
    match = re.fullmatch(r"\s*(holding|input|coil|discrete)(?:\s*:\s*|\s+)(\d{1,5})(?:\s*-\s*(\d{1,5}))?\s*", text)
    low, high = (int(match[2]), int(match[3] or match[2])) if match else (1, 0)
    if match is None or not low <= high <= 65535:
        raise ValueError(f"{text!r} is no range of registers; write for example holding 40-49")
    return match[1], low, high
