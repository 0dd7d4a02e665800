"""The forwarder on a manual clock: cursor, holds, quarantine, acknowledgements, replay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.domain.entry import Entry
from gateway.metrics import Metrics
from gateway.outbox.forwarder import Forwarder
from gateway.outbox.transaction import PARKED, QUARANTINED, RowException
from gateway.seams import Receipt, UplinkError
from gateway.supervise import Backoff, LinkState, LinkStatus
from tests.manual_clock import ManualClock
from tests.uplink.doubles import AT, EPOCH, Alerts, MemoryJournal, entry

CONSUMERS = ("mes",)


@dataclass
class Peer:
    """An uplink that does what the test says; `got` is every sequence it took, in order."""

    name: str = "plant"
    peer: str = "MQTT broker:1883"
    up: bool = True
    refuses: Callable[[Entry], str | None] = lambda row: None
    parks: Callable[[Entry], str | None] = lambda row: None
    busy_after: int | None = None
    takes: int | None = None
    """So many more rows, then the connection breaks."""
    hangs_up: bool = False
    """Closes the connection after a refusal."""
    unrouted: bool = False
    got: list[int] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    connects: int = 0
    closes: int = 0
    _lost: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self) -> None:
        if not self.up:
            raise UplinkError("refused")
        self.connects += 1
        self._lost = asyncio.Event()

    async def serve(self, heard: Callable[[], None]) -> None:
        heard()
        await self._lost.wait()
        raise UplinkError("lost")

    def lose(self) -> None:
        self._lost.set()

    async def deliver(self, batch: Sequence[Entry]) -> Receipt:
        if self._lost.is_set():
            raise UplinkError("lost")
        accepted: set[int] = set()
        refused: dict[int, str] = {}
        parked: dict[int, str] = {}
        held: set[str | None] = set()
        for row in batch:
            if row.work_unit in held:
                continue
            self.attempts.append(row.sequence)
            if (reason := self.refuses(row)) is not None:
                refused[row.position] = reason
                held.add(row.work_unit)
                if self.hangs_up:
                    self.lose()
                    break
            elif (reason := self.parks(row)) is not None:
                parked[row.position] = reason
            elif self.takes == 0:
                self.takes = None
                self.lose()
                break
            elif self.busy_after is not None and len(self.got) >= self.busy_after:
                return Receipt(frozenset(accepted), parked, refused, retry_after_s=2.0)
            else:
                self.takes = None if self.takes is None else self.takes - 1
                accepted.add(row.position)
                self.got.append(row.sequence)
        return Receipt(frozenset(accepted), parked, refused, unrouted=frozenset(accepted if self.unrouted else ()))

    async def close(self) -> None:
        self.closes += 1
        self.lose()


@dataclass
class Rig:
    peer: Peer
    journal: MemoryJournal
    clock: ManualClock
    forwarder: Forwarder
    alerts: Alerts
    statuses: list[LinkStatus]
    metrics: Metrics

    async def append(self, *rows: Entry) -> None:
        self.journal.append(*rows)
        self.forwarder.notify()
        await self.clock.advance(0)


@asynccontextmanager
async def rig(
    rows: Iterable[Entry] = (), *, peer: Peer | None = None, consumers: Sequence[str] = (), journal: MemoryJournal | None = None
) -> AsyncIterator[Rig]:
    peer = peer or Peer()
    journal = journal or MemoryJournal(list(rows))
    clock, alerts, statuses, metrics = ManualClock(), Alerts(), list[LinkStatus](), Metrics()
    forwarder = Forwarder(
        peer, reader=journal, writer=journal, clock=clock, metrics=metrics, alerts=alerts,
        on_link=statuses.append, consumers=consumers, backoff=Backoff(0.5, 30.0, draw=lambda: 1.0),
    )  # fmt: skip
    task = asyncio.create_task(forwarder.run())
    await clock.advance(0)
    yield Rig(peer, journal, clock, forwarder, alerts, statuses, metrics)
    task.cancel()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError), repr(ended)


def rows(*numbers: int, unit: str | None = "press-07", type_: str = "quantity.counted") -> list[Entry]:
    return [entry(number, work_unit=unit, type_=type_) for number in numbers]


def mixed(last: int) -> list[Entry]:
    """Odd rows of the press, even rows of the packer."""
    return [entry(n, work_unit="press-07" if n % 2 else "packer-02") for n in range(1, last + 1)]


async def test_rows_flow_in_order_and_the_cursor_follows() -> None:
    async with rig(rows(*range(1, 451))) as r:
        assert r.peer.got == list(range(1, 451))
        assert r.journal.position == 450
        await r.append(*rows(451, 452))
        assert r.peer.got[-2:] == [451, 452]
        assert r.journal.position == r.forwarder.cursor == 452
        assert r.forwarder.status.state is LinkState.CONNECTED


async def test_nothing_is_read_while_nothing_happens() -> None:
    async with rig(rows(1)) as r:
        reads = 0
        original = r.journal.entries

        async def counting(*a: int, **k: object) -> list[Entry]:
            nonlocal reads
            reads += 1
            return await original(*a, **k)  # type: ignore[arg-type]

        r.journal.entries = counting  # type: ignore[method-assign]
        await r.clock.advance(600)
        assert reads == 0


async def test_a_broken_connection_continues_at_the_first_row_without_an_answer() -> None:
    async with rig(rows(*range(1, 11)), peer=Peer(takes=4)) as r:
        assert r.peer.got == [1, 2, 3, 4]
        assert r.journal.position == 4
        assert r.forwarder.status.state is LinkState.DISCONNECTED
        assert r.forwarder.status.next_try_at is not None
        await r.clock.advance(1)
        assert r.peer.got == list(range(1, 11))
        assert r.peer.connects == 2
        assert r.forwarder.status.outages == 1


async def test_an_absent_peer_is_tried_again_and_closed_each_time() -> None:
    async with rig(rows(1), peer=Peer(up=False)) as r:
        await r.clock.advance(20)
        assert r.peer.got == []
        assert 4 <= r.peer.closes <= 7
        assert r.forwarder.status.attempt == r.peer.closes
        r.peer.up = True
        await r.clock.advance(35)
        assert r.peer.got == [1]


async def test_only_the_refused_work_unit_waits_and_keeps_its_order() -> None:
    allowed = False
    peer = Peer(refuses=lambda row: None if allowed or row.sequence != 3 else "0x87")
    async with rig(mixed(8), peer=peer) as r:
        assert r.peer.got == [1, 2, 4, 6, 8]
        assert r.journal.position == 2
        await r.append(*rows(9), *rows(10, unit="packer-02"))
        assert r.peer.got[-1] == 10
        await r.clock.advance(1.0)
        allowed = True
        await r.clock.advance(1.0)
        assert [n for n in r.peer.got if n % 2] == [1, 3, 5, 7, 9]
        assert r.journal.position == 10
        assert not r.journal.apart


async def test_five_tries_one_second_apart_then_quarantine() -> None:
    peer = Peer(refuses=lambda row: "0x87 not authorized" if row.sequence == 3 else None)
    async with rig(mixed(8), peer=peer) as r:
        for tries in range(1, 5):
            assert r.peer.attempts.count(3) == tries
            await r.clock.advance(1.0)
        assert r.peer.attempts.count(3) == 5
        assert [n for n in r.peer.got if n % 2] == [1, 5, 7]
        assert r.journal.apart[3].state == QUARANTINED
        assert r.journal.apart[3].reason == "0x87 not authorized"
        assert r.journal.position == 8
        assert r.journal.parked_sequences == [3]
        assert r.alerts.told == ["+uplink.refused:plant:press-07"]
        await r.append(*rows(9))
        await r.clock.advance(60)
        assert r.peer.attempts.count(3) == 5


async def test_later_rows_of_a_quarantined_kind_get_one_try_and_hold_nobody_up() -> None:
    peer = Peer(refuses=lambda row: "0x87" if row.type == "quality.result" else None)
    async with rig(rows(1, type_="quality.result"), peer=peer) as r:
        await r.clock.advance(4.0)
        assert r.journal.apart[1].state == QUARANTINED
        await r.append(*rows(2, type_="quality.result"), *rows(3))
        assert r.peer.got == [3]
        assert r.journal.apart[2].state == QUARANTINED
        assert r.journal.position == 3


async def test_quarantined_rows_are_tried_once_after_each_new_connection() -> None:
    allowed = False
    peer = Peer(refuses=lambda row: None if allowed or row.sequence not in (1, 2) else "0x87")
    journal = MemoryJournal(rows(1, 2, 3), cursor=3)
    for position in (1, 2):
        journal.apart[position] = RowException("plant", position, QUARANTINED, "0x87", AT)
    async with rig(peer=peer, journal=journal) as r:
        assert r.peer.attempts == [1]
        assert set(r.journal.apart) == {1, 2}
        allowed = True
        await r.clock.advance(60)
        assert r.peer.attempts == [1]
        r.peer.lose()
        await r.clock.advance(60)
        assert r.peer.got == [1, 2]
        assert not r.journal.apart


async def test_rights_granted_by_a_restart_right_after_a_refusal_are_found_out() -> None:
    allowed = False
    peer = Peer(refuses=lambda row: None if allowed or row.type != "quality.result" else "0x87")
    async with rig(rows(1, type_="quality.result"), peer=peer) as r:
        await r.clock.advance(4.0)
        await r.append(*rows(2, type_="quality.result"))
        assert set(r.journal.apart) == {1, 2}
        allowed = True
        r.peer.lose()
        await r.clock.advance(60)
        assert r.peer.got == [1, 2]
        assert not r.journal.apart
        await r.append(*rows(3, type_="quality.result"))
        assert r.peer.got == [1, 2, 3]


async def test_a_broker_that_hangs_up_is_tried_each_second_like_any_other() -> None:
    peer = Peer(refuses=lambda row: "0x87" if row.work_unit == "press-07" else None, hangs_up=True)
    async with rig(mixed(8), peer=peer) as r:
        await r.clock.advance(8.0)
        assert set(r.journal.apart) == {1, 3, 5, 7}
        assert r.peer.attempts.count(1) <= 6, "five tries, and one after the connection that the fifth cost"
        assert r.peer.got == [2, 4, 6, 8]


async def test_rows_of_others_are_not_late_while_a_broker_hangs_up_again_and_again() -> None:
    peer = Peer(refuses=lambda row: "0x87" if row.work_unit == "press-07" else None, hangs_up=True)
    async with rig(rows(1), peer=peer) as r:
        for n in range(2, 42):
            await r.append(*rows(n, unit="packer-02"))
            await r.clock.advance(0.25)
            assert n - 1 in r.peer.got or n == 2, "a quarter of a second is enough"
        assert 1 in r.journal.apart


async def test_a_broker_that_hangs_up_after_a_refusal_does_not_stop_the_others() -> None:
    peer = Peer(refuses=lambda row: "0x87" if row.work_unit == "press-07" else None, hangs_up=True)
    async with rig(mixed(6), peer=peer) as r:
        await r.clock.advance(120)
        assert r.peer.got == [2, 4, 6]
        assert set(r.journal.apart) == {1, 3, 5}
        assert r.journal.position == 6
        settled = r.peer.connects
        await r.append(*rows(7), *rows(8, unit="packer-02"))
        await r.clock.advance(120)
        assert r.peer.got[-1] == 8
        assert r.peer.connects == settled, "a row that would be refused does not cost the connection any more"


async def test_a_parked_row_is_told_once_and_never_sent_again() -> None:
    peer = Peer(parks=lambda row: "no such product" if row.sequence == 2 else None)
    async with rig(rows(1, 2, 3), peer=peer, consumers=CONSUMERS) as r:
        assert r.peer.got == [1, 3]
        assert r.journal.apart[2].state == PARKED
        assert r.journal.parked_sequences == [2]
        assert not r.alerts.told, "rows that are parked are counted, and one alert tells the count"
        assert r.forwarder.acknowledge("mes", EPOCH, 3) is None
        assert r.journal.position == 3
        assert 2 in r.journal.apart
        r.peer.lose()
        await r.clock.advance(60)
        assert r.peer.attempts.count(2) == 1


async def test_the_news_of_a_parked_row_is_not_told_again_when_it_is_refused_itself() -> None:
    peer = Peer(parks=lambda row: "no")
    async with rig([entry(1, work_unit=None, type_="row.parked")], peer=peer) as r:
        assert r.journal.apart[1].state == PARKED
        assert r.journal.events == []


async def test_a_busy_peer_is_left_alone_for_as_long_as_it_says() -> None:
    peer = Peer(busy_after=3)
    async with rig(rows(*range(1, 6)), peer=peer) as r:
        assert r.peer.got == [1, 2, 3]
        asked = len(r.peer.attempts)
        await r.clock.advance(1.9)
        assert len(r.peer.attempts) == asked
        r.peer.busy_after = None
        await r.clock.advance(0.2)
        assert r.peer.got == [1, 2, 3, 4, 5]


async def test_a_new_connection_of_an_uplink_without_consumers_repeats_nothing() -> None:
    async with rig(rows(1, 2, 3)) as r:
        r.peer.lose()
        await r.clock.advance(60)
        assert r.peer.connects == 2
        assert r.peer.got == [1, 2, 3]


async def test_nobody_listens_is_told_and_cleared() -> None:
    async with rig(rows(1), peer=Peer(unrouted=True)) as r:
        assert r.alerts.told == ["+uplink.unrouted:plant"]
        assert r.journal.position == 1, "without consumers the row is done all the same"
        r.peer.unrouted = False
        await r.append(*rows(2))
        assert r.alerts.told == ["+uplink.unrouted:plant", "-uplink.unrouted:plant"]


async def test_after_a_brokers_return_rows_wait_in_order_for_their_consumers() -> None:
    async with rig(rows(1, 2, 3), consumers=CONSUMERS) as r:
        r.peer.unrouted = True
        r.peer.lose()
        await r.clock.advance(2)
        await r.append(*rows(4))
        await r.clock.advance(1)
        assert (r.peer.connects, r.peer.got[-1]) == (2, 4)
        assert r.alerts.told == []
        r.peer.unrouted = False
        r.peer.got.clear()
        await r.clock.advance(1)
        assert r.peer.got == [1, 2, 3, 4], "nobody had them: none may be skipped for a younger one"


async def test_consumers_that_stay_away_hold_nothing_up_for_long() -> None:
    async with rig(rows(1, 2, 3), consumers=CONSUMERS) as r:
        r.peer.unrouted = True
        r.peer.lose()
        await r.clock.advance(8)
        assert r.alerts.told == ["+uplink.unrouted:plant"]
        assert r.journal.position == 0, "the rows stay"
        await r.append(*rows(4))
        assert r.peer.got[-1] == 4


async def test_rows_retire_on_the_mark_of_every_consumer() -> None:
    async with rig(rows(*range(1, 11)), consumers=("mes", "erp")) as r:
        assert r.peer.got == list(range(1, 11))
        assert r.journal.position == 0
        assert r.forwarder.acknowledge("mes", EPOCH, 8) is None
        assert r.journal.position == 0
        assert r.forwarder.acknowledge("erp", EPOCH, 5) is None
        assert r.journal.position == 5
        assert r.forwarder.acknowledge("erp", EPOCH, 3) is None, "a repeat of an old mark is no fault"
        assert r.forwarder.acknowledge("erp", EPOCH, 10) is None
        assert r.journal.position == 8
        assert r.journal.consumer_marks == {("mes", EPOCH): 8, ("erp", EPOCH): 10}


@pytest.mark.parametrize(
    ("consumer", "epoch", "sequence", "why"),
    [
        ("other", EPOCH, 1, "no consumer"),
        ("mes", "e9", 1, "epoch"),
        ("mes", EPOCH, 11, "not been sent"),
        ("mes", EPOCH, 99, "not been sent"),
    ],
)
async def test_a_mark_that_cannot_be_is_refused(consumer: str, epoch: str, sequence: int, why: str) -> None:
    async with rig(rows(*range(1, 11)), consumers=CONSUMERS) as r:
        r.journal.append(*rows(11))
        problem = r.forwarder.acknowledge(consumer, epoch, sequence)
        assert problem is not None
        assert why in problem
        assert r.journal.consumer_marks == {}


async def test_unacknowledged_rows_go_again_after_10_s_then_doubling() -> None:
    async with rig(rows(1, 2, 3), consumers=CONSUMERS) as r:
        await r.clock.advance(9.9)
        assert r.peer.got == [1, 2, 3]
        sent_at: list[float] = []
        began = r.clock.monotonic() - 9.9
        while len(sent_at) < 7:
            before = len(r.peer.got)
            await r.clock.advance(1.0)
            if len(r.peer.got) > before:
                assert r.peer.got[before:] == [1, 2, 3]
                sent_at.append(round(r.clock.monotonic() - began))
        pauses = [later - earlier for earlier, later in zip([0, *sent_at], sent_at, strict=False)]
        assert pauses == pytest.approx([10, 20, 40, 80, 160, 300, 300], abs=1.5)
        assert r.metrics.resent.labels("plant")._value.get() == 21


async def test_a_round_has_at_most_a_thousand_rows_and_the_next_follows_the_acknowledgement() -> None:
    async with rig(rows(*range(1, 2501)), consumers=CONSUMERS) as r:
        assert len(r.peer.got) == 2500
        await r.clock.advance(11)
        assert r.peer.got[2500:] == list(range(1, 1001))
        r.forwarder.acknowledge("mes", EPOCH, 1000)
        await r.clock.advance(2.1)
        assert r.peer.got[3500:] == list(range(1001, 2001))
        r.forwarder.acknowledge("mes", EPOCH, 2500)
        await r.clock.advance(600)
        assert len(r.peer.got) == 4500


async def test_all_unacknowledged_rows_go_again_after_each_new_connection_in_order() -> None:
    async with rig(rows(*range(1, 301)), consumers=CONSUMERS) as r:
        r.forwarder.acknowledge("mes", EPOCH, 100)
        r.peer.got.clear()
        r.peer.lose()
        await r.clock.advance(1)
        assert r.peer.got == list(range(101, 301))


async def test_a_restart_knows_the_marks_and_takes_those_for_rows_of_the_process_before() -> None:
    journal = MemoryJournal(rows(*range(1, 11)), cursor=2)
    journal.sent = 9
    journal.consumer_marks["mes", EPOCH] = 4
    async with rig(journal=journal, consumers=CONSUMERS, peer=Peer(up=False)) as r:
        assert r.journal.position == 4
        assert r.forwarder.acknowledge("mes", EPOCH, 9) is None
        assert r.journal.position == 9
        r.peer.up = True
        await r.clock.advance(60)
        assert r.peer.got[0] == 10
        assert set(r.peer.got) == {10}


async def test_after_a_restart_during_an_outage_a_mark_beyond_what_was_sent_is_refused() -> None:
    journal = MemoryJournal()
    async with rig(journal=journal, consumers=CONSUMERS) as r:
        await r.append(*rows(1, 2, 3))
        assert journal.sent == 3
        r.peer.up = False
        r.peer.lose()
        await r.append(*rows(*range(4, 11)))
        await r.append(*rows(*range(11, 1_101)))
    async with rig(journal=journal, consumers=CONSUMERS, peer=Peer(up=False)) as r:
        problem = r.forwarder.acknowledge("mes", EPOCH, 1_004)
        assert problem is not None
        assert "not been sent" in problem
        early = r.metrics.uplink_incidents.labels("plant", "early_ack")
        assert r.forwarder.acknowledge("mes", EPOCH, 9) is None, "a process that was killed may have sent it; it is no reason for an alarm"
        assert early._value.get() == 1
        assert (journal.position, journal.consumer_marks) == (0, {})
        r.peer.up = True
        await r.clock.advance(1)
        assert r.peer.got[:10] == list(range(1, 11)), "nothing was retired that nobody has seen"
        assert r.forwarder.acknowledge("mes", EPOCH, 9) is None
        assert journal.position == 9
        assert early._value.get() == 1


async def test_a_consumer_may_be_faster_than_the_batch() -> None:
    class Slow(Peer):
        async def deliver(self, batch: Sequence[Entry]) -> Receipt:
            receipt = await super().deliver(batch[:5])
            problems.append(r.forwarder.acknowledge("mes", EPOCH, 3))
            return receipt

    problems: list[str | None] = []
    async with rig(peer=Slow(), consumers=CONSUMERS) as r:
        await r.append(*rows(*range(1, 11)))
        assert problems == [None, None]
        assert r.journal.position == 3
        assert r.metrics.delivered.labels("plant")._value.get() == 10


async def test_a_mark_beyond_a_row_that_never_went_out_does_not_retire_it() -> None:
    peer = Peer(refuses=lambda row: "0x87" if row.sequence == 3 else None)
    journal = MemoryJournal()
    async with rig(journal=journal, peer=peer, consumers=CONSUMERS) as r:
        await r.append(*mixed(6))
        assert r.forwarder.acknowledge("mes", EPOCH, 6) is None
        assert r.journal.position == 2
        peer.refuses = lambda row: None
        await r.clock.advance(2)
        assert r.journal.position == 6


async def test_replay_sends_everything_from_there_retired_or_not() -> None:
    async with rig(rows(*range(1, 501)), consumers=CONSUMERS) as r:
        r.forwarder.acknowledge("mes", EPOCH, 500)
        r.peer.got.clear()
        assert r.forwarder.replay(EPOCH, 51) is None
        r.forwarder.acknowledge("mes", EPOCH, 400)
        await r.append(*rows(501))
        await r.clock.advance(0)
        assert r.peer.got == list(range(51, 502))


async def test_replay_works_without_consumers_and_survives_a_broken_connection() -> None:
    async with rig(rows(*range(1, 501))) as r:
        r.peer.got.clear()
        r.peer.takes = 250
        assert r.forwarder.replay(EPOCH, 1) is None
        await r.clock.advance(0)
        assert r.peer.got == list(range(1, 251))
        await r.clock.advance(60)
        assert r.peer.got == list(range(1, 501))
        assert r.journal.advances == sorted(set(r.journal.advances))


async def test_replay_begins_at_the_oldest_row_that_is_kept() -> None:
    async with rig(journal=MemoryJournal(rows(*range(200, 211)), cursor=210)) as r:
        assert r.forwarder.replay(EPOCH, 5) is None
        await r.clock.advance(0)
        assert r.peer.got == list(range(200, 211))


async def test_an_earlier_replay_request_wins_while_one_runs() -> None:
    async with rig(rows(*range(1, 11))) as r:
        r.peer.got.clear()
        r.forwarder.replay(EPOCH, 8)
        r.forwarder.replay(EPOCH, 2)
        r.forwarder.replay(EPOCH, 5)
        await r.clock.advance(0)
        assert r.peer.got == list(range(2, 11))


async def test_a_replay_that_a_broker_broke_off_waits_for_who_asked_for_it() -> None:
    async with rig(rows(*range(1, 501)), consumers=CONSUMERS) as r:
        r.forwarder.acknowledge("mes", EPOCH, 500)
        r.peer.got.clear()
        r.peer.takes = 250
        assert r.forwarder.replay(EPOCH, 1) is None
        await r.clock.advance(0)
        assert r.peer.got == list(range(1, 251))
        r.peer.unrouted = True
        await r.clock.advance(2)
        r.peer.unrouted = False
        r.peer.got.clear()
        await r.clock.advance(1)
        assert r.peer.got == list(range(r.peer.got[0], 501))
        assert r.peer.got[0] <= 251, "nobody had them"


async def test_a_consumer_that_has_everything_may_ask_for_what_comes_next() -> None:
    async with rig(rows(*range(1, 11))) as r:
        r.peer.got.clear()
        assert r.forwarder.replay(EPOCH, 11) is None
        await r.clock.advance(1)
        assert r.peer.got == []
        await r.append(*rows(11))
        assert r.peer.got == [11]


@pytest.mark.parametrize(("epoch", "sequence"), [("e9", 1), (EPOCH, 12)])
async def test_replay_of_what_never_was_is_refused(epoch: str, sequence: int) -> None:
    async with rig(rows(*range(1, 11))) as r:
        r.peer.got.clear()
        assert r.forwarder.replay(epoch, sequence) is not None
        await r.clock.advance(1)
        assert r.peer.got == []


async def test_a_bug_ends_the_forwarder() -> None:
    class Broken(Peer):
        async def deliver(self, batch: Sequence[Entry]) -> Receipt:
            raise KeyError("bug")

    journal, clock = MemoryJournal(rows(1)), ManualClock()
    peer = Broken()
    forwarder = Forwarder(
        peer, reader=journal, writer=journal, clock=clock, metrics=Metrics(), alerts=Alerts(), on_link=lambda status: None
    )
    with pytest.raises(KeyError):
        await forwarder.run()
    assert peer.closes == 1


async def test_drain_waits_until_the_peer_has_everything() -> None:
    async with rig(rows(1, 2), peer=Peer(busy_after=1)) as r:
        draining = asyncio.create_task(r.forwarder.drain(5.0))
        await r.clock.advance(1)
        assert not draining.done()
        r.peer.busy_after = None
        await r.clock.advance(2)
        assert await draining
        r.peer.busy_after = 0
        await r.append(*rows(3))
        late = asyncio.create_task(r.forwarder.drain(1.0))
        await r.clock.advance(1.5)
        assert not await late
