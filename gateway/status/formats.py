"""Numbers, dates and durations as the shop floor of each language writes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

LANGUAGES = ("fr", "en")
THIN = "\u202f"
"""Narrow no-break space: groups of three digits in French."""
SPACE = "\u00a0"
"""No-break space: between a number and its unit."""
DASH = "–"
"""Not applicable: never 0."""

_DAYS = {"fr": ("lun.", "mar.", "mer.", "jeu.", "ven.", "sam.", "dim."), "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNITS = {
    "KGM": "kg",
    "GRM": "g",
    "TNE": "t",
    "MMT": "mm",
    "MTR": "m",
    "CEL": "°C",
    "SEC": "s",
    "BAR": "bar",
    "KWH": "kWh",
    "LTR": "L",
    "P1": "%",
}


def unbroken(french: str) -> str:
    """French sets a space before `:` `;` `?` `!` and `%`; a line never breaks there."""
    for sign in ":;?!%":
        french = french.replace(f" {sign}", f"{SPACE}{sign}")
    return french


@dataclass(frozen=True)
class Formats:
    """`language` fr or en; `zone` the site's IANA time zone."""

    language: str
    zone: str

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    @property
    def french(self) -> bool:
        return self.language == "fr"

    def local(self, at: datetime) -> datetime:
        return at.astimezone(self._zone)

    def number(self, value: float | Decimal | None, digits: int = 0) -> str:
        """12 000 / 12,000; half to even; `–` for None."""
        if value is None:
            return DASH
        text = f"{Decimal(str(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN):,f}"
        if text.lstrip("-0.,") == "":
            text = text.lstrip("-")
        return text.replace(",", THIN).replace(".", ",") if self.french else text

    def quantity(self, value: Decimal | float | None) -> str:
        """As many decimals as the value has, at most three."""
        if value is None:
            return DASH
        exponent = Decimal(str(value)).normalize().as_tuple().exponent
        return self.number(value, min(max(-exponent, 0), 3) if isinstance(exponent, int) else 0)

    def percent(self, ratio: float | Decimal | None, digits: int = 1) -> str:
        """0.723 -> 72,3 % / 72.3%."""
        if ratio is None:
            return DASH
        return self.number(Decimal(str(ratio)) * 100, digits) + (f"{THIN}%" if self.french else "%")

    def minutes(self, seconds: float | None) -> str:
        """Whole minutes; 0 only where nothing was measured, `< 1` where it was less than one."""
        if seconds is None:
            return DASH
        whole = round(seconds / 60)
        return f"<{SPACE}1" if whole == 0 and seconds > 0 else self.number(whole)

    def duration(self, seconds: float | None) -> str:
        """0,4 s; 40 s; 11 min; 1 h 05 (en: 1 h 05 min); 9 j 2 h (en: 9 d 2 h)."""
        if seconds is None:
            return DASH
        seconds = max(seconds, 0.0)
        if seconds < 9.95:
            return f"{self.number(seconds, 1)}{SPACE}s"
        if seconds < 59.5:
            return f"{round(seconds)}{SPACE}s"
        if seconds < 3600:
            return f"{int(seconds // 60) or 1}{SPACE}min"
        hours, minutes = divmod(int(seconds // 60), 60)
        if hours >= 48:
            return f"{self.number(hours // 24)}{SPACE}{'j' if self.french else 'd'} {hours % 24}{SPACE}h"
        return f"{hours}{SPACE}h{SPACE}{minutes:02d}" + ("" if self.french else f"{SPACE}min")

    def lasted(self, seconds: float | None) -> str:
        """A duration in whole seconds: how long something has been so, not how old a reading is."""
        return self.duration(seconds) if seconds is None or seconds >= 59.5 else f"{round(max(seconds, 0.0))}{SPACE}s"

    def since(self, at: datetime, now: datetime) -> str:
        return self.lasted((now - at).total_seconds())

    def age(self, at: datetime | None, now: datetime) -> str:
        return DASH if at is None else self.duration((now - at).total_seconds())

    def clock(self, at: datetime | None) -> str:
        """24 h, site zone: 03:12."""
        return DASH if at is None else self.local(at).strftime("%H:%M")

    def clock_seconds(self, at: datetime | None) -> str:
        return DASH if at is None else self.local(at).strftime("%H:%M:%S")

    def date(self, at: datetime) -> str:
        """mar. 24/11/2026 / Tue 24 Nov 2026."""
        local = self.local(at)
        day = _DAYS[self.language][local.weekday()]
        return f"{day} {local:%d/%m/%Y}" if self.french else f"{day} {local.day} {_MONTHS[local.month - 1]} {local.year}"

    def when(self, at: datetime | None, now: datetime) -> str:
        """The time alone on the same day, else with its day: `jeu. 26/11 06:28`."""
        if at is None:
            return DASH
        local = self.local(at)
        if local.date() == self.local(now).date():
            return self.clock(at)
        day = _DAYS[self.language][local.weekday()]
        return f"{day} {local:%d/%m %H:%M}" if self.french else f"{day} {local.day} {_MONTHS[local.month - 1]} {local:%H:%M}"

    def iso(self, at: datetime | None) -> str:
        """For expert lines: ISO 8601 with the site's offset."""
        return "null" if at is None else self.local(at).isoformat(timespec="seconds")

    def size(self, size: int) -> str:
        """Decimal multiples, octets in French: 41 Mo / 41 MB."""
        letter = "o" if self.french else "B"
        for limit, prefix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
            if size >= limit:
                value = size / limit
                return f"{self.number(value, 1 if value < 10 and size % limit else 0)}{SPACE}{prefix}{letter}"
        return f"{size}{SPACE}{letter}"

    def unit(self, code: str | None) -> str:
        """UN/ECE Rec 20 code as people write it; pieces (C62) need no unit, an unknown code stays as it is."""
        return "" if code in (None, "C62") else _UNITS.get(str(code), str(code))

    def value(self, value: Any) -> str:
        """A tag's value: numbers formatted, true and false as 1 and 0, text as it is; `?` where unknown."""
        if value is None:
            return "?"
        if isinstance(value, bool):
            return "1" if value else "0"
        return self.quantity(value) if isinstance(value, int | float | Decimal) else str(value)
