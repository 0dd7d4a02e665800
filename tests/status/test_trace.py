"""`/trace/{lot}` and `/api/trace/{lot}`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.domain.trace import Trace, TraceUnreadable
from gateway.outbox.lots import LotHistory
from tests.outbox.test_lots import traced_site
from tests.status.serving import serving


async def test_page_and_data_tell_where_a_lot_comes_from(tmp_path: Path) -> None:
    traced_site(tmp_path)
    history = LotHistory.open(tmp_path)

    async def find(name: str) -> Trace:
        return history.trace(name)

    async with serving(trace=find) as served:
        data = (await served.ask("/api/trace/LOT-1")).json()
        assert isinstance(data, dict)
        assert (data["made"][0]["customer"], data["made"][0]["from"]) == ("Dupont", "2026-11-24T06:00:00Z")
        page = await served.ask("/trace/LOT-1?lang=fr")
        assert page.status == 200
        for words in ("lot produit", "client Dupont CO-9 10", "S1 5 KGM"):
            assert words in page.body.decode()
        assert "<script" not in page.body.decode()
        for path, status in (("/trace/LOT-9", 404), ("/api/trace/LOT-9", 404), ("/api/trace/" + "x" * 129, 404)):
            assert (await served.ask(path)).status == status
        assert "LOT-9" not in (await served.ask("/trace/%3Cb%3ELOT-9")).body.decode()
    history.close()


async def test_a_journal_that_cannot_be_read_and_two_questions_at_once_are_said() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(name: str) -> Trace:
        if name == "bad":
            raise TraceUnreadable("disk I/O error")
        asked.set()
        await go.wait()
        return Trace(name, ("job_order",), (), (), (), (), ())

    async with serving(trace=slow) as served:
        answer = await served.ask("/api/trace/bad")
        assert (answer.status, answer.json()) == (503, {"error": "the journal cannot be read now"})
        assert "journal" in (await served.ask("/trace/bad?lang=fr")).body.decode()
        first = asyncio.ensure_future(served.ask("/api/trace/OF-1"))
        await asked.wait()
        assert (await served.ask("/trace/OF-1")).status == 503
        go.set()
        assert (await first).status == 200
