"""A work unit that tells nothing but its pieces: `state: {from: counts}`."""

from __future__ import annotations

from typing import ClassVar

from gateway.domain.instants import Instant
from gateway.domain.machine import MachineTime
from gateway.domain.state import RUNNING, condition


class MachineByGap(MachineTime):
    """Its state is made of the gaps between pieces: run for their ideal time, then a micro-stop or a stop of the excess."""

    by_gap: ClassVar[bool] = True

    @property
    def open_gap_from(self) -> Instant | None:
        """While it runs: the last piece, whose gap is still open."""
        return self._gap_from if self.condition.state == "running" else None

    @property
    def cycle_end(self) -> Instant:
        """Where a standstill in the open gap would begin; what is booked as run already stays so when the ideal time changes."""
        return max((self._gap_from or 0) + self.cycle.cycle_us, self.settled)

    def lose(self) -> None:
        self._gap_from = None
        super().lose()

    def gap_unjudged(self) -> None:
        super().gap_unjudged()
        if self.open_gap_from is not None and self.stand is None:
            self._gap_from = self.now
            self.settle(self.now)

    def piece(self, pieces: int, *, judge: bool) -> None:
        self._end_gap(pieces, judge=judge)
        super().piece(pieces, judge=judge)

    def _end_gap(self, pieces: int, *, judge: bool) -> None:
        last, now = self._gap_from, self.now
        if last is None or not judge:
            self._gap_from = now
            self._adopt(RUNNING, now)
            return
        if not pieces:
            return
        stands = self.cycle.stands(now - last, pieces)
        if self.stand is None and not stands and not self.windows.closing:
            # The usual piece: its time waits until somebody asks for it.
            self._gap_from = now
            return
        floor = max(self.settled, last) if self.stand is None else self.stand.start
        restart = max(now - self.cycle.after_first_us(pieces), floor)
        if self.stand is not None:
            if (stands and restart > self.stand.start) or not self.cycle.cycle_us:
                self._adopt(RUNNING, restart)
            else:
                self._undo_stand()
        elif stands and restart > self.cycle_end:
            self._silent_stand(self.cycle_end, restart)
        self._gap_from = now
        self.settle(now)

    def _silent_stand(self, start: Instant, end: Instant) -> None:
        """A micro-stop that shows only when it is over: no state change is announced for it."""
        self.settle(start)
        self._pace_until(start)
        since = self.since
        self._begin_stand(start, condition("stopped"))
        self._end_stand(end)
        self.since, self._pace_from = since, end

    def _undo_stand(self) -> None:
        """Pieces that came together show that the machine did not stand at all."""
        stand = self.stand
        assert stand is not None
        self.stops.unbook(stand)
        self.stand, self.condition = None, RUNNING
        self.settled = self.since = self._pace_from = stand.start
        if stand.long:
            # The journal may know it already: it is told there as one of no length, which nobody shows.
            stand.end, stand.long, stand.reason, stand.parts = stand.start, False, None, []
            self.changed_stops[stand.start] = stand
        self._announce()
