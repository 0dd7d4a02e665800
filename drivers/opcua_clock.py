"""What the source times of a device are worth: a steady error of its clock is taken out, what cannot be true is not used."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from drivers.base import Concern, Reading

# A change cannot be later than its receipt, apart from the two clocks' usual difference.
AHEAD = timedelta(seconds=0.5)
# How late a change may come on top of sampling and publishing before the device's clock is said to be behind. Short: a change that
# seems older than two seconds comes too late for the domain, which has gone on by then.
SLACK_S = 0.5
# Beyond, nothing on the way explains it.
FAR = timedelta(seconds=1.5)
# A clock that is behind shows only by the absence of fresh times: it is judged over this long.
JUDGED_S = 5.0
# The clock of a PLC whose battery is empty starts here or in 1970, 1984, 1990, 2000.
EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
# OPC UA's way to say "no time" (OPC 10000-6, 5.2.2.5: the smallest DateTime).
NEVER = datetime(1601, 1, 2, tzinfo=UTC)
# From here on a person should set the PLC's clock.
TELL = timedelta(seconds=60)
# A time that could not be used is told this long.
TOLD_S = 120.0


class DeviceClock:
    """One connection's view of the device's clock.

    Changes are fresh when they are pushed: their latest source time, less the time of receipt, is the clock's error less the time
    of the way. Between `-(0.5 s + 2 intervals)` and `+0.5 s` the clock counts as right. Else that error is taken out of every source
    time, so that times between two changes stay exact, whatever the zone or the year the PLC believes in.
    """

    def __init__(self, interval_s: float) -> None:
        self.offset = timedelta(0)
        """The device's clock less ours, as taken out at present."""
        self.unusable = 0
        """How many source times could not be used."""
        self._behind = timedelta(seconds=SLACK_S + 2 * interval_s)
        self._judged: timedelta | None = None
        self._judged_since: datetime | None = None
        self._began = False
        self._unusable_at: datetime | None = None
        self._unusable = NEVER

    def hear(self, changes: Iterable[Reading], received_at: datetime) -> None:
        """Changes as they were pushed just now, with the device's own times."""
        freshest = max((change.source_time for change in changes if change.source_time is not None), default=None)
        if freshest is None or freshest < NEVER:
            return
        error = freshest - received_at
        if error > self.offset + (AHEAD if not self.offset else timedelta(0)):
            # Ahead of what was thought: nothing but the clock itself can do that.
            self._take(error)
        elif not self._began and error < -self._behind - FAR:
            # So far behind is no delay: it is known from the first change on.
            self._take(error)
        else:
            self._began = True
            self._judge(error, received_at)

    def _judge(self, error: timedelta, received_at: datetime) -> None:
        """A clock that fell behind: for some seconds not one change was fresh."""
        if error >= self.offset - self._behind:
            self._judged = self._judged_since = None
            return
        if self._judged is None or self._judged_since is None:
            self._judged, self._judged_since = error, received_at
        self._judged = max(self._judged, error)
        if received_at - self._judged_since >= timedelta(seconds=JUDGED_S):
            self._take(self._judged)

    def _take(self, error: timedelta) -> None:
        self._began = True
        self._judged = self._judged_since = None
        self.offset = timedelta(0) if -self._behind <= error <= AHEAD else error

    def corrected(self, reading: Reading) -> Reading:
        """With its source time on our clock; without one where it cannot be true (the time of receipt stands in then)."""
        source = reading.source_time
        if source is None:
            return reading
        latest = reading.received_at + AHEAD
        at = self._ours(source)
        if at > latest and self.offset < timedelta(0):
            # No value is newer than its receipt: the clock is less behind than a delay made it look.
            self._take(min(source - reading.received_at, AHEAD))
            at = self._ours(source)
        if EARLIEST <= at <= latest:
            return reading if at is source else reading._replace(source_time=at)
        if source < NEVER or latest < at <= latest + TELL:
            # No time at all, or a clock that is a little ahead, as the first change will tell.
            return reading._replace(source_time=None)
        if self._unusable_at is None or reading.received_at - self._unusable_at >= timedelta(seconds=TOLD_S):
            self._unusable = source
        self.unusable += 1
        self._unusable_at = reading.received_at
        return reading._replace(source_time=None, detail=reading.detail or f"source time {source.isoformat()} not used")

    def _ours(self, source: datetime) -> datetime:
        """On our clock."""
        if not self.offset:
            return source
        # The year 1 and the year 9999 are times too: what is beyond them is no time.
        try:
            return source - self.offset
        except OverflowError:
            return NEVER

    def concern(self, now: datetime) -> Concern | None:
        """What to tell the technician about this clock; None: nothing."""
        if abs(self.offset) >= TELL:
            late = self.offset < timedelta(0)
            size = _size(abs(self.offset))
            return Concern(
                "warning",
                f"L'horloge de l'automate {'retarde' if late else 'avance'} de {size} ; la passerelle corrige.",
                f"The PLC's clock is {size} {'behind' if late else 'ahead'}; the gateway corrects it.",
                "Régler l'horloge de l'automate (date, heure, UTC) ou lui donner un serveur NTP.",
                "Set the PLC's clock (date, time, UTC) or give it an NTP server.",
                f"source times are off by {self.offset.total_seconds():.0f} s",
            )
        if self._unusable_at is not None and now - self._unusable_at < timedelta(seconds=TOLD_S):
            return Concern(
                "warning",
                "L'automate date ses valeurs d'une heure impossible ; l'heure de réception est utilisée.",
                "The PLC stamps its values with an impossible time; the time of receipt is used.",
                "Régler l'horloge de l'automate (date, heure, UTC) ou lui donner un serveur NTP.",
                "Set the PLC's clock (date, time, UTC) or give it an NTP server.",
                f"source times from {self._unusable.isoformat()} on are not used",
            )
        return None


def _size(off: timedelta) -> str:
    # Hours also where it is days: "h" and "min" read the same in both languages.
    hours, minutes = divmod(round(off.total_seconds() / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
