"""The pages in a real browser: they load under their own policy, draw, and follow the stream."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.status.serving import serving

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--log-level=0",
]


async def opened(url: str, profile: Path) -> tuple[str, str]:
    """The document as the browser made it, and what it complained of."""
    assert BROWSER is not None
    process = await asyncio.create_subprocess_exec(
        BROWSER, *FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900", "--dump-dom", url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        said, complained = await asyncio.wait_for(process.communicate(), 60)
    except TimeoutError:
        process.kill()
        raise
    return said.decode(), complained.decode()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium: apt-get install chromium")
@pytest.mark.parametrize("language", ["fr", "en"])
async def test_the_browser_opens_overview_and_machine_page(language: str, tmp_path: Path) -> None:
    async with serving() as served:
        for number, path in enumerate(("/", "/machines/press-07")):
            dom, log = await opened(f"http://{served.host}{path}?lang={language}", tmp_path / str(number))
            assert "press-07" in dom
            assert "<title>■ press-07" in dom  # set again by the script from the live part
            assert dom.count("<svg") > 20
            assert "Content Security Policy" not in log
            assert "Uncaught" not in log
