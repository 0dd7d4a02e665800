"""The `journal:` section of the configuration."""

from __future__ import annotations

from drivers.settings import Duration, Settings, Size

_DAY_S = 86_400.0


class JournalSettings(Settings):
    """How long and how much the journal keeps. Rows that an uplink still waits for are kept whatever these say."""

    retention: Duration = 7 * _DAY_S
    """Ledger rows that every uplink is done with, for `/replay`: a week covers a consumer that was down over a holiday."""
    history: Duration = 400 * _DAY_S
    """Closed windows, stops, jobs and answers: thirteen months, so that a month can be compared with the same of last year."""
    trace: Duration = 10 * 365 * _DAY_S
    """Genealogy of lots and serial numbers: ten years, as long as a product's maker may have to answer for it."""
    max_size: Size = 2 * 10**9
    """Bytes on disk, all together; beyond it telemetry goes first, then retired rows, then history."""
