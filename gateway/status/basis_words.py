"""The basis of a promise in French: the core says it in English, in few phrases."""

from __future__ import annotations

import re

_PHRASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), french)
    for pattern, french in (
        (r"no quantity ordered", "aucune quantité commandée"),
        (r"quantity reached", "quantité atteinte"),
        (r"(?P<n>[\d,.]+) good/h observed over (?P<n2>[\d,.]+) (?P<unit>min|h)", "{n} bonnes/h observées en {n2} {unit}"),
        (r"no rate observed yet and no ideal time", "ni cadence observée ni temps idéal"),
        (
            r"ideal (?P<n>\S+) s/piece x (?P<n2>\S+) likely, x (?P<n3>\S+) safe: too little observed yet",
            "temps idéal {n} s × {n2} probable, × {n3} prudent, trop peu observé",
        ),
        (r"overtaken by (?P<job>\S+) and (?P<n>\d+) more;", "dépassé par {job} et {n} de plus ;"),
        (r"overtaken by (?P<job>\S+);", "dépassé par {job} ;"),
        (r"after (?P<job>\S+);", "après {job} ;"),
        (r"(?P<job>\S+) before it has no end date", "{job}, avant lui, n’a pas de fin connue"),
        (r"; the calendar holds too little required time", " ; le calendrier ne contient pas assez de temps requis"),
        (r"(?P<n>\d+) x break", "{n} pauses"),
        (r"(?P<n>\d+) x planned maintenance", "{n} maintenances prévues"),
        (r"break at (?P<clock>\d\d:\d\d)", "pause de {clock}"),
        (r"planned maintenance at (?P<clock>\d\d:\d\d)", "maintenance de {clock}"),
        (r"(?P<n>[\d,.]+) (?P<unit>min|h) without shift", "{n} {unit} sans poste"),
        (r"; (?P<pauses>[^;]*) included$", " ; compris : {pauses}"),
        (r" and ", " et "),
    )
)
"""Names beginning with n are numbers; in this order, since the later ones cut across what the earlier ones made."""


def basis_words(basis: str, language: str) -> str:
    """`basis` in `language`; a phrase that is not known stays as the core said it."""
    if language == "fr":
        for pattern, french in _PHRASES:
            basis = pattern.sub(lambda match, french=french: french.format(**_numbers(match.groupdict())), basis)  # type: ignore[misc]
    return basis


def _numbers(found: dict[str, str]) -> dict[str, str]:
    return {name: _french(text) if name.startswith("n") else text for name, text in found.items()}


def _french(number: str) -> str:
    return number.replace(",", "\u202f").replace(".", ",")
