"""The registry of alerts: one event per transition, whoever noticed it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from drivers.base import Concern
from gateway.domain.events import AlertCleared, AlertRaised, Event, Text
from gateway.status.board import JournalStatus, TaskStatus, UplinkStatus
from gateway.status.formats import SPACE
from gateway.status.health import Alerts
from gateway.status.sentences import SENTENCES, aged, say
from gateway.supervise import LinkState, LinkStatus
from tests.manual_clock import ManualClock

ZONE = "Europe/Paris"


class Ledger:
    """What was emitted, and the clock it was emitted by."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.clock = ManualClock()
        self.alerts = Alerts(self.events.append, self.clock, ZONE)

    def types(self) -> list[str]:
        return [event.type for event in self.events]

    def link(self, kind: str = "device", **changes: Any) -> LinkStatus:
        name = "press_plc" if kind == "device" else "erp"
        link = LinkStatus(name, kind, "OPC UA 10.0.4.11:4840", LinkState.CONNECTED, self.clock.now())
        return replace(link, **changes)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_raised_once_and_cleared_once(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.alerts.raise_("x", "warning", Text("a", "b"), Text("c", "d"), "press-07", "detail")
    ledger.alerts.clear("x")
    ledger.alerts.clear("x")
    raised, cleared = ledger.events
    assert isinstance(raised, AlertRaised)
    assert (raised.alert, raised.severity, raised.text, raised.remedy, raised.work_unit) == (
        "x", "warning", Text("a", "b"), Text("c", "d"), "press-07",
    )  # fmt: skip
    assert isinstance(cleared, AlertCleared)
    assert cleared.alert == "x"
    assert ledger.alerts.active() == ()


def test_a_worse_severity_is_a_transition(ledger: Ledger) -> None:
    ledger.alerts.raise_("x", "info", Text("a", "a"), Text("", ""))
    ledger.alerts.raise_("x", "critical", Text("a", "a"), Text("", ""))
    assert ledger.types() == ["alert.raised", "alert.raised"]
    with pytest.raises(ValueError, match="severity is one of"):
        ledger.alerts.raise_("y", "loud", Text("a", "a"), Text("", ""))


def test_what_others_told_the_ledger_is_shown_and_not_repeated(ledger: Ledger) -> None:
    at = ledger.clock.now()
    glitch = AlertRaised(
        work_unit="press-07", at=at, alert="counter.glitch:parts", severity="warning", text=Text("x", "y"), remedy=Text("", "")
    )
    ledger.alerts.observe(glitch)
    assert [alert.key for alert in ledger.alerts.active()] == ["counter.glitch:parts"]
    ledger.alerts.observe(
        AlertCleared(work_unit="press-07", at=at, alert="counter.glitch:parts", severity="warning", text=glitch.text, remedy=glitch.remedy)
    )
    assert ledger.alerts.active() == ()
    assert ledger.events == []


def test_active_is_worst_first_then_oldest(ledger: Ledger) -> None:
    now = ledger.clock.now()
    for key, severity, minutes in (("a", "info", 9), ("b", "critical", 1), ("c", "warning", 2), ("d", "warning", 5)):
        ledger.alerts.raise_(key, severity, Text("", ""), Text("", ""), since=now - timedelta(minutes=minutes))
    assert [alert.key for alert in ledger.alerts.active()] == ["b", "d", "c", "a"]


def test_what_stood_before_a_restart_and_is_not_told_again_is_cleared_in_the_ledger(ledger: Ledger) -> None:
    since = ledger.clock.now() - timedelta(hours=3)
    ledger.alerts.raise_(
        "link.lost:press_plc", "critical", Text("vue il y a {age}", "seen {age} ago"), Text("c", "d"), "press-07", since=since
    )
    ledger.alerts.raise_("over", "info", Text("", ""), Text("", ""))
    ledger.alerts.raise_("device.insecure:press_plc", "warning", Text("", ""), Text("", ""))
    early = ledger.alerts.snapshot()
    assert ledger.alerts.snapshot() is early, "a commit that changes no alert has nothing to write"
    ledger.alerts.clear("over")
    assert ledger.alerts.snapshot() != early
    ledger.alerts.observe(
        AlertRaised(
            work_unit="press-07", at=since, alert="counter.glitch:parts", severity="info", text=Text("", ""), remedy=Text("", ""), detail=""
        )
    )
    kept, before = ledger.alerts.snapshot(), len(ledger.events)
    after = Alerts(ledger.events.append, ledger.clock, ZONE)
    after.end_earlier(None)
    after.raise_("device.insecure:press_plc", "warning", Text("", ""), Text("", ""))
    after.end_earlier(kept)
    again, cleared = ledger.events[before:]
    assert isinstance(again, AlertRaised)
    assert isinstance(cleared, AlertCleared)
    assert (cleared.alert, cleared.severity, cleared.work_unit) == ("link.lost:press_plc", "critical", "press-07")
    assert "3" in cleared.text.en, "its age went on"
    assert [alert.key for alert in after.active()] == ["device.insecure:press_plc"]


async def test_a_device_is_missed_at_once_an_uplink_after_ten_seconds(ledger: Ledger) -> None:
    down: dict[str, Any] = {"state": LinkState.DISCONNECTED, "attempt": 1, "error": "timeout"}
    links = [ledger.link(**down), ledger.link("uplink", **down)]
    ledger.alerts.watch_links(links, {"press_plc": "press-07"})
    assert [alert.key for alert in ledger.alerts.active()] == ["link.lost:press_plc"]
    assert ledger.alerts.active()[0].text.fr == "press-07 non vue depuis {age}."
    assert ledger.alerts.active()[0].work_unit == "press-07"
    await ledger.clock.advance(10)
    ledger.alerts.watch_links(links, {"press_plc": "press-07"})
    erp = ledger.alerts.active()[1]
    assert (erp.key, erp.severity) == ("link.lost:erp", "warning")
    assert "rien n’est perdu" in erp.text.fr
    ledger.alerts.watch_links([ledger.link(), ledger.link("uplink")], {"press_plc": "press-07"})
    assert ledger.alerts.active() == ()
    assert ledger.types() == ["alert.raised", "alert.raised", "alert.cleared", "alert.cleared"]


async def test_nothing_is_called_saved_while_nothing_is_recorded(ledger: Ledger) -> None:
    link = ledger.link("uplink", state=LinkState.DISCONNECTED, attempt=3)
    await ledger.clock.advance(60)
    ledger.alerts.watch_links([link], {}, saved=False)
    assert "perdu" not in ledger.alerts.active()[0].text.fr
    event = ledger.events[0]
    assert isinstance(event, AlertRaised)
    assert event.text.fr == f"erp muet depuis 1{SPACE}min."


def test_a_link_that_is_only_just_being_opened_is_not_lost(ledger: Ledger) -> None:
    ledger.alerts.watch_links([ledger.link(state=LinkState.CONNECTING), ledger.link(state=LinkState.DISCONNECTED)], {})
    assert ledger.events == []


def test_silence_and_refused_tags_have_their_own_words(ledger: Ledger) -> None:
    ledger.alerts.watch_links([ledger.link(state=LinkState.SILENT, remedy=Text("r", "s"))], {})
    assert "n’envoie rien" in ledger.alerts.active()[0].text.fr
    assert ledger.alerts.active()[0].remedy == Text("r", "s")
    refused = ledger.link(state=LinkState.DEGRADED, refused_tags=("bore",), refusals={"bore": "BadIndexRangeNoData: no index 7"})
    ledger.alerts.watch_links([refused], {"press_plc": "press-07"})
    (alert,) = ledger.alerts.active()
    assert alert.text.en == "press-07: bore unknown."
    assert "`index`" in alert.remedy.fr
    assert alert.detail == "bore: BadIndexRangeNoData: no index 7"
    assert ledger.types() == ["alert.raised", "alert.cleared", "alert.raised"]


def test_many_refused_tags_are_counted_and_what_to_do_is_said_for_each(ledger: Ledger) -> None:
    why = {f"tag{number:03}": "BadTypeMismatch: a bit" if number % 2 else "BadNodeIdUnknown" for number in range(400)}
    ledger.alerts.watch_links([ledger.link(state=LinkState.DEGRADED, refused_tags=tuple(why), refusals=why)], {})
    (alert,) = ledger.alerts.active()
    assert alert.text.en == "press_plc: tag000, tag001, tag002, tag003, tag004… (400) unknown."
    assert "for each" in alert.remedy.en
    assert alert.detail.startswith("tag000: BadNodeIdUnknown; tag001: BadTypeMismatch: a bit; ")
    assert len(alert.detail) < 2000


def test_what_a_driver_notices_beside_its_link_is_an_alert_until_it_is_gone(ledger: Ledger) -> None:
    clock = Concern("warning", "L’horloge avance.", "The clock is ahead.", "La régler.", "Set it.", "offset 3600 s")
    ledger.alerts.watch_links([ledger.link(state=LinkState.CONNECTED, concerns={"clock": clock})], {"press_plc": "press-07"})
    (alert,) = ledger.alerts.active()
    assert (alert.key, alert.severity, alert.work_unit) == ("concern.clock:press_plc", "warning", "press-07")
    assert (alert.text.fr, alert.remedy.en, alert.detail) == ("L’horloge avance.", "Set it.", "offset 3600 s")
    ledger.alerts.watch_links([ledger.link(state=LinkState.CONNECTED)], {"press_plc": "press-07"})
    assert ledger.alerts.active() == ()


def test_parked_rows_and_a_filling_journal(ledger: Ledger) -> None:
    ledger.alerts.watch_uplinks([UplinkStatus("erp", "http", 1, 100, None, 2)])
    assert ledger.alerts.active()[0].text.en == "erp refuses 2 report(s)."
    ledger.alerts.watch_uplinks([UplinkStatus("erp", "http", 0, 0)])
    assert ledger.alerts.active() == ()
    ledger.events.clear()

    def filled(share: int) -> list[tuple[str, str]]:
        ledger.alerts.watch_journal(JournalStatus(share, 100, hours_left=9.4))
        return [(alert.key, alert.severity) for alert in ledger.alerts.active()]

    assert filled(79) == []
    assert filled(80) == [("journal.filling", "info")]
    assert filled(91) == [("journal.filling", "warning")]
    assert ledger.alerts.active()[0].text == Text("Journal plein à 91 %, reste 9 h.", "Journal 91% full, 9 h left.")
    assert filled(96) == [("journal.filling", "critical")]
    assert filled(79) == [("journal.filling", "info")]
    assert filled(77) == []
    assert ledger.types() == ["alert.raised"] * 4 + ["alert.cleared"]


@pytest.mark.parametrize(
    ("journal", "key"),
    [
        (JournalStatus(1, 100, "read_only"), "disk.blocked"),
        (JournalStatus(1, 100, "full"), "disk.blocked"),
        (JournalStatus(1, 100, committing=False), "disk.blocked"),
        (JournalStatus(1, 100, "low"), "disk.low"),
    ],
)
def test_the_disk(ledger: Ledger, journal: JournalStatus, key: str) -> None:
    ledger.alerts.watch_journal(journal)
    assert [alert.key for alert in ledger.alerts.active()] == [key]
    ledger.alerts.watch_journal(JournalStatus(1, 100))
    assert ledger.alerts.active() == ()


def test_sentences_speak_both_languages_and_fill_every_placeholder() -> None:
    said = say(
        "counter_glitch",
        ZONE,
        {"unit": "Presse 4", "count": 9400, "gap": timedelta(seconds=2), "tag": "parts", "previous": 1, "value": 9401},
    )
    assert said.text.fr == f"Presse 4 : +9\u202f400 pièces en 2{SPACE}s, non comptées."
    assert said.text.en == f"Presse 4: +9,400 pieces in 2{SPACE}s, not counted."
    assert said.detail == "glitch parts 1→9401"
    assert len(SENTENCES) >= 16
    for sentence in SENTENCES.values():
        assert sentence.text.fr != sentence.text.en
    with pytest.raises(KeyError):
        say("no_such_sentence", ZONE, {})


def test_braces_of_foreign_text_are_left_alone() -> None:
    clock = ManualClock()
    text = Text('{"a": 1} depuis {age}', "{age}")
    assert aged(text, clock.now() - timedelta(minutes=11), clock.now(), ZONE).fr == f'{{"a": 1}} depuis 11{SPACE}min'


def test_a_peer_that_is_connected_and_confirms_nothing_is_told_after_a_minute(ledger: Ledger) -> None:
    oldest = ledger.clock.now()

    def look(after_s: float, **changes: Any) -> tuple[str, ...]:
        ledger.clock.step_wall(after_s)
        links = {"erp": ledger.link("uplink", since=oldest) if "link" not in changes else changes.pop("link")}
        ledger.alerts.watch_uplinks([UplinkStatus("erp", "http", 5, 500, changes.get("oldest_at", oldest))], links)
        return tuple(alert.key for alert in ledger.alerts.active())

    assert look(0) == look(59) == ()
    assert look(2) == ("consumer.mute:erp",)
    assert ledger.alerts.active()[0].since == oldest
    assert look(1, oldest_at=oldest + timedelta(seconds=1)) == ()  # it moves on, if slowly
    assert look(50, oldest_at=oldest + timedelta(seconds=2)) == ()
    assert look(61, oldest_at=oldest + timedelta(seconds=2)) == ("consumer.mute:erp",)
    down = ledger.link("uplink", state=LinkState.DISCONNECTED, attempt=2, since=ledger.clock.now())
    assert look(1, link=down, oldest_at=oldest + timedelta(seconds=2)) == ()  # the lost link has its own alert


def test_dropped_telemetry_is_told_for_a_minute_after_the_last_drop(ledger: Ledger) -> None:
    def look(dropped: int) -> tuple[str, ...]:
        ledger.alerts.watch_uplinks([UplinkStatus("plant", "mqtt", 0, 0, dropped=dropped)])
        ledger.alerts.watch_journal(JournalStatus(1, 100, dropped=dropped))
        return tuple(alert.key for alert in ledger.alerts.active())

    assert look(0) == ()
    assert look(7) == ("telemetry.dropped:plant", "journal.telemetry")
    ledger.clock.step_wall(59)
    assert len(look(7)) == 2
    assert {alert.severity for alert in ledger.alerts.active()} == {"info"}
    ledger.clock.step_wall(2)
    assert look(7) == ()


def test_a_part_of_the_pipeline_that_hangs_is_critical(ledger: Ledger) -> None:
    moved = ledger.clock.now() - timedelta(seconds=25)
    ledger.alerts.watch_tasks([TaskStatus("writer", False, moved), TaskStatus("poller press_plc", True, moved)])
    (alert,) = ledger.alerts.active()
    assert (alert.key, alert.severity, alert.since) == ("task.stalled:writer", "critical", moved)
    assert "25" in aged(alert.text, alert.since, ledger.clock.now(), ZONE).en
    ledger.alerts.watch_tasks([TaskStatus("writer", True, ledger.clock.now())])
    assert ledger.alerts.active() == ()


def test_certificates_are_announced_before_they_end(ledger: Ledger) -> None:
    def standing(**days: float) -> dict[str, str]:
        ends = {which: ledger.clock.now() + timedelta(days=left) for which, left in days.items()}
        links = [ledger.link(certificates=ends), ledger.link(name="other_plc", certificates={"own": ends["own"]})]
        ledger.alerts.watch_links(links, {"press_plc": "press-07"})
        return {alert.key: alert.severity for alert in ledger.alerts.active()}

    assert standing(own=61, server=400, user=70) == {}
    assert standing(own=59, server=13, user=59) == {
        "certificate.server:press_plc": "critical", "certificate.own": "warning", "certificate.user:press_plc": "warning",
    }  # fmt: skip
    server = next(alert for alert in ledger.alerts.active() if alert.key == "certificate.server:press_plc")
    assert server.work_unit == "press-07"
    assert "Le renouveler dans l’automate" in server.remedy.fr
    assert standing(own=13, server=-1, user=59)["certificate.own"] == "critical"
    assert standing(own=1800, server=400, user=400) == {}
    assert ledger.types().count("alert.cleared") == 3


def test_after_the_clock_was_set_back_an_hour_nobody_waits_an_hour_to_be_told(ledger: Ledger) -> None:
    oldest = ledger.clock.now()
    row = UplinkStatus("erp", "http", 5, 500, oldest)
    up = ledger.link("uplink", since=oldest)
    ledger.alerts.watch_uplinks([row], {"erp": up})
    gone = ledger.link("uplink", state=LinkState.DISCONNECTED, attempt=2, error="gone", since=oldest)
    ledger.clock.step_wall(-3600)
    ledger.alerts.watch_links([gone], {})
    assert [alert.key for alert in ledger.alerts.active()] == ["link.lost:erp"]
    ledger.alerts.watch_links([up], {})
    ledger.alerts.watch_uplinks([row], {"erp": up})
    ledger.clock.step_wall(61)
    ledger.alerts.watch_uplinks([row], {"erp": up})
    assert [alert.key for alert in ledger.alerts.active()] == ["consumer.mute:erp"]


def test_a_clock_that_nobody_set_is_critical_until_it_is(ledger: Ledger) -> None:
    ledger.alerts.watch_clock(unset=True)
    [alert] = ledger.alerts.active()
    assert (alert.key, alert.severity) == ("clock.unset", "critical")
    assert "NTP" in alert.remedy.en
    ledger.alerts.watch_clock(unset=False)
    assert ledger.alerts.active() == ()
