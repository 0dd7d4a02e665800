"""The shift's sheet and the lists of the past, from a real journal behind a real server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway.config import load
from gateway.domain.kpi import LOSSES
from gateway.domain.report import PastUnreadable, Report, StopLine
from gateway.domain.view import StopReason
from gateway.domain.work_center import LineRule, WorkCenter
from gateway.outbox.archive import Archive
from gateway.outbox.history import History
from gateway.status.past_routes import WAITING
from tests.app.remembered import play, remembered, save, site
from tests.status.fake_units import END, START, at, job, kpi, press
from tests.status.serving import Answer, Served, serving
from tests.status.test_chromium import BROWSER, FLAGS, MISSING
from tests.status.test_pages import read

T = TypeVar("T")
MORNING = datetime(2026, 11, 24, 7, 12, tzinfo=UTC)
SPAN = "from=2026-11-24T00:00:00Z&to=2026-11-25T00:00:00Z"


@asynccontextmanager
async def gateway(folder: Path, *, until: datetime | None = None, memory: bool = True) -> AsyncIterator[Served]:
    """`memory` False: only the journal is left, as for a machine that has not been heard of since the start."""
    config = load(site(folder))
    tracker, center = play(config, "press-07", until=until), WorkCenter("line-3", config.work_units, LineRule(kpi_from="press-07"))
    save(folder / "state", tracker, center=center)
    with closing(History.open(folder / "state")) as history:

        async def ask(question: Callable[[History], T]) -> T:
            return question(history)

        archive = Archive(config.work_units, {"press-07": tracker} if memory else {}, ask, [center])
        async with serving(archive=archive) as served:
            yield served


@pytest.mark.parametrize("language", ["fr", "en"])
async def test_the_sheet_of_a_shift(tmp_path: Path, language: str) -> None:
    async with gateway(tmp_path, memory=False) as served:
        for which in ("last", "morning", "2026-11-24-morning"):
            answer = await served.ask(f"/report/press-07/{which}?lang={language}")
            assert answer.status == 200
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            html = answer.body.decode()
            said = read(html)
            assert len(html.encode()) < 60_000
            assert f'<html lang="{language}">' in html
            for figure in (
                "OF-1",
                "Ejector jam" if language == "en" else "Bourrage éjecteur",
                "revision 1" if language == "en" else "révision 1",
            ):
                assert figure in said
            assert ("63.3%" if language == "en" else "63,3\u202f%") in html
            assert "120.00 EUR" not in said
            assert "121.00 EUR" in said or "121,00 EUR" in said
            assert "11.40 EUR" in said or "11,40 EUR" in said
            assert "5.40 EUR" in said or "5,40 EUR" in said
            assert "None" not in said
            assert "nav" not in html.split("<body")[1].split(">")[0]
            assert "<nav" not in html


async def test_a_shift_that_goes_on_is_provisional(tmp_path: Path) -> None:
    async with gateway(tmp_path, until=MORNING) as served:
        said = read((await served.ask("/report/press-07/current?lang=en")).body.decode())
        assert "going on, figures are provisional, known up to 08:12" in said
        last = await served.ask("/report/press-07/last?lang=en")
        assert last.status == 404
        assert "No shift that has ended is known at press-07." in last.body.decode()


async def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        for path, said in (
            ("/report/press-07/night?lang=en", "No shift night at press-07; those known are morning."),
            ("/report/press-07/2026-11-24-night?lang=fr", "Pas de poste night le 2026-11-24 à press-07 ; ce jour-là : morning."),
            ("/report/press-07/2026-13-77-x?lang=en", "No shift 2026-13-77-x at press-07"),
            ("/report/press-07/%3Cscript%3E?lang=en", "No shift &lt;script&gt; at press-07"),
            ("/report/no-such/last?lang=en", "There is no such page."),
        ):
            answer = await served.ask(path)
            assert (answer.status, said in answer.body.decode().replace("\u00a0", " ")) == (404, True), path


async def test_the_machine_page_leads_to_the_sheet() -> None:
    async with serving() as served:
        assert 'href="/report/press-07/current?lang=en"' in (await served.ask("/machines/press-07?lang=en")).body.decode()


async def test_windows_and_stops_as_data(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        shifts: Any = (await served.ask(f"/api/windows/press-07?{SPAN}")).json()
        assert [(w["window"]["name"], w["closed"], w["good"]) for w in shifts["windows"]] == [("morning", True, 836)]
        assert not shifts["more"]
        hours: Any = (await served.ask(f"/api/windows/press-07?kind=hour&{SPAN}&limit=2")).json()
        assert [w["window"]["from"] for w in hours["windows"]] == ["2026-11-24T06:00:00Z", "2026-11-24T07:00:00Z"]
        assert hours["more"]
        stops: Any = (await served.ask(f"/api/stops/press-07?{SPAN}")).json()
        assert [(s["from"], s["reason"], s["job_order_id"]) for s in stops["stops"]] == [
            ("2026-11-24T07:00:00Z", "jam", "OF-1"), ("2026-11-24T07:30:00Z", "no_parts", "OF-1"),
            ("2026-11-24T08:00:00Z", None, "OF-1"), ("2026-11-24T09:20:00Z", None, None),
        ]  # fmt: skip
        assert stops["stops"][-1]["to"] is None
        few: Any = (await served.ask(f"/api/stops/press-07?{SPAN}&limit=1")).json()
        assert (len(few["stops"]), few["more"]) == (1, True)
        lately: Any = (await served.ask("/api/windows/press-07")).json()
        assert lately["to"] == "2026-11-24T09:12:41Z", "by default up to now"


async def test_windows_of_a_line(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        hours: Any = (await served.ask(f"/api/windows/line-3/_line?kind=hour&{SPAN}&limit=2")).json()
        assert [(w["work_unit"], w["window"]["from"], w["revision"]) for w in hours["windows"]] == [
            ("_line", "2026-11-24T06:00:00Z", 1), ("_line", "2026-11-24T07:00:00Z", 1)
        ]  # fmt: skip
        assert hours["more"]
        own: Any = (await served.ask(f"/api/windows/press-07?{SPAN}")).json()
        shift: Any = (await served.ask(f"/api/windows/line-3/_line?{SPAN}")).json()
        assert shift["windows"][0]["oee"] == own["windows"][0]["oee"]
        assert (await served.ask("/api/windows/no-such/_line")).status == 404
        assert (await served.ask("/api/windows/line-3/_line?kind=x")).status == 400


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("kind=week", "kind 'week' is none of hour, shift, job"),
        ("from=yesterday", "from 'yesterday' is no time with its offset; write for example 2026-11-24T05:00:00Z"),
        ("from=2026-11-24T05:00:00", "no time with its offset"),
        ("from=0001-01-01T00:00:00%2B14:00", "no time with its offset"),
        ("to=2026-11-24T05:00:00Z&from=2026-11-24T05:00:00Z", "`from` is not before `to`; exchange them"),
        ("from=2020-01-01T00:00:00Z", "is more than 400 days; ask for less at a time"),
        ("limit=0", "limit '0' is no whole number from 1 to 1000"),
        ("limit=1e9", "no whole number"),
        ("limit=%D9%A1", "no whole number"),
        ("since=3", "'since' is no parameter here; there are from, kind, limit, to"),
    ],
)
async def test_nonsense_is_refused_in_a_sentence(tmp_path: Path, query: str, says: str) -> None:
    async with gateway(tmp_path) as served:
        answer = await served.ask(f"/api/windows/press-07?{query}")
        body: Any = answer.json()
        assert (answer.status, says in body["error"]) == (400, True), body
        assert (await served.ask("/api/windows/no-such?kind=hour")).status == 404


class Broken:
    """A journal that cannot be read, or answers when it is told to."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()

    async def windows(self, work_unit: str, kind: str, start: datetime, end: datetime, limit: int) -> list[dict[str, Any]]:
        await self.answer.wait()
        return []

    async def line_windows(self, work_center: str, kind: str, start: datetime, end: datetime, limit: int) -> list[dict[str, Any]] | None:
        return None

    async def stops(self, work_unit: str, start: datetime, end: datetime, limit: int) -> tuple[list[StopLine], bool]:
        raise PastUnreadable("disk I/O error")

    async def shift(self, work_unit: str, which: str) -> Report:
        raise PastUnreadable("disk I/O error")


async def test_a_journal_that_cannot_be_read_is_said_and_counted() -> None:
    async with serving(archive=Broken()) as served:
        page = await served.ask("/report/press-07/last?lang=en")
        assert page.status == 503
        assert "Check the disk of the line PC" in page.body.decode()
        assert (await served.ask("/api/stops/press-07")).status == 503
        assert served.metrics.registry.get_sample_value("lineside_past_unreadable_total") == 2


async def test_a_crowd_is_told_to_come_back_and_a_slow_disk_is_no_endless_wait() -> None:
    broken = Broken()
    async with serving(archive=broken) as served:
        asking = [asyncio.create_task(served.ask("/api/windows/press-07")) for _ in range(WAITING)]
        crowded: Answer | None = None
        async with asyncio.timeout(10):
            while crowded is None or crowded.status == 200:
                crowded = await served.ask("/report/press-07/last?lang=en")
                await asyncio.sleep(0.01)
                if b"Too many reports" in crowded.body:
                    break
                crowded = None
        assert crowded is not None
        assert crowded.status == 503
        await served.clock.advance(6)
        assert {answer.status for answer in await asyncio.gather(*asking)} == {503}
        broken.answer.set()
        assert (await served.ask("/api/windows/press-07")).status == 200


async def test_a_gateway_that_starts_has_no_past_yet() -> None:
    async with serving(archive=Broken()) as served:
        served.show(None)
        assert (await served.ask("/report/press-07/last")).status == 503


async def test_an_empty_journal_has_a_sentence(tmp_path: Path) -> None:
    config, state = remembered(tmp_path)
    with closing(History.open(state)) as history:

        async def ask(question: Callable[[History], T]) -> T:
            return question(history)

        async with serving(archive=Archive(load(config).work_units, {}, ask)) as served:
            answer = await served.ask("/report/press-07/last?lang=en")
            assert answer.status == 404
            assert "No shift that has ended is known" in answer.body.decode()


class Full:
    """A shift with more of everything than the sheet has room for."""

    async def windows(self, work_unit: str, kind: str, start: datetime, end: datetime, limit: int) -> list[dict[str, Any]]:
        return []

    async def line_windows(self, work_center: str, kind: str, start: datetime, end: datetime, limit: int) -> list[dict[str, Any]] | None:
        return None

    async def stops(self, work_unit: str, start: datetime, end: datetime, limit: int) -> tuple[list[StopLine], bool]:
        return [], False

    async def shift(self, work_unit: str, which: str) -> Report:
        view = press()
        lost = {name: 100.0 * place for place, (name, _, _) in enumerate(LOSSES)}
        line = kpi(closed=True, losses=lost, mtbf_s=3333.0, mttr_s=900.0, scrap_ratio=0.016)
        others = tuple(StopReason(f"a_reason_with_a_long_code_{n}", "stop", 300.0 + n, 2, n % 2 == 0, False) for n in range(6))
        stops = tuple(
            StopLine(at(10 * n), at(10 * n + 8), 480.0, "stop", f"a_reason_with_a_long_code_{n}", "own", 217, False, "OF-48213")
            for n in range(14)
        )
        return Report(
            work_unit, line, START, END, END, view.intervals, view.micro_stops, view.cycles_5min, (*view.stop_reasons, *others), stops,
            tuple(job(f"OF-4821{n}") for n in range(9)),
        )  # fmt: skip


async def test_what_the_sheet_has_no_room_for_is_said() -> None:
    async with serving(archive=Full()) as served:
        said = read((await served.ask("/report/press-07/last?lang=en")).body.decode())
        assert "+ 4 others" in said, "orders"
        assert "+ 6 others" in said, "stops"


@pytest.mark.slow
async def test_the_sheet_is_printed_on_one_page(tmp_path: Path) -> None:
    assert BROWSER is not None, MISSING
    async with serving(archive=Full()) as served:
        url, sheet = f"http://{served.host}/report/press-07/last?lang=en", tmp_path / "sheet.pdf"
        flags = (*FLAGS, "--timeout=3000", f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={sheet}", "--no-pdf-header-footer")
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(BROWSER, *flags, url, stdout=quiet, stderr=quiet)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        printed = sheet.read_bytes()
        assert re.findall(rb"/Count (\d+)", printed) == [b"1"]
        (box,) = set(re.findall(rb"/MediaBox \[([^]]*)\]", printed))
        assert [round(float(side)) for side in box.split()] == [0, 0, 595, 842], "A4 upright"
