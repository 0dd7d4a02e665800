"""Counters that exist from the first day, the same on page, `/health` and `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

# When a counter was made says nothing that `lineside_uptime_seconds` does not, and doubles the page.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics of the daemon in one place; parts take the object and use their own.

    Names follow Prometheus habits: `lineside_` prefix, `_total` counters, base units.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._of_devices(self.registry)
        self._of_process(self.registry)
        self._of_journal(self.registry)
        self._of_uplinks(self.registry)

    def _of_devices(self, r: CollectorRegistry) -> None:
        """What comes from the machines."""
        self.readings = Counter("lineside_readings_total", "Readings taken from devices.", ["device", "quality"], registry=r)
        self.polls = Counter("lineside_polls_total", "Polls or publishes handled.", ["device"], registry=r)
        self.reconnects = Counter("lineside_link_reconnects_total", "Connections made after the first.", ["link"], registry=r)
        self.link_up = Gauge("lineside_link_up", "1 while the link is connected.", ["link", "kind"], registry=r)
        self.refused_replies = Counter("lineside_refused_replies_total", "Replies that could not be trusted.", ["device"], registry=r)
        self.device_incidents = Counter(
            "lineside_device_incidents_total",
            "What a driver noticed beside its link: overflow, clock, forgotten, gap, restart, exception_reply, invalid_value.",
            ["device", "kind"],
            registry=r,
        )
        self.refused_peers = Counter(
            "lineside_refused_peers_total", "Servers that this gateway refused, by reason.", ["device", "reason"], registry=r
        )
        self.samples_late = Counter(
            "lineside_samples_late_total", "Samples older than the one before, set to its time.", ["work_unit"], registry=r
        )
        self.recording_gaps = Counter(
            "lineside_recording_gaps_total", "Gaps in recordings whose reader was too slow (`lineside record`).", registry=r
        )
        self.orders_written = Counter(
            "lineside_orders_written_total", "Orders written to the machine.", ["work_unit", "outcome"], registry=r
        )
        self.pieces = Counter(
            "lineside_pieces_total",
            "Pieces counted; what a correction takes away later is not subtracted.",
            ["work_unit", "kind"],
            registry=r,
        )

    def _of_process(self, r: CollectorRegistry) -> None:
        """The process, its clock, and who asks it."""
        ProcessCollector(registry=r)
        self.threads = Gauge("lineside_threads", "Threads of the process.", registry=r)
        self.tasks = Gauge("lineside_tasks", "Tasks of the event loop; a number that only grows is a leak.", registry=r)
        self.loop_lag = Histogram(
            "lineside_loop_lag_seconds", "How late the event loop ran what was due, looked at ten times a second.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0), registry=r,
        )  # fmt: skip
        self.clock_steps = Counter("lineside_clock_steps_total", "How often the wall clock was set by a second or more.", registry=r)
        self.unseen = Counter(
            "lineside_unseen_seconds_total", "Time in which this process did not run: the machine slept, or it was stopped.", registry=r
        )
        self.past_unreadable = Counter(
            "lineside_past_unreadable_total", "Reports and lists of the past that the journal did not answer.", registry=r
        )
        self.questions_unanswered = Counter(
            "lineside_questions_unanswered_total", "Questions to the plan that came too many at once or took too long.", registry=r
        )

    def _of_journal(self, r: CollectorRegistry) -> None:
        """The journal."""
        self.events = Counter("lineside_events_total", "Ledger events recorded.", ["type"], registry=r)
        self.commits = Counter("lineside_commits_total", "Journal transactions.", registry=r)
        self.commit_failures = Counter(
            "lineside_commit_failures_total", "Journal transactions that failed and are tried again.", registry=r
        )
        self.salvaged = Gauge("lineside_journal_salvaged_rows", "Rows saved from a damaged journal at this start.", ["table"], registry=r)
        self.salvage_lost = Gauge(
            "lineside_journal_lost_rows", "Ledger rows that a damaged journal lost before they were delivered, at this start.", registry=r
        )
        self.journal_checks = Counter(
            "lineside_journal_checks_total", "Checks of the journal's pages while it is in use: sound, damaged, unfinished.",
            ["finding"], registry=r,
        )  # fmt: skip

    def _of_uplinks(self, r: CollectorRegistry) -> None:
        """What goes to peers and comes from them."""
        self.delivered = Counter("lineside_rows_delivered_total", "Rows the peer took.", ["uplink"], registry=r)
        self.resent = Counter("lineside_rows_resent_total", "Rows sent again.", ["uplink"], registry=r)
        self.parked = Counter("lineside_rows_parked_total", "Rows the peer refused for good.", ["uplink"], registry=r)
        self.backlog = Gauge("lineside_backlog_rows", "Ledger rows waiting.", ["uplink"], registry=r)
        self.telemetry_dropped = Counter("lineside_telemetry_dropped_total", "Telemetry dropped, oldest first.", ["uplink"], registry=r)
        self.commands = Counter("lineside_commands_total", "Commands by outcome.", ["uplink", "outcome"], registry=r)
        self.uplink_incidents = Counter(
            "lineside_uplink_incidents_total",
            "What a broker did beside refusing a row: unknown_ack, ack_overdue, subscription_refused, live_refused, closed_over_message, "
            "answer_withheld, early_ack.",
            ["uplink", "kind"],
            registry=r,
        )
        self.erp_bookings = Counter(
            "lineside_erp_bookings_total",
            "Postings to an ERP by how they ended: booked, retry, blocked, refused; dropped: quality results given up.",
            ["uplink", "standing"], registry=r,
        )  # fmt: skip
