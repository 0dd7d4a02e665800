"""The replay driver: the recording's own time, its own tags, once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drivers import make_driver
from drivers.base import Driver, Quality, Reading, Subscribing
from drivers.replay import ReplaySettings
from gateway.clock import SystemClock

ROWS = """at,device,tag,value,quality
2020-09-27T00:00:02+02:00,press,parts,12,good
2020-09-27T00:00:01+02:00,press,parts,11,good
2020-09-27T00:00:01+02:00,press,running,true,good
2020-09-27T00:00:01+02:00,packer,parts,99,good
2020-09-27T00:00:03+02:00,press,running,,bad
2020-09-27T00:00:04+02:00,press,other,1,good
"""


def player(folder: Path, text: str = ROWS, name: str = "press", **more: Any) -> Driver:
    path = folder / "recording.csv"
    path.write_text(text, encoding="utf-8")
    settings = ReplaySettings.model_validate({"driver": "replay", "file": str(path)} | more)
    return make_driver(settings, SystemClock(), name=name, secrets=lambda secret: "")


async def play(driver: Driver, tags: tuple[str, ...]) -> list[list[Reading]]:
    await driver.connect()
    assert isinstance(driver, Subscribing)
    return [list(batch) async for batch in driver.subscribe(tags)]


async def test_an_instant_is_a_batch_with_the_recordings_time(tmp_path: Path) -> None:
    batches = await play(player(tmp_path), ("parts", "running"))
    assert [[(reading.tag, reading.value) for reading in batch] for batch in batches] == [
        [("parts", 11), ("running", True)], [("parts", 12)], [("running", None)],
    ]  # fmt: skip
    first = batches[0][0]
    assert first.source_time == first.received_at == datetime(2020, 9, 26, 22, 0, 1, tzinfo=UTC)
    assert batches[2][0].quality is Quality.BAD


async def test_the_device_may_have_another_name_in_the_recording(tmp_path: Path) -> None:
    batches = await play(player(tmp_path, name="packer_plc", device="packer"), ("parts",))
    assert [reading.value for batch in batches for reading in batch] == [99]


async def test_without_tags_everything_of_the_device_is_played(tmp_path: Path) -> None:
    batches = await play(player(tmp_path), ())
    assert {reading.tag for batch in batches for reading in batch} == {"parts", "running", "other"}


async def test_invert_is_applied(tmp_path: Path) -> None:
    batches = await play(player(tmp_path, tags={"running": {"invert": True}}), ("running",))
    assert [reading.value for batch in batches for reading in batch] == [False, None]


async def test_a_number_that_no_message_can_carry_is_the_nearest_real_one(tmp_path: Path) -> None:
    row = "2020-09-27T00:00:01+02:00,press,parts,{},good"
    text = "\n".join(["at,device,tag,value,quality", row.format(2**64 - 1), row.replace(":01+", ":02+").format(2**70), ""])
    batches = await play(player(tmp_path, text), ("parts",))
    assert [(type(r.value), r.value) for batch in batches for r in batch] == [(int, 2**64 - 1), (float, 2.0**70)]


async def test_read_tells_what_was_played_last(tmp_path: Path) -> None:
    driver = player(tmp_path)
    await driver.connect()
    assert [reading.quality for reading in await driver.read(["parts"])] == [Quality.BAD]
    await play(driver, ("parts",))
    assert [reading.value for reading in await driver.read(["parts"])] == [12]


async def test_a_long_recording_leaves_the_loop_to_others(tmp_path: Path) -> None:
    rows = "".join(f"2020-09-27T00:{i // 60:02}:{i % 60:02}Z,press,parts,{i},good\n" for i in range(1000))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    batches = await play(player(tmp_path, "at,device,tag,value,quality\n" + rows), ("parts",))
    task.cancel()
    assert len(batches) == 1000
    assert turns >= 40
