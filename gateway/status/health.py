"""What stands in alert: one registry, so that each alert is raised once and cleared once, whoever noticed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime

import orjson

from drivers.base import Clock
from drivers.remedies import refusal as refusal_remedy
from gateway.domain.cloud_event import trimmed
from gateway.domain.events import AlertCleared, AlertRaised, Event, Text
from gateway.domain.snapshot import Snapshot
from gateway.status.board import Alert, JournalStatus, TaskStatus, UplinkStatus, seen
from gateway.status.sentences import Said, aged, say
from gateway.supervise import LinkState, LinkStatus

MEMORY = ":alerts"
"""The name of its row among the work units' snapshots; no unit can have it."""
SEVERITIES = ("critical", "warning", "info")
"""Worst first."""
MUTE_AFTER_S = 60.0
"""An uplink that is connected and whose oldest row waits unmoved for so long has nobody who confirms; rows are sent again meanwhile."""
DROPS_SHOWN_S = 60.0
"""Dropped telemetry is shown this long after the last drop."""
UPLINK_GRACE_S = 10.0
"""A broker that restarts is no alert; a machine out of sight is one at once."""
CERTIFICATE_DAYS = ((14, "critical"), (60, "warning"))
"""Days before a certificate's end, and how loud: renewing one takes an appointment with whoever programs the PLC."""
TAGS_NAMED, TAGS_TOLD = 5, 50
"""Refused tags that an alert names, and those whose reasons stand in its detail; the page of links has all."""
SEVERAL_REFUSALS = Text(
    "Corriger chaque tag comme le dit le détail ; « lineside check --connect » dit quoi faire pour chacun.",
    "Correct each tag as the detail says; `lineside check --connect` says what to do for each.",
)
WATERMARKS = ((95, "critical"), (90, "warning"), (80, "info"))
"""Per cent of the journal's cap, and how loud."""
CLEAR_BELOW = 78
"""Under the lowest mark, so that a journal on the line does not flap."""


@dataclass(frozen=True)
class _Found:
    """What a watch found wrong; `since` where the outage began earlier than it was noticed."""

    severity: str
    said: Said
    work_unit: str | None = None
    since: datetime | None = None


def certificate_ends(which: str, end: datetime, now: datetime, unit: str, zone: str) -> tuple[str, Said] | None:
    """How loud, and what is said of a certificate (`own`, `server`, `user`) that ends at `end`; None while that is far."""
    left = (end - now).total_seconds() / 86400
    severity = next((loud for days, loud in CERTIFICATE_DAYS if left <= days), None)
    if severity is None:
        return None
    return severity, say(f"certificate_{which}", zone, {"unit": unit, "end": f"{end:%Y-%m-%d}", "days": f"{left:.0f}"})


class Alerts:
    """The active alerts. `emit` takes the ledger event of each transition; `zone` is the site's, for times in sentences.

    The watch methods compare what is wrong now with what stood before: they raise and clear their own keys only.
    """

    def __init__(self, emit: Callable[[Event], None], clock: Clock, zone: str) -> None:
        self._emit = emit
        self._clock = clock
        self._zone = zone
        self._active: dict[str, Alert] = {}
        self._told: dict[str, Alert] = {}
        """Those of them whose events came from here, as they were told."""
        self._memory: Snapshot | None = None
        """They as they are written; None once they have changed: it is asked for with every commit."""
        self._waiting: dict[str, tuple[datetime | None, datetime]] = {}
        """Uplink -> its oldest waiting row, and since when it is the oldest."""
        self._drops: dict[str, tuple[int, datetime | None]] = {}
        """Uplink -> telemetry dropped so far, and when it last grew."""

    def active(self) -> tuple[Alert, ...]:
        """Worst first, then the oldest."""
        return tuple(sorted(self._active.values(), key=lambda alert: (SEVERITIES.index(alert.severity), alert.since)))

    def raise_(
        self,
        key: str,
        severity: str,
        text: Text,
        remedy: Text,
        work_unit: str | None = None,
        detail: str = "",
        since: datetime | None = None,
    ) -> None:
        """Raise, or bring the words of a standing alert up to date. An event goes out when it is new or its severity changed.

        Raises ValueError for an unknown severity."""
        if severity not in SEVERITIES:
            raise ValueError(f"severity is one of {', '.join(SEVERITIES)}, not {severity!r}")
        before = self._active.get(key)
        alert = Alert(key, severity, text, remedy, since or (before.since if before else self._clock.now()), work_unit, detail)
        self._active[key] = alert
        if before is None or before.severity != severity:
            now = self._clock.now()
            self._told[key], self._memory = alert, None
            spoken = aged(text, alert.since, now, self._zone)
            self._emit(AlertRaised(work_unit=work_unit, at=now, alert=key, severity=severity, text=spoken, remedy=remedy, detail=detail))

    def clear(self, key: str) -> None:
        """Clear, with an event when it stood."""
        alert = self._active.pop(key, None)
        if self._told.pop(key, None) is not None:
            self._memory = None
        if alert is not None:
            self._tell_cleared(alert)

    def _tell_cleared(self, alert: Alert) -> None:
        now = self._clock.now()
        text = aged(alert.text, alert.since, now, self._zone)
        self._emit(
            AlertCleared(work_unit=alert.work_unit, at=now, alert=alert.key, severity=alert.severity, text=text, remedy=alert.remedy)
        )

    def observe(self, event: Event) -> None:
        """Take over what another part has told the ledger itself (a counter's glitch); nothing is emitted."""
        if isinstance(event, AlertRaised):
            self._active[event.alert] = Alert(
                event.alert, event.severity, event.text, event.remedy, event.at, event.work_unit, event.detail
            )
        elif isinstance(event, AlertCleared):
            self._active.pop(event.alert, None)

    def snapshot(self) -> Snapshot:
        """What the ledger says to stand; in the transaction of the events that say so."""
        if self._memory is not None:
            return self._memory
        rows = [
            {
                "key": a.key,
                "severity": a.severity,
                "text": asdict(a.text),
                "remedy": asdict(a.remedy),
                "since": a.since,
                "work_unit": a.work_unit,
            }
            for a in self._told.values()
        ]
        self._memory = Snapshot(MEMORY, 1, trimmed(orjson.dumps(rows)))
        return self._memory

    def end_earlier(self, snapshot: Snapshot | None) -> None:
        """After a restart: who sees a trouble tells it anew. What stood before and was not told again by now is cleared in the ledger."""
        for row in orjson.loads(snapshot.state) if snapshot is not None else ():
            if row["key"] not in self._active:
                texts = {name: Text(**row[name]) for name in ("text", "remedy")}
                self._tell_cleared(Alert(**{**row, **texts, "since": datetime.fromisoformat(row["since"])}))

    def watch_links(self, links: Iterable[LinkStatus], work_units: Mapping[str, str], *, saved: bool = True) -> None:
        """Outages of devices and uplinks. `work_units`: the unit a device speaks for, where it is one.

        `saved`: whether everything is in the journal, so that a mute uplink may be said to lose nothing."""
        found: dict[str, _Found] = {}
        for link in links:
            work_unit = work_units.get(link.name)
            if self._out(link):
                found[f"link.lost:{link.name}"] = self._outage(link, work_unit, saved)
            elif seen(link) and link.refused_tags:
                found[f"link.tags:{link.name}"] = _Found("warning", self._refused(link, work_unit), work_unit)
            for kind, concern in link.concerns.items():
                words = Said(Text(concern.text_fr, concern.text_en), Text(concern.remedy_fr, concern.remedy_en), concern.detail)
                found[f"concern.{kind}:{link.name}"] = _Found(concern.severity, words, work_unit)
            found |= self._certificates(link, work_unit)
        self._settle(("link.lost:", "link.tags:", "concern.", "certificate."), found)

    def _certificates(self, link: LinkStatus, work_unit: str | None) -> dict[str, _Found]:
        """Those that end soon. The gateway's own is one for all links, so it has one alert."""
        found = {}
        for which, end in link.certificates.items():
            told = certificate_ends(which, end, self._clock.now(), work_unit or link.name, self._zone)
            if told is not None:
                own = which == "own"
                found["certificate.own" if own else f"certificate.{which}:{link.name}"] = _Found(*told, None if own else work_unit)
        return found

    def _refused(self, link: LinkStatus, work_unit: str | None) -> Said:
        # A program that is not loaded takes every tag with it.
        named = ", ".join(link.refused_tags[:TAGS_NAMED])
        tags = named if len(link.refused_tags) <= TAGS_NAMED else f"{named}… ({len(link.refused_tags)})"
        told = sorted(link.refusals.items())
        detail = "; ".join(f"{tag}: {why}" for tag, why in told[:TAGS_TOLD]) or f"refused: {tags}"
        said = say("tag_unknown", self._zone, {"unit": work_unit or link.name, "tag": tags, "detail": detail})
        remedies = {refusal_remedy(why) for why in link.refusals.values()}
        return replace(said, remedy=Text(*remedies.pop()) if len(remedies) == 1 else SEVERAL_REFUSALS) if remedies else said

    def _out(self, link: LinkStatus) -> bool:
        """A link that is being opened for the first time is not lost yet."""
        if seen(link) or (link.state is LinkState.CONNECTING and link.attempt == 0):
            return False
        if link.state is LinkState.DISCONNECTED and not link.attempt and not link.error:
            return False
        grace = UPLINK_GRACE_S if link.kind == "uplink" else 0.0
        # An outage that seems to lie ahead began before the clock was set back.
        return f"link.lost:{link.name}" in self._active or abs((self._clock.now() - link.since).total_seconds()) >= grace

    def _outage(self, link: LinkStatus, work_unit: str | None, saved: bool) -> _Found:
        values = {
            "unit": work_unit or link.name, "uplink": link.name, "error": link.error or link.state.value, "peer": link.peer,
            "attempt": link.attempt,
        }  # fmt: skip
        if link.kind == "uplink":
            said = say("uplink_silent" if saved else "uplink_silent_unsaved", self._zone, values)
            # Rights, certificates, passwords: nothing comes back by itself there.
            return _Found("warning", replace(said, remedy=link.remedy) if link.remedy else said, None, link.since)
        said = say("link_silent" if link.state is LinkState.SILENT else "link_lost", self._zone, values)
        if link.remedy is not None:
            said = replace(said, remedy=link.remedy)
        return _Found("critical", said, work_unit, link.since)

    def watch_uplinks(self, uplinks: Iterable[UplinkStatus], links: Mapping[str, LinkStatus] | None = None) -> None:
        """Rows that a peer refused for good, a peer that is connected and confirms nothing, telemetry that had to go.

        `links`: the links of the uplinks by name; without them a silence is not judged."""
        found: dict[str, _Found] = {}
        for uplink in uplinks:
            name = uplink.name
            if uplink.parked:
                found[f"rows.parked:{name}"] = _Found("warning", say("rows_parked", self._zone, {"uplink": name, "count": uplink.parked}))
            since = self._mute_since(uplink, (links or {}).get(name))
            if since is not None:
                detail = f"{uplink.rows} rows wait, the oldest of {uplink.oldest_at}"
                found[f"consumer.mute:{name}"] = _Found(
                    "warning", say("consumer_mute", self._zone, {"uplink": name, "detail": detail}), since=since
                )
            if self._dropped_lately(name, uplink.dropped):
                said = say("telemetry_dropped", self._zone, {"uplink": name, "count": uplink.dropped})
                found[f"telemetry.dropped:{name}"] = _Found("info", said)
        self._settle(("rows.parked:", "consumer.mute:", "telemetry.dropped:"), found)

    def _mute_since(self, uplink: UplinkStatus, link: LinkStatus | None) -> datetime | None:
        """Since when nothing of what waits was confirmed over a link that is up; None: not for long enough."""
        now = self._clock.now()
        oldest, since = self._waiting.get(uplink.name, (None, now))
        if uplink.oldest_at != oldest or uplink.oldest_at is None or since > now:
            since = now
        self._waiting[uplink.name] = uplink.oldest_at, since
        if link is None or not seen(link) or uplink.oldest_at is None:
            return None
        since = since if link.since > now else max(since, link.since)
        return since if (now - since).total_seconds() >= MUTE_AFTER_S else None

    def _dropped_lately(self, name: str, dropped: int) -> bool:
        now = self._clock.now()
        before, grew_at = self._drops.get(name, (0, None))
        if dropped > before:
            grew_at = now
        self._drops[name] = dropped, grew_at
        return grew_at is not None and abs((now - grew_at).total_seconds()) < DROPS_SHOWN_S

    def watch_tasks(self, tasks: Iterable[TaskStatus]) -> None:
        """Parts of the pipeline that hang."""
        found = {
            f"task.stalled:{task.name}": _Found(
                "critical", say("task_stalled", self._zone, {"task": task.name}), since=task.last_progress_at
            )
            for task in tasks
            if not task.running
        }
        self._settle(("task.stalled:",), found)

    def watch_clock(self, *, unset: bool) -> None:
        """A machine clock that nobody has set since it was switched on."""
        self._settle(("clock.unset",), {"clock.unset": _Found("critical", say("clock_unset", self._zone, {}))} if unset else {})

    def watch_journal(self, journal: JournalStatus) -> None:
        """A journal that fills up, a disk that takes nothing more."""
        found: dict[str, _Found] = {}
        share = 100 * journal.bytes / journal.cap_bytes if journal.cap_bytes else 0.0
        standing = self._active.get("journal.filling")
        mark, severity = next(((mark, severity) for mark, severity in WATERMARKS if share >= mark), (0, ""))
        if not severity and standing and share >= CLEAR_BELOW:
            mark, severity = WATERMARKS[-1]
        if severity:
            values = {"share": int(share), "left": _left(journal.hours_left), "mark": mark}
            found["journal.filling"] = _Found(severity, say("journal_filling", self._zone, values))
        if journal.disk in ("full", "read_only") or not journal.committing:
            found["disk.blocked"] = _Found("critical", say("disk_blocked", self._zone, {"disk": journal.disk, "error": journal.error}))
        elif journal.disk == "low":
            found["disk.low"] = _Found("warning", say("disk_low", self._zone, {}))
        if self._dropped_lately("journal", journal.dropped):
            said = say("telemetry_dropped", self._zone, {"uplink": Text("Journal", "Journal"), "count": journal.dropped})
            found["journal.telemetry"] = _Found("info", said)
        self._settle(("journal.filling", "journal.telemetry", "disk."), found)

    def _settle(self, prefixes: tuple[str, ...], found: Mapping[str, _Found]) -> None:
        for key in [key for key in self._active if key.startswith(prefixes) and key not in found]:
            self.clear(key)
        for key, wrong in found.items():
            said = wrong.said
            self.raise_(key, wrong.severity, said.text, said.remedy, wrong.work_unit, said.detail, wrong.since)


def _left(hours: float | None) -> Text:
    if hours is None:
        return Text("durée inconnue", "unknown time")
    days, rest = divmod(int(hours), 24)
    return Text(f"{days} j {rest} h", f"{days} d {rest} h") if days >= 2 else Text(f"{int(hours)} h", f"{int(hours)} h")
