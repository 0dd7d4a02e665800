"""RTU on a pseudo-terminal whose other end is written by hand: ports that cannot be used, noise, late replies."""

from __future__ import annotations

import asyncio
import os
import pty
import struct
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU, FramerSocket

from drivers.base import LinkError, ReplyError, SilentLinkError
from drivers.modbus import ModbusDriver
from drivers.modbus_address import parse_address
from drivers.modbus_wire import DECODER
from tests.drivers.devices import within
from tests.drivers.modbus_line import device
from tests.drivers.test_modbus_bus import connected

Answer = Callable[[bytes], bytes]


def frame(body: bytes) -> bytes:
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def right(request: bytes) -> bytes:
    """Holding register N of unit U is 1000 * U + N; a write of one value is echoed."""
    unit, function, address, count = struct.unpack(">BBHH", request[:6])
    if function == 3:
        return frame(struct.pack(f">BBB{count}H", unit, function, 2 * count, *(1000 * unit + address + i for i in range(count))))
    return frame(request[:6])


class Line:
    """The far end of a serial line. `answers` in turn, the last one for ever."""

    def __init__(self) -> None:
        self.ours, theirs = pty.openpty()
        tty.setraw(theirs)
        os.set_blocking(self.ours, False)
        self.path = os.ttyname(theirs)
        self.theirs = theirs
        self.answers: list[Answer] = [right]
        self.requests: list[bytes] = []
        self.at: list[float] = []

    @property
    def url(self) -> str:
        return f"rtu://{self.path}?baudrate=9600&parity=N"

    def on_data(self) -> None:
        request = os.read(self.ours, 4096)
        self.requests.append(request)
        self.at.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        os.write(self.ours, answer(request))

    def unplug(self) -> None:
        asyncio.get_running_loop().remove_reader(self.ours)
        os.close(self.ours)


@asynccontextmanager
async def serial_line() -> AsyncIterator[Line]:
    line = Line()
    loop = asyncio.get_running_loop()
    loop.add_reader(line.ours, line.on_data)
    try:
        yield line
    finally:
        loop.remove_reader(line.ours)
        for end in (line.ours, line.theirs):
            try:
                os.close(end)
            except OSError:
                assert end == line.ours, "unplugged by the test"


async def test_two_units_of_a_serial_line_read_and_write() -> None:
    async with serial_line() as line, connected(device(line.url, 1), device(line.url, 2)) as (one, two):
        assert [(await driver.read(["r0"]))[0].value for driver in (one, two, one)] == [1000, 2000, 1000]
        await one.write("r0", 7)
        assert line.requests[-1] == frame(b"\x01\x06\x00\x00\x00\x07")


async def test_the_line_is_silent_between_two_frames() -> None:
    async with serial_line() as line, connected(device(line.url, 1, registers=4)) as (driver,):
        await driver.read([f"r{200 * i}" for i in range(4)])
        assert len(line.at) == 4
        assert min(b - a for a, b in zip(line.at, line.at[1:], strict=False)) >= 3.5 * 11 / 9600


def test_the_silence_and_the_transfer_follow_the_speed() -> None:
    slow, fast = parse_address("rtu:///dev/ttyS0?baudrate=9600"), parse_address("rtu:///dev/ttyS0?baudrate=115200")
    assert slow.silence_s == pytest.approx(0.00401, abs=1e-5)
    assert fast.silence_s == 0.00175
    assert slow.transfer_s(255) == pytest.approx(0.292, abs=1e-3)
    assert parse_address("rtu+tcp://plc:4001").silence_s == 0


@given(st.binary(max_size=64), st.booleans())
def test_whatever_comes_over_a_line_is_a_frame_or_is_none(data: bytes, rtu: bool) -> None:
    # pymodbus calls this from the event loop's own callbacks: what it raises there nobody catches.
    data = frame(data) if rtu else b"\0\1\0\0\0" + bytes([len(data) + 1, 1]) + data
    (FramerRTU if rtu else FramerSocket)(DECODER).handleFrame(data, 1, 0 if rtu else 1)


async def refusal(url: str) -> LinkError:
    driver = device(url)
    with pytest.raises(LinkError) as caught:
        await driver.connect()
    await driver.close()
    assert caught.value.remedy_fr
    return caught.value


async def test_a_port_that_is_not_there() -> None:
    error = await refusal("rtu:///dev/ttyUSB77")
    assert str(error) == "Modbus /dev/ttyUSB77 unit 1: /dev/ttyUSB77: No such file or directory"
    assert error.remedy_en.startswith("The serial port /dev/ttyUSB77 is not there: plug in the adapter")


async def test_a_file_is_no_port(tmp_path: Path) -> None:
    (tmp_path / "port").touch()
    assert "is no serial port: correct url" in (await refusal(f"rtu://{tmp_path}/port")).remedy_en


async def test_a_port_that_another_program_has_and_that_is_ours_once_open() -> None:
    async with serial_line() as line:
        other = serial.Serial(line.path, exclusive=True)
        error = await refusal(line.url)
        assert "is used by another program" in str(error)
        assert f"fuser {line.path}" in error.remedy_en
        other.close()
        async with connected(device(line.url)):
            with pytest.raises(serial.SerialException, match="lock"):
                serial.Serial(line.path, exclusive=True)


async def test_a_port_that_refuses_the_settings() -> None:
    async with serial_line() as line:
        # A pseudo-terminal has no parity.
        error = await refusal(f"rtu://{line.path}?parity=E")
    assert "refuses these settings (19200 baud, parity E, 1 stop bits)" in error.remedy_en


async def read_on(driver: ModbusDriver) -> None:
    for _ in range(3):
        await driver.read(["r0"])


async def test_an_adapter_that_is_pulled_out() -> None:
    async with serial_line() as line, connected(device(line.url)) as (driver,):
        await driver.read(["r0"])
        line.unplug()
        with pytest.raises(LinkError) as caught:
            await read_on(driver)
        assert caught.value.remedy_fr


@pytest.mark.parametrize("seed", range(3))
async def test_noise_is_told_apart_from_silence(seed: int) -> None:
    noise = bytes((37 * seed + 11 * i * i) % 256 for i in range(3 + 9 * seed))
    async with serial_line() as line:
        line.answers = [lambda request: noise]
        async with connected(device(line.url)) as (driver,):
            with pytest.raises(ReplyError) as caught:
                await driver.read(["r0"])
        assert "check baud rate, parity, wiring" in caught.value.remedy_en
        line.answers = [lambda request: b""]
        async with connected(device(line.url)) as (driver,):
            with pytest.raises(SilentLinkError) as silent:
                await driver.read(["r0"])
        assert silent.value.retry_after_s == 0.6, "its late reply gets the time to pass"


async def test_a_damaged_frame_is_no_value() -> None:
    async with serial_line() as line:
        line.answers = [lambda request: right(request)[:-1] + b"\x00"]
        async with connected(device(line.url)) as (driver,):
            with pytest.raises(ReplyError):
                await driver.read(["r0"])


async def test_a_late_reply_of_another_unit_is_passed_over() -> None:
    async with serial_line() as line, connected(device(line.url, 1), device(line.url, 2)) as (one, two):
        line.answers = [lambda request: b"", right]
        with pytest.raises(SilentLinkError):
            await one.read(["r0"])
        os.write(line.ours, right(line.requests[0]))
        assert (await two.read(["r0"]))[0].value == 2000
        line.answers = [lambda request: right(line.requests[0]) + right(request)]
        with pytest.raises(LinkError):
            await two.read(["r0"])


async def test_what_comes_between_two_requests_is_no_reply() -> None:
    async with serial_line() as line, connected(device(line.url, 1)) as (driver,):
        await driver.read(["r0"])
        os.write(line.ours, frame(struct.pack(">BBBH", 1, 3, 2, 9999)))
        await asyncio.sleep(0.02)
        assert (await driver.read(["r0"]))[0].value == 1000
        await within(5, lambda: len(line.requests) == 2)
