"""Files through the booking engine: what a planner does by sending another file, and what people are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.domain.job_order import JobState, Verb
from tests.uplink.erp.gateway import Gateway
from tests.uplink.files.link import FilesLink

HEADER = "job_order_id;work_unit;quantity;state;product_id\n"


class Office:
    """A planner who only writes files, and a gateway that reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.link = FilesLink(folder)
        self.gateway = Gateway(self.link.uplink, self.link.clock)
        self._files = 0

    def send(self, *lines: str) -> str:
        self._files += 1
        name = f"plan_{self._files}.csv"
        (self.folder / "inbox" / name).write_text(HEADER + "".join(f"{line}\n" for line in lines))
        return name

    async def state(self, job_order_id: str, state: JobState) -> None:
        await self.gateway.until(lambda: self.gateway.line.state(job_order_id) is state, f"{job_order_id} {state}")

    async def told(self, key: str) -> None:
        await self.gateway.until(lambda: key in self.gateway.alerts.up, key)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    found = Office(tmp_path)
    await found.gateway.start()
    yield found
    await found.gateway.stop()


async def test_an_order_is_cancelled_by_another_file(office: Office) -> None:
    office.send("OF-1;press-07;100;released;PF-1")
    await office.state("OF-1", JobState.RUNNING)
    office.send("OF-1;press-07;100;cancelled;PF-1")
    await office.state("OF-1", JobState.ABORTED)
    await office.told("erp.planner:erp:OF-1")


async def test_a_quantity_is_changed_by_another_file(office: Office) -> None:
    office.send("OF-1;press-07;100;released;PF-1")
    await office.state("OF-1", JobState.RUNNING)
    office.send("OF-1;press-07;120;released;PF-1")
    line = office.gateway.line
    await office.gateway.until(lambda: (job := line.job("press-07", "OF-1")) is not None and job[1].quantity == 120, "120 pieces")
    assert [command.command for command in line.commands].count(Verb.UPDATE) == 1


async def test_a_forecast_waits_until_it_is_released(office: Office) -> None:
    office.send("OF-1;press-07;100;forecast;PF-1")
    await office.state("OF-1", JobState.NOT_ALLOWED_TO_START)
    office.send("OF-1;press-07;100;released;PF-1")
    await office.state("OF-1", JobState.RUNNING)


async def test_an_order_closed_in_the_erp_ends_here(office: Office) -> None:
    office.send("OF-1;press-07;100;released;PF-1")
    await office.state("OF-1", JobState.RUNNING)
    office.send("OF-1;press-07;100;closed;PF-1")
    await office.state("OF-1", JobState.ENDED)


async def test_a_refused_line_is_told_until_its_err_is_taken_away(office: Office) -> None:
    name = office.send("OF-1;press-07;many;released;PF-1", "OF-2;press-08;5;released;PF-1")
    await office.state("OF-2", JobState.RUNNING)
    await office.told("erp.unreadable:erp")
    assert f"{name}: line 2, column quantity" in office.gateway.alerts.up["erp.unreadable:erp"]
    for _ in range(10):
        await office.gateway.moment()
    assert "erp.unreadable:erp" in office.gateway.alerts.up
    for path in (office.folder / "error").iterdir():
        path.unlink()
    await office.gateway.until(lambda: "erp.unreadable:erp" not in office.gateway.alerts.up, "nothing waits any more")


async def test_an_old_file_starts_no_finished_order_again(office: Office) -> None:
    name = office.send("OF-1;press-07;100;released;PF-1")
    await office.state("OF-1", JobState.RUNNING)
    office.gateway.line.make("OF-1", 100)
    office.gateway.line.do(Verb.STOP, "OF-1")
    await office.gateway.settled()
    archived = office.folder / "archive" / name
    (office.folder / "inbox" / "old.csv").write_bytes(archived.read_bytes())
    await office.gateway.until((office.folder / "error" / "old.csv.err").exists, "it is explained")
    assert office.gateway.line.state("OF-1") is JobState.ENDED
    assert (await office.link.booked("OF-1")).good == 100


async def test_an_order_whose_memory_is_damaged_is_not_told_twice(office: Office) -> None:
    """The ERP cannot be asked what it has taken: a person is."""
    office.send("OF-1;press-07;100;released;PF-1", "OF-2;press-08;100;released;PF-1")
    await office.state("OF-2", JobState.RUNNING)
    office.gateway.line.make("OF-1", 5)
    office.gateway.line.make("OF-2", 5)
    await office.gateway.settled()
    await office.gateway.line.journal.committed()
    await office.gateway.stop()
    del office.gateway.line.journal.disk.accounts["erp", "OF-1"]
    await office.gateway.kill()
    for _ in range(2):
        office.gateway.line.make("OF-1", 1)
        office.gateway.line.make("OF-2", 1)
        await office.told("erp.blocked:erp:OF-1")
        assert "by hand" in office.gateway.alerts.up["erp.blocked:erp:OF-1"]
        await office.gateway.until(lambda: office.gateway.is_tried, "all is tried")
        office.send("OF-1;press-07;120;released;PF-1")
        await office.gateway.moment(60)
        await office.gateway.kill()
    assert (await office.link.booked("OF-1")).good == 5
    assert (await office.link.booked("OF-2")).good == 7


async def test_a_restored_journal_writes_no_confirmation_that_the_erp_has(office: Office) -> None:
    line, disk = office.gateway.line, office.gateway.line.journal.disk
    office.send("OF-1;press-07;100;released;PF-1")
    await office.state("OF-1", JobState.RUNNING)
    for number in (1, 2):
        line.make("OF-1", 5)
        await office.gateway.settled()
        await line.journal.committed()
        if number == 1:
            backup = dict(disk.accounts)
    assert (await office.link.booked("OF-1")).good == 10
    await office.gateway.stop()
    disk.accounts = backup
    office.gateway.epoch = "e2"
    for _ in range(2):
        await office.gateway.kill()
        line.make("OF-1", 1)
        await office.told("erp.blocked:erp:OF-1")
    assert (await office.link.booked("OF-1")).good == 10
    assert await office.link.violations() == []
    # What comes after it is told as ever.
    office.send("OF-2;press-08;100;released;PF-1")
    await office.state("OF-2", JobState.RUNNING)
    line.make("OF-2", 3)
    await office.gateway.until(lambda: office.gateway.is_tried, "all is tried")
    assert (await office.link.booked("OF-2")).good == 3


async def test_an_order_is_released_again_by_a_file_that_differs_in_what_no_field_uses(office: Office) -> None:
    def send(name: str, state: str) -> None:
        (office.folder / "inbox" / name).write_text(f"job_order_id;work_unit;quantity;state;written\nOF-1;press-07;100;{state};{name}\n")

    send("plan_1.csv", "released")
    await office.state("OF-1", JobState.RUNNING)
    send("plan_2.csv", "withdrawn")
    await office.state("OF-1", JobState.INTERRUPTED)
    send("plan_3.csv", "released")
    await office.state("OF-1", JobState.RUNNING)
