"""One device's readings, for as long as the gateway runs: pushed by the device, or read on a fixed cadence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence

from drivers import remedies
from drivers.base import (
    Answering,
    Certified,
    Clock,
    Driver,
    LinkError,
    Paced,
    PeerRefusedError,
    Quality,
    Reading,
    Refusing,
    ReplyError,
    SilentLinkError,
    Subscribing,
    Watching,
    silence_limit,
)  # fmt: skip
from gateway.domain.events import Text
from gateway.metrics import Metrics
from gateway.supervise import GAVE_UP, Backoff, Diagnosis, Link, LinkStatus, honour_cancellation, is_asked_to_end

OnReadings = Callable[[str, Sequence[Reading], bool], None]

# A PLC that was restarted shall be seen again within about 2 s, and a connection try costs it little.
BACKOFF_BASE_S, BACKOFF_CAP_S = 0.2, 2.0
# Drivers bound themselves; these hold when one does not.
CONNECT_LIMIT_S = 30.0
CLOSE_LIMIT_S = 5.0
# Beyond what the device is given: a loop that is busy, and a driver that closes.
GRACE_S = 2.0
# A connection that has to be opened anew, the request itself, and whoever had the line before.
REQUESTS = 3
# How often a poller that has nothing to do says that it is alive.
IDLE_S = 1.0


def diagnose(error: Exception) -> Diagnosis:
    """A driver's LinkError in the words of a link status."""
    remedy = Text(error.remedy_fr, error.remedy_en) if isinstance(error, LinkError) and error.remedy_fr else None
    retry_after_s = error.retry_after_s if isinstance(error, LinkError) else None
    return Diagnosis(str(error), remedy, silent=isinstance(error, SilentLinkError), retry_after_s=retry_after_s)


class Poller:
    """Keeps one device's link alive and hands its readings on.

    `on_readings(device, batch, pushed)` is called synchronously. First after each (re)connection comes a batch with every tag (of a
    recording: its first instant); then, from a device that pushes, its batches (`pushed` True, in the order things happened, no tag
    twice in a batch), else every tag at each `interval_s`. When the link is lost, every tag comes once as BAD with detail `link lost`,
    then nothing until it is back. What it raises ends `run`: it is a bug. `on_link` gets each change of the link's state.

    `drained` is awaited between the batches of a device that pushes, so that a recording cannot outrun the journal. `timeout_s`: what
    the device is given for one request.
    """

    def __init__(
        self,
        name: str,
        make_driver: Callable[[], Driver],
        tags: Sequence[str],
        interval_s: float,
        clock: Clock,
        metrics: Metrics,
        on_readings: OnReadings,
        on_link: Callable[[LinkStatus], None],
        peer: str,
        *,
        drained: Callable[[], Awaitable[None]] | None = None,
        timeout_s: float = 1.0,
    ) -> None:
        self.name = name
        self._progressed_at = self._resting_until = clock.monotonic()
        self._waits_for_journal = False
        self._answer_s = 0.0
        """Within this time the connected device speaks, or its link is given up."""
        self.driver: Driver | None = None
        """The connected driver, for writes; None while the link is down."""
        self._answering: Answering | None = None
        self._refusing: Refusing | None = None
        self._watching: Watching | None = None
        self._incidents: dict[str, int] = {}
        self._make_driver = make_driver
        self._tags = tuple(tags)
        self._interval_s = interval_s
        self._clock = clock
        self._metrics = metrics
        self._on_readings = on_readings
        self._on_link = on_link
        self._peer = peer
        self._drained = drained
        self._timeout_s = timeout_s
        self._silence_s = silence_limit(interval_s)
        self._lost_told = False
        self._without_value: set[str] = set()
        """Tags that were bad when they came last on this connection."""
        self._connections = 0
        self._good, self._uncertain, self._bad = (metrics.readings.labels(name, quality.value) for quality in Quality)
        self._polls = metrics.polls.labels(name)
        self._link = Link(
            name, kind="device", peer=peer, clock=clock, on_status=self._link_changed, backoff=Backoff(BACKOFF_BASE_S, BACKOFF_CAP_S)
        )

    @property
    def last_progress(self) -> float:
        """Monotonic time of the last sign of life of this task, whatever the device does."""
        # A rest that the driver asked for may be long, and is no stall.
        if self._waits_for_journal:
            return self._clock.monotonic()
        seen = max(self._progressed_at, min(self._clock.monotonic(), self._resting_until))
        return seen if self._answering is None else max(seen, self._answering.answered_at)

    @property
    def stall_after_s(self) -> float:
        """Without progress for longer than this the task itself hangs."""
        return self._answer_s + GRACE_S if self.driver is not None else CONNECT_LIMIT_S + CLOSE_LIMIT_S + self._interval_s

    @property
    def status(self) -> LinkStatus:
        return self._link.status

    async def run(self) -> None:
        """Until cancelled; then the driver is closed, within a bound. Raises only what is a bug or a wrong configuration."""
        await self._link.run(self._serve, (LinkError,), diagnose)

    async def _serve(self) -> None:
        self._progress()
        driver = self._make_driver()
        self._answering = driver if isinstance(driver, Answering) else None
        try:
            await self._use(driver)
        except LinkError as error:
            self._progress()
            if isinstance(error, ReplyError):
                self._metrics.refused_replies.labels(self.name).inc()
            if error.retry_after_s is not None:
                self._resting_until = self._clock.monotonic() + error.retry_after_s
            if isinstance(error, PeerRefusedError):
                self._metrics.refused_peers.labels(self.name, error.reason).inc()
            self._note_certificates(driver)
            self._tell_lost()
            raise
        finally:
            self.driver = None
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout(CLOSE_LIMIT_S):
                    await driver.close()

    async def _use(self, driver: Driver) -> None:
        try:
            async with self._at_most(CONNECT_LIMIT_S):
                await driver.connect()
            if isinstance(driver, Subscribing):
                await self._listen(driver, driver)
            else:
                await self._poll(driver)
        except asyncio.CancelledError as error:
            if is_asked_to_end():
                raise
            raise remedies.dropped(self._peer, GAVE_UP) from error

    async def _poll(self, driver: Driver) -> None:
        due = self._clock.monotonic()
        paced = driver if isinstance(driver, Paced) else None
        while True:
            limit = self._silence_s if paced is None else max(self._silence_s, paced.read_limit_s(self._tags))
            # Of a read of many requests the driver tells each answer.
            step = max(self._silence_s, REQUESTS * self._timeout_s)
            self._answer_s = (limit if self._answering is None else min(limit, step)) + self._interval_s
            try:
                async with self._clock.timeout(limit):
                    readings = await driver.read(self._tags)
            except TimeoutError as error:
                raise remedies.silent(self._peer, limit) from error
            honour_cancellation()
            self._hand_on(driver, readings, pushed=False)
            # A fixed cadence: what a slow answer took is not added, and polls that were missed are left out, not made up for.
            now = self._clock.monotonic()
            due += self._interval_s
            if due < now:
                due += -((due - now) // self._interval_s) * self._interval_s
            await self._clock.sleep(due - now)

    async def _listen(self, driver: Driver, subscribing: Subscribing) -> None:
        # The driver's own watch says it better, so it gets the first word. Some have none, and speak once an interval: an agent that is
        # asked for its news, a server without subscriptions.
        limit = max(self._silence_s, driver.read_limit_s(self._tags) if isinstance(driver, Paced) else 0.0) + self._interval_s + 0.5
        self._answer_s = limit
        stream = subscribing.subscribe(self._tags)
        try:
            while True:
                async with self._at_most(limit):
                    batch = await anext(stream, None)
                if batch is None:
                    break
                # The first batch is a look at everything: what it shows belongs together, whenever each value became what it is.
                self._hand_on(driver, batch, pushed=self.driver is not None)
                if self._drained is not None:
                    self._waits_for_journal = True
                    try:
                        await self._drained()
                    finally:
                        self._waits_for_journal = False
                    self._progress()
        finally:
            self._progress()
            self._answer_s = CLOSE_LIMIT_S
            if isinstance(stream, AsyncGenerator):
                with contextlib.suppress(TimeoutError):
                    async with self._clock.timeout(CLOSE_LIMIT_S):
                        await stream.aclose()
        # A recording at its end: it is never played twice.
        while True:
            self._progress()
            await self._clock.sleep(IDLE_S)

    def _hand_on(self, driver: Driver, readings: Sequence[Reading], *, pushed: bool) -> None:
        self._progress()
        if self.driver is None:
            self.driver = driver
            self._refusing = driver if isinstance(driver, Refusing) else None
            self._watching = driver if isinstance(driver, Watching) else None
            self._note_certificates(driver)
            self._incidents = {}
            self._lost_told = False
            self._connections += 1
            if self._connections > 1:
                self._metrics.reconnects.labels(self.name).inc()
            self._without_value.clear()
        if readings:
            self._count(readings)
        # A keep-alive says that what was good still is; a device whose every tag is bad has nothing good to tell.
        if not self._tags or len(self._without_value) < len(self._tags):
            self._link.good()
        refused = self._refusing.refused if self._refusing is not None else {}
        concerns = self._watching.concerns if self._watching is not None else {}
        self._link.connected(refused, concerns)
        if self._watching is not None and self._watching.incidents != self._incidents:
            self._count_incidents(self._watching.incidents)
        self._polls.inc()
        if readings:
            self._on_readings(self.name, readings, pushed)

    def _note_certificates(self, driver: Driver) -> None:
        if isinstance(driver, Certified):
            self._link.certified(driver.certificates)

    def _count(self, readings: Sequence[Reading]) -> None:
        good = Quality.GOOD
        others = [reading.quality for reading in readings if reading.quality is not good]
        self._good.inc(len(readings) - len(others))
        if others:
            bad = others.count(Quality.BAD)
            self._bad.inc(bad)
            self._uncertain.inc(len(others) - bad)
        if others or self._without_value:
            bad_tags = {reading.tag for reading in readings if reading.quality is Quality.BAD}
            self._without_value.difference_update(reading.tag for reading in readings)
            self._without_value |= bad_tags

    def _count_incidents(self, incidents: Mapping[str, int]) -> None:
        for kind, count in incidents.items():
            self._metrics.device_incidents.labels(self.name, kind).inc(count - self._incidents.get(kind, 0))
        self._incidents = dict(incidents)

    def _tell_lost(self) -> None:
        if self._lost_told:
            return
        self._lost_told = True
        if self._tags:
            now = self._clock.now()
            self._on_readings(self.name, [Reading(tag, None, Quality.BAD, None, now, "link lost") for tag in self._tags], False)

    @contextlib.asynccontextmanager
    async def _at_most(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with self._clock.timeout(seconds):
                yield
        except TimeoutError as error:
            raise remedies.silent(self._peer, seconds) from error
        honour_cancellation()

    def _progress(self) -> None:
        self._progressed_at = self._clock.monotonic()

    def _link_changed(self, status: LinkStatus) -> None:
        self._metrics.link_up.labels(self.name, "device").set(1 if self._link.is_up else 0)
        self._on_link(status)
