"""The pages in a real browser: they load under their own policy, draw, and follow the stream."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.status import fake_board
from tests.status.serving import Served, serving

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOADED = "document.readyState == 'complete' && !!document.getElementById('stale')"
MISSING = "these tests need a browser: apt-get install chromium"
pytestmark = pytest.mark.slow


async def dumped(url: str, profile: Path) -> tuple[str, str]:
    """The document as the browser made it, and what it complained of."""
    assert BROWSER is not None, MISSING
    process = await asyncio.create_subprocess_exec(
        BROWSER,
        *FLAGS,
        "--enable-logging=stderr",
        f"--user-data-dir={profile}",
        "--window-size=1280,900",
        "--dump-dom",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complained = await asyncio.wait_for(process.communicate(), 60)
    except TimeoutError:
        process.kill()
        raise
    return said.decode(), complained.decode()


@pytest.mark.parametrize("language", ["fr", "en"])
async def test_the_browser_opens_overview_and_machine_page(language: str, tmp_path: Path) -> None:
    async with serving() as served:
        for number, path in enumerate(("/", "/machines/press-07")):
            dom, log = await dumped(f"http://{served.host}{path}?lang={language}", tmp_path / str(number))
            assert f'<html lang="{language}">' in dom
            assert "press-07" in dom
            assert dom.count("<svg") > 20
            assert "Content Security Policy" not in log
            assert "Uncaught" not in log


class Tab:
    """One tab, driven by the browser's own debugging protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = count(1)

    async def value(self, expression: str) -> Any:
        number = next(self._ids)
        await self._socket.send_json(
            {"id": number, "method": "Runtime.evaluate", "params": {"expression": expression, "returnByValue": True}}
        )
        while True:
            answer = await asyncio.wait_for(self._socket.receive_json(), 10)
            if answer.get("id") == number:
                assert "exceptionDetails" not in answer["result"], answer
                return answer["result"]["result"].get("value")

    async def becomes(self, expression: str, wanted: Callable[[Any], bool], served: Served) -> Any:
        """Let the gateway's time pass until the page shows it."""
        for _ in range(60):
            value = await self.value(expression)
            if wanted(value):
                return value
            await served.clock.advance(1)
            await asyncio.sleep(0.1)
        raise AssertionError(f"{expression} stays {value!r}")


@asynccontextmanager
async def tab(url: str, profile: Path) -> AsyncIterator[Tab]:
    assert BROWSER is not None, MISSING
    process = await asyncio.create_subprocess_exec(
        BROWSER,
        *FLAGS,
        f"--user-data-dir={profile}",
        "--remote-debugging-port=0",
        url,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        told = profile / "DevToolsActivePort"
        async with asyncio.timeout(30):
            while not (told.exists() and told.read_text()):
                await asyncio.sleep(0.1)
        port = told.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [page for page in await answer.json() if page["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"]) as socket:
                yield Tab(socket)
    finally:
        process.terminate()
        await process.wait()


async def test_the_page_follows_the_stream_and_keeps_what_is_open(tmp_path: Path) -> None:
    async with serving() as served, tab(f"http://{served.host}/?lang=en", tmp_path) as page:
        await page.becomes(LOADED, lambda loaded: loaded is True, served)
        opened = (
            "document.querySelector('details').open = true; document.querySelector('.go').focus(); document.querySelector('details').id"
        )
        assert await page.value(opened) == "x-unit.stopped:press-07"
        board = fake_board.board()
        press = board.units[0]
        longer = replace(press, view=replace(press.view, fault=218))
        served.show(replace(board, units=(longer, *board.units[1:])))
        await page.becomes("document.querySelector('.al h2').textContent", lambda text: "F218" in text, served)
        assert await page.value("document.getElementById('x-unit.stopped:press-07').open") is True
        assert await page.value("document.activeElement.className") == "go"
        assert "F218" in await page.value("document.title")
        served.show(fake_board.normal())
        await page.becomes("document.querySelectorAll('.al').length", lambda count: count == 0, served)
        assert await page.value("document.title") == "lineside"
        assert await page.value("document.getElementById('stale').hidden") is True


async def test_a_gateway_that_is_gone_is_said_and_the_figures_stay(tmp_path: Path) -> None:
    async with serving() as served, tab(f"http://{served.host}/?lang=en", tmp_path) as page:
        await page.becomes(LOADED, lambda loaded: loaded is True, served)
        await served.server.stop()
        # The stream's last words must have arrived: a beat that comes after the jump would count as news.
        await asyncio.sleep(1)
        await page.value("{ const now = Date.now; const start = now(); Date.now = () => now() + 90000; }")
        await page.becomes("document.getElementById('stale').hidden", lambda hidden: hidden is False, served)
        assert "No news for 1 min. Check the line PC." in await page.value("document.getElementById('stale').textContent")
        assert (await page.value("document.title")).startswith("⚠ ")
        assert "press-07" in await page.value("document.querySelector('main').textContent")
