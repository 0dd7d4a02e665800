"""What a person decides about refused rows: tried again, given up; by the running gateway or in its place."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from gateway.domain.entry import Entry
from gateway.domain.events import RowDropped
from gateway.outbox.requests import FOLDER, Request, Requests, Result, apply, leave
from gateway.outbox.transaction import DELIVERED, PARKED, QUARANTINED, RowException
from tests.outbox.test_forwarder import CONSUMERS, Peer, Rig, rig, rows
from tests.uplink.doubles import AT, EPOCH, GATEWAY, MemoryJournal


def row_id(sequence: int) -> str:
    return f"{GATEWAY}:{EPOCH}:{sequence}"


def refuses(*sequences: int) -> Peer:
    return Peer(parks=lambda row: "422 unknown order" if row.sequence in sequences else None)


async def act(r: Rig, do: str, *sequences: int, everything: bool = False, uplink: str | None = None) -> Result:
    ids = tuple(map(row_id, sequences))
    request = Request.model_validate({"do": do, "uplink": uplink, "ids": ids, "everything": everything, "reason": "known", "by": "anna"})
    result = await apply(request, {"plant": r.forwarder}, r.journal)
    await r.clock.advance(0)
    return result


async def test_a_parked_row_is_tried_again_at_once_and_goes_through() -> None:
    async with rig(rows(*range(1, 6)), peer=refuses(2, 4)) as r:
        assert r.peer.got == [1, 3, 5]
        r.peer.parks = lambda row: None
        result = await act(r, "requeue", 2)
        assert result.done == (("plant", row_id(2)),)
        assert r.peer.got == [1, 3, 5, 2]
        assert list(r.journal.apart) == [4]
        assert (await act(r, "requeue", everything=True)).done == (("plant", row_id(4)),)
        assert r.peer.got[-1] == 4
        assert r.journal.apart == {}


async def test_a_row_that_is_refused_once_more_is_parked_with_the_new_reason() -> None:
    async with rig(rows(1, 2), peer=refuses(2)) as r:
        r.peer.parks = lambda row: "422 still unknown"
        await act(r, "requeue", 2)
        assert (r.journal.apart[2].state, r.journal.apart[2].reason) == (PARKED, "422 still unknown")
        assert r.journal.parked_sequences == [2], "the same row is told once"


async def test_a_requeued_row_waits_for_a_peer_that_is_away() -> None:
    async with rig(rows(1, 2, 3), peer=refuses(2)) as r:
        r.peer.up = False
        r.peer.lose()
        await r.clock.advance(5)
        r.peer.parks = lambda row: None
        await act(r, "requeue", 2)
        assert r.journal.apart[2].state == QUARANTINED
        r.peer.up = True
        await r.clock.advance(60)
        assert r.peer.got == [1, 3, 2]


async def test_what_is_not_refused_is_not_requeued() -> None:
    async with rig(rows(1, 2)) as r:
        result = await act(r, "requeue", 1, 7)
        assert (result.done, result.untouched) == ((), (row_id(1), row_id(7)))
        assert r.peer.got == [1, 2]
        assert (await act(r, "requeue", 1, uplink="nowhere")).problem == "there is no uplink nowhere; the gateway has plant"


async def test_a_dropped_row_is_told_and_never_sent() -> None:
    async with rig(rows(*range(1, 5)), peer=refuses(2)) as r:
        assert (await act(r, "drop", 2)).done == (("plant", row_id(2)),)
        assert r.journal.apart == {}
        (event,) = [event for event in r.journal.events if isinstance(event, RowDropped)]
        assert (event.uplink, event.id, event.sequence, event.reason, event.by) == ("plant", row_id(2), 2, "known", "anna")
        r.peer.parks = lambda row: None
        r.peer.lose()
        await r.clock.advance(60)
        assert r.peer.got == [1, 3, 4]
        assert (await act(r, "drop", 2)).untouched == (row_id(2),)


async def test_a_pending_row_may_be_dropped_and_frees_its_work_unit() -> None:
    async with rig(rows(1, 2, 3), peer=Peer(refuses=lambda row: "0x99" if row.sequence == 1 else None)) as r:
        assert r.peer.got == []
        assert (await act(r, "drop", 1)).done
        await r.clock.advance(2)
        assert r.peer.got == [2, 3]
        assert r.journal.position == 3
        assert r.journal.parked_sequences == []


async def test_with_consumers_a_dropped_row_stays_dropped_over_a_new_connection_and_a_restart() -> None:
    async with rig(rows(1, 2, 3), peer=refuses(2), consumers=CONSUMERS) as r:
        assert (await act(r, "drop", 2)).done
        assert r.journal.apart[2].state == DELIVERED
        r.peer.parks = lambda row: None
        r.peer.lose()
        await r.clock.advance(60)
        assert 2 not in r.peer.got
        journal = r.journal
    async with rig(journal=journal, consumers=CONSUMERS) as r:
        await r.clock.advance(60)
        assert 2 not in r.peer.got
        r.forwarder.acknowledge("mes", EPOCH, 3)
        assert r.journal.position == 3


@pytest.mark.parametrize("text", ["", "x", "g:e1", "g:e1:", "g:e1:-1", "g:e1:0", "g:e9:1", "g:e1:١", f"g:e1:{'9' * 40}"])
async def test_an_id_that_is_none_is_left_alone(text: str) -> None:
    async with rig(rows(1), peer=refuses(1)) as r:
        request = Request(do="drop", ids=(text,))
        assert await apply(request, {"plant": r.forwarder}, r.journal) == Result(untouched=(text,))


class Hand:
    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    async def requeue(self, positions: list[int]) -> list[Entry]:
        self.asked.append(list(positions))
        return []

    async def drop(self, positions: list[int], *, reason: str, by: str) -> list[Entry]:
        raise AssertionError


async def test_files_are_answered_and_removed_whatever_they_hold(tmp_path: Path) -> None:
    from tests.manual_clock import ManualClock

    clock, hand, journal = ManualClock(), Hand(), MemoryJournal(rows(1, 2))
    journal.apart[1] = RowException("plant", 1, PARKED, "no", AT)

    async def committed() -> None:
        return

    task = asyncio.create_task(Requests(tmp_path, {"plant": hand}, journal, committed, clock).run())
    await clock.advance(3)
    folder = tmp_path / FOLDER
    folder.mkdir()
    leave(folder / "a.json", Request(do="requeue", everything=True))
    (folder / "b.json").write_text("{nonsense")
    (folder / "c.json").write_text('{"do": "requeue", "surprise": 1}')
    (folder / "d.json").mkdir()
    (folder / "e.json.part").write_text("half")
    for _ in range(200):
        await clock.advance(1)
        await asyncio.sleep(0.005)
        if all((folder / f"{name}.answer").exists() for name in "abcd"):
            break
    answers = {name: Result.model_validate_json((folder / f"{name}.answer").read_bytes()) for name in "abcd"}
    assert hand.asked[0] == [1]
    assert answers["a"].problem is None
    assert "is not one" in (answers["b"].problem or "")
    assert "is not one" in (answers["c"].problem or "")
    assert "cannot be read" in (answers["d"].problem or "")
    assert not (folder / "a.json").exists()
    assert stat.S_ISDIR(os.stat(folder / "d.json").st_mode)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
