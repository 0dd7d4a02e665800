"""The basis of a promise in French: the core says it in English, in few phrases."""

from __future__ import annotations

import re

_PHRASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), french)
    for pattern, french in (
        (r"no quantity ordered", "aucune quantité commandée"),
        (r"quantity reached", "quantité atteinte"),
        (r"([\d,.]+) good/h observed over ([\d,.]+ (?:min|h))", r"\1 bonnes/h observées en \2"),
        (r"no rate observed yet and no ideal time", "ni cadence observée ni temps idéal"),
        (
            r"ideal (\S+) s/piece x (\S+) likely, x (\S+) safe: too little observed yet",
            r"temps idéal \1 s × \2 probable, × \3 prudent, trop peu observé",
        ),
        (r"after (\S+);", r"après \1 ;"),
        (r"(\S+) before it has no end date", r"\1, avant lui, n’a pas de fin connue"),
        (r"the calendar holds too little required time", "le calendrier ne contient pas assez de temps requis"),
        (r"(\d+) x break", r"\1 pauses"),
        (r"(\d+) x planned maintenance", r"\1 maintenances prévues"),
        (r"break at (\d\d:\d\d)", r"pause de \1"),
        (r"planned maintenance at (\d\d:\d\d)", r"maintenance de \1"),
        (r"([\d,.]+ (?:min|h)) without shift", r"\1 sans poste"),
        (r" and ", " et "),
        (r" included", " compris"),
        (r";", " ;"),
    )
)  # fmt: skip
_GROUP = re.compile(r"(?<=\d),(?=\d{3}\b)")
_POINT = re.compile(r"(?<=\d)\.(?=\d)")


def basis_words(basis: str, language: str) -> str:
    """`basis` in `language`; a phrase that is not known stays as the core said it."""
    if language != "fr":
        return basis
    basis = _POINT.sub("\0", _GROUP.sub("\u202f", basis))
    for pattern, french in _PHRASES:
        basis = pattern.sub(french, basis.replace("\0", ",") if pattern.pattern == ";" else basis)
    return re.sub(r" +;", " ;", basis.replace("\0", ","))
