"""Numbers, dates and durations of PAGE's two languages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from gateway.status.formats import Formats, unbroken

FR, EN = Formats("fr", "Europe/Paris"), Formats("en", "Europe/Paris")
AT = datetime(2026, 11, 24, 2, 12, 41, tzinfo=UTC)


def test_numbers_group_by_thin_space_and_comma() -> None:
    assert FR.number(12000) == "12\u202f000"
    assert EN.number(12000) == "12,000"
    assert FR.number(Decimal("1342.5"), 1) == "1\u202f342,5"
    assert FR.percent(0.723) == "72,3\u202f%"
    assert EN.percent(0.723) == "72.3%"


def test_unknown_is_a_dash_and_never_zero() -> None:
    for formats in (FR, EN):
        assert formats.number(None) == formats.percent(None) == formats.minutes(None) == formats.duration(None) == "–"
        assert formats.minutes(0) == "0"
        assert formats.minutes(20) == "<\u00a01"
        assert formats.value(None) == "?"


def test_a_small_negative_number_is_not_minus_zero() -> None:
    assert FR.number(-0.2) == "0"
    assert EN.number(-1.6) == "-2"


@pytest.mark.parametrize(
    ("seconds", "french", "english"),
    [
        (0.4, "0,4 s", "0.4 s"),
        (9.96, "10 s", "10 s"),
        (59.6, "1 min", "1 min"),
        (701, "11 min", "11 min"),
        (3900, "1 h 05", "1 h 05 min"),
        (218 * 3600, "9 j 2 h", "9 d 2 h"),
        (-3, "0,0 s", "0.0 s"),
    ],
)
def test_durations(seconds: float, french: str, english: str) -> None:
    assert FR.duration(seconds).replace("\u00a0", " ") == french
    assert EN.duration(seconds).replace("\u00a0", " ") == english


def test_how_long_something_lasts_is_in_whole_seconds() -> None:
    assert FR.lasted(4.96).replace("\u00a0", " ") == "5 s"
    assert FR.lasted(None) == "–"
    assert EN.lasted(65).replace("\u00a0", " ") == "1 min"


def test_dates_are_the_sites() -> None:
    assert FR.date(AT) == "mar. 24/11/2026"
    assert EN.date(AT) == "Tue 24 Nov 2026"
    assert FR.clock(AT) == "03:12"
    assert FR.iso(AT) == "2026-11-24T03:12:41+01:00"
    assert FR.when(AT + timedelta(days=2), AT) == "jeu. 26/11 03:12"
    assert EN.when(AT + timedelta(minutes=5), AT) == "03:17"


def test_sizes_and_units() -> None:
    assert FR.size(41_000_000).replace("\u00a0", " ") == "41 Mo"
    assert EN.size(2_000_000_000).replace("\u00a0", " ") == "2 GB"
    assert EN.size(1_500_000).replace("\u00a0", " ") == "1.5 MB"
    assert EN.size(12).replace("\u00a0", " ") == "12 B"
    assert EN.unit("KGM") == "kg"
    assert EN.unit("C62") == ""
    assert EN.unit("X9") == "X9"


def test_quantities_keep_their_decimals() -> None:
    assert FR.quantity(Decimal("12.013")) == "12,013"
    assert EN.quantity(Decimal("1.20")) == "1.2"
    assert EN.quantity(8642) == "8,642"


def test_french_signs_do_not_start_a_line() -> None:
    assert unbroken("arrêtée : surcharge ; 5 %") == "arrêtée\u00a0: surcharge\u00a0; 5\u00a0%"
