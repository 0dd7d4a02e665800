"""An uplink that is shown every row and takes none: nothing is retired, and once it takes rows everything that is owed goes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.domain.entry import Entry
from gateway.seams import Receipt
from tests.outbox.test_forwarder import Peer, rig, rows
from tests.uplink.doubles import MemoryJournal


@dataclass
class DryRun(Peer):
    shown: list[int] = field(default_factory=list)

    async def deliver(self, batch: Sequence[Entry]) -> Receipt:
        self.shown += [row.sequence for row in batch]
        return Receipt(withheld=True)


async def test_every_row_is_shown_once_and_stays_owed() -> None:
    peer, journal = DryRun(), MemoryJournal(rows(*range(1, 451)))
    async with rig(peer=peer, journal=journal) as r:
        assert peer.shown == list(range(1, 451))
        await r.append(*rows(451, 452))
        assert peer.shown == list(range(1, 453))
        assert (r.forwarder.cursor, journal.advances) == (0, [])
        assert r.metrics.backlog.labels("plant")._value.get() == 452
        assert not await r.forwarder.drain(60.0), "the shutdown does not wait for what will never go"
    async with rig(journal=journal) as r:
        assert r.peer.got == list(range(1, 453))
        assert r.forwarder.cursor == 452


async def test_after_a_lost_connection_it_is_shown_what_is_owed_from_the_beginning() -> None:
    peer = DryRun()
    async with rig(rows(1, 2), peer=peer) as r:
        peer.lose()
        await r.clock.advance(1.0)
        assert peer.shown == [1, 2, 1, 2]
        await r.append(*rows(3))
        assert peer.shown[-1] == 3
