"""What if: the questions of page, API and terminal to real queues behind a real server."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.__main__ import main
from gateway.app.planner import Planner
from gateway.domain.calendar import always
from gateway.domain.job_order import JobOrder
from gateway.domain.whatif import Answer as WhatIf
from gateway.domain.whatif import Question, Queue
from gateway.status.board import Board
from gateway.status.whatif_routes import ASKING
from tests.domain.post import T0, Post, unit
from tests.status import fake_board
from tests.status.serving import Served, serving
from tests.status.test_pages import read

HOUR = Decimal(288)
"""Pieces that take an hour at 10 s and the usual factor of 1.25."""


def order(name: str, hours: int, due_h: float, **fields: Any) -> JobOrder:
    return JobOrder(name, quantity=HOUR * hours, end_time=T0 + timedelta(hours=due_h), **fields)


@asynccontextmanager
async def plant(count: int = 3) -> AsyncIterator[Served]:
    """A press that runs R and has A, B, C (by due date) waiting, and one order that is not released; a packer with nothing to do."""
    press = Post()
    press.order(0, "StoreAndStart", order("R", 1, 2, product_id="CAPOT12"))
    hours = (2, 2, 3)
    for n in range(count):
        name = f"{'ABC'[n]}" if n < 3 else f"X{n}"
        press.order(0, "StoreAndStart", order(name, hours[n] if n < 3 else 1, 4 + 2 * n if n < 2 else 20 + n))
    press.order(0, "Store", order("forecast", 1, 90))
    packer = Post(unit(name="packer-02", ideal_cycle_time_s=None))
    packer.begin(0)
    async with serving(planner=Planner({"press-07": press.tracker, "packer-02": packer.tracker}, "Europe/Paris")) as served:
        yield served


async def ask(served: Served, path: str, status: int = 200) -> Any:
    answer = await served.ask(path)
    assert answer.status == status, answer.body
    return answer.json()


async def test_what_becomes_late_if_one_order_goes_first() -> None:
    async with plant() as served:
        body = await ask(served, "/api/whatif?first=C")
        assert (body["work_unit"], body["question"]) == ("press-07", {"first": "C", "priority": {}, "calendar": False})
        assert [job["job_order_id"] for job in body["jobs"]] == ["R", "C", "A", "B"]
        late = {job["job_order_id"]: (job["before"]["late_s"], job["after"]["late_s"]) for job in body["jobs"]}
        assert late == {"R": (0, 0), "A": (0, 2 * 3600), "B": (0, 2 * 3600), "C": (0, 0)}
        assert body["becomes_late"] == ["A", "B"]
        assert body["late_s"] == {"before": 0, "after": 4 * 3600}
        a = next(job for job in body["jobs"] if job["job_order_id"] == "A")
        assert (a["before"]["rank"], a["after"]["rank"], a["after"]["verdict"]) == (1, 2, "late")
        assert a["after"]["basis"].startswith("overtaken by C; ideal ")
        again = await ask(served, "/api/whatif?work_unit=press-07")
        assert [job["job_order_id"] for job in again["jobs"]] == ["R", "A", "B", "C"], "asking changes nothing"


async def test_another_priority_and_another_calendar() -> None:
    async with plant() as served:
        body = await ask(served, "/api/whatif?priority=C:9&priority=B:10")
        assert [job["job_order_id"] for job in body["jobs"]] == ["R", "B", "C", "A"]
        calendar = {"shifts": [{"name": "day", "days": "mon-fri", "from": "07:00", "to": "09:00"}]}
        body = await ask(served, f"/api/whatif?work_unit=press-07&calendar={quote(json.dumps(calendar))}")
        assert body["question"]["calendar"] is True
        assert body["late_count"] == {"before": 0, "after": 3}
        assert body["plans"][0]["late_s"] == body["late_s"]["after"], "gains are counted under the calendar of the question"


async def test_which_order_loses_least() -> None:
    async with plant() as served:
        body = await ask(served, "/api/whatif?work_unit=press-07")
        assert [plan["rule"] for plan in body["plans"]] == ["present", "earliest_due_date", "critical_ratio", "least_late"]
        assert (body["best"], body["exact"]) == ("present", True)
    async with plant(9) as served:
        body = await ask(served, "/api/whatif?work_unit=press-07")
        assert body["exact"] is False


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("", 400, "say which work unit"),
        ("?first=Z", 404, "no work unit has it released and waiting"),
        ("?first=forecast", 404, "no work unit has it released and waiting"),
        ("?first=R&work_unit=press-07", 404, "R does not wait on press-07"),
        ("?first=A&work_unit=saw", 404, "there is no work unit saw"),
        ("?first=A&first=B", 400, "first is given 2 times"),
        ("?priority=A", 400, "write JOB:N"),
        ("?priority=A:high", 400, "write JOB:N"),
        ("?frist=A", 400, "'frist' is no parameter here"),
        ("?first=A&calendar={", 400, "calendar: "),
        ("?first=A&calendar=" + quote('{"shifts":[{"name":"x","days":"mon","from":"25:00","to":"26:00"}]}'), 400, "time of day"),
        ("?first=A&calendar=" + "x" * 4001, 400, "more than 4000"),
    ],
)
async def test_a_question_without_sense_is_answered_with_a_sentence(query: str, status: int, said: str) -> None:
    async with plant() as served:
        assert said in (await ask(served, f"/api/whatif{query}", status))["error"]


async def test_what_can_be_promised_for_a_new_order() -> None:
    async with plant() as served:
        body = await ask(served, "/api/availability?product=CAPOT12&quantity=288")
        offers = {found["work_unit"]: found["offer"] for found in body["units"]}
        assert offers["press-07"]["eta_likely"] == "2026-11-24T16:00:00Z", "behind 1 + 2 + 2 + 3 h and the forecast"
        assert offers["press-07"]["made_here"] is True
        assert offers["press-07"]["eta_safe"] > offers["press-07"]["eta_likely"]
        assert "ideal 10 s/piece" in offers["press-07"]["basis"]
        assert offers["packer-02"] == {
            "eta_likely": None, "eta_safe": None, "basis": "no rate observed yet and no ideal time", "made_here": False
        }  # fmt: skip
        assert body["earliest"] == "press-07"
        assert (await ask(served, "/api/availability?product=PF-9&quantity=1"))["earliest"] is None
        assert "offer" not in (await ask(served, "/api/availability"))["units"][0]
        for wrong in ("product=A", "quantity=5", "product=A&quantity=0", "product=A&quantity=-5", "product=A&quantity=1e9", "produkt=A"):
            assert (await ask(served, f"/api/availability?{wrong}", 400))["error"]


@pytest.mark.parametrize(("language", "said"), [("fr", "Et si C passait en premier"), ("en", "What if C went first?")])
async def test_the_page_shows_before_and_after(language: str, said: str) -> None:
    async with plant() as served:
        answer = await served.ask(f"/whatif/press-07?first=C&lang={language}")
        assert answer.status == 200
        html = answer.body.decode()
        text = read(html)
        assert said in " ".join(text.split())
        assert "A, B" in text
        assert 'href="/whatif/press-07?first=B&amp;lang=' in html
        assert "first=R" not in html, "the running job stays on the machine"
        plain = await served.ask(f"/whatif/press-07?lang={language}")
        assert plain.status == 200
        for path, status in (("/whatif/saw", 404), (f"/whatif/press-07?first=R&lang={language}", 404), ("/whatif/packer-02", 200)):
            assert (await served.ask(path)).status == status, path
        assert "n’attend pas" in (await served.ask("/whatif/press-07?first=R&lang=fr")).body.decode()


@pytest.mark.parametrize(
    ("language", "said", "link"),
    [
        ("fr", "dépassé par OF-9 et 2 de plus ; après OF-8", "Et s’il passait en premier ?"),
        ("en", "overtaken by OF-9", "What if it went first?"),
    ],
)
async def test_the_page_of_orders_says_who_overtook_whom(language: str, said: str, link: str) -> None:
    def late() -> Board:
        shown = fake_board.board()
        job = replace(shown.units[0].view.queue[0], verdict="late", basis="overtaken by OF-9 and 2 more; after OF-8; quantity reached")
        view = replace(shown.units[0].view, queue=(job,))
        return replace(shown, units=(replace(shown.units[0], view=view), *shown.units[1:]))

    async with serving(late) as served:
        html = (await served.ask(f"/orders?lang={language}")).body.decode()
        text = " ".join(read(html).split()).replace("\u202f", " ").replace("\xa0", " ")
        assert said in text
        assert link in text
        assert re.search(r'href="/whatif/press-07\?first=[A-Z0-9-]+&amp;lang=', html)
        assert re.search(r'href="/trace/OF-[0-9-]+\?lang=', html), "an order that has begun leads to its lots"


def test_the_address_is_that_of_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "lineside.yaml"
    example = (Path(__file__).parents[2] / "config" / "demo.yaml").read_text("utf-8")
    for listen, said in (
        ('"0.0.0.0:1"', "no gateway answers at http://127.0.0.1:1"), ('"[::1]:1"', "no gateway answers at http://[::1]:1"),
        ('"127.0.0.1:0"', "give its URL instead"),
    ):  # fmt: skip
        config.write_text(re.sub(r"listen: [^,}]+", f"listen: {listen}", example), "utf-8")
        assert main(["whatif", "-c", str(config)]) in (1, 2)
        assert said in capsys.readouterr().err
    assert main(["whatif", "127.0.0.1:1", "-c", str(config)]) == 2
    assert "leave one of them out" in capsys.readouterr().err


class Stuck(Planner):
    """A plan whose answers wait until `go`."""

    def __init__(self, of: Post) -> None:
        super().__init__({"press-07": of.tracker, "packer-02": of.tracker}, "Europe/Paris")
        self.go = threading.Event()
        self.asked = 0

    def queue(self, work_unit: str) -> Queue:
        queue, go = super().queue(work_unit), self.go
        self.asked += 1

        class Waiting(Queue):
            def ask(self, question: Question) -> WhatIf:
                go.wait(10)
                return queue.ask(question)

        return Waiting(0, None, (), always())


async def test_too_many_questions_at_once_are_told_to_come_back() -> None:
    post = Post()
    post.order(0, "StoreAndStart", order("R", 1, 2))
    planner = Stuck(post)
    async with serving(planner=planner) as served:
        asked = [asyncio.create_task(served.ask("/api/whatif?work_unit=press-07")) for _ in range(ASKING)]
        async with asyncio.timeout(20):
            while planner.asked < ASKING:
                await asyncio.sleep(0)
        refused = await served.ask("/api/whatif?work_unit=press-07")
        assert refused.status == 503
        assert "too many questions" in str(refused.json()).lower()
        page = await served.ask("/whatif/press-07?lang=fr")
        assert (page.status, "Trop de questions" in page.body.decode()) == (503, True)
        planner.go.set()
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * ASKING
        assert (await served.ask("/api/whatif?work_unit=press-07")).status == 200
        assert "lineside_questions_unanswered_total 2.0" in (await served.ask("/metrics")).body.decode()


async def test_the_terminal_asks_the_running_gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calendar = tmp_path / "weekend.yaml"
    calendar.write_text('shifts:\n- {name: day, days: mon-fri, from: "07:00", to: "09:00"}\n', "utf-8")
    async with plant() as served:

        async def run(*arguments: str) -> tuple[int, str]:
            code = await asyncio.to_thread(main, ["whatif", served.host, *arguments])
            printed = capsys.readouterr()
            return code, printed.out + printed.err

        code, said = await run("--first", "C")
        assert code == 0
        assert "would become late: A, B" in said
        assert re.search(r"R \(running\) +2026-11-24T08:00:00Z", said)
        assert re.search(r"as it stands \* +0 +0 +0 ", said)
        code, said = await run("--priority", "C=9", "--calendar", str(calendar))
        assert (code, "would become late: C, A, B" in said) == (0, True)
        code, said = await run("--unit", "press-07", "--json")
        assert json.loads(said)["best"] == "present"
        for wrong, problem in (
            (("--first", "Z"), "no work unit has it"),
            (("--priority", "C"), "write JOB=N"),
            (("--priority", "C=high"), "write JOB=N"),
            (("--calendar", str(tmp_path / "none.yaml")), "cannot be read"),
            ((), "or --unit): press-07"),
        ):
            code, said = await run(*wrong)
            assert (code, problem in said) == (2, True), said
