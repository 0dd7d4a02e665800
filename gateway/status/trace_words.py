"""A trace in words, line by line, for terminal and page alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from gateway.domain.events import Text
from gateway.domain.instants import moment
from gateway.domain.trace import Trace, TracedLot, TracedSerial
from gateway.status.formats import Formats
from gateway.status.words import words

ROLES = {
    "product_lot": Text("lot produit", "produced lot"),
    "material_lot": Text("lot matière", "material lot"),
    "serial": Text("numéro de série", "serial number"),
    "job_order": Text("OF", "job order"),
    "order": Text("commande de production", "production order"),
}
PARTS = {
    "made": Text("Produit", "Made"),
    "used_in": Text("Consommé dans", "Used in"),
    "made_of": Text("Ses lots, produits ici", "Its lots, made here"),
    "went_into": Text("Puis parti dans", "Then went into"),
}
_MODES = {
    "backflush": Text("nomenclature", "by the bill of material"),
    "measured": Text("mesuré", "measured"),
    "declared": Text("déclaré", "declared"),
    "loaded": Text("chargé, non compté", "loaded, not counted"),
}
_STATES = {
    "run": Text("marche", "run"), "stop": Text("arrêts", "stops"), "setup": Text("réglage", "set-up"),
    "planned": Text("prévu", "planned"), "no_order": Text("sans OF", "no order"), "unknown": Text("inconnu", "unknown"),
}  # fmt: skip


class _Teller:
    def __init__(self, language: str, formats: Formats) -> None:
        self._french = language == "fr"
        self._formats = formats
        self._words = words(language)

    def say(self, text: Text) -> str:
        return text.fr if self._french else text.en

    def at(self, at: datetime) -> str:
        """With its year: it is read after a long time."""
        return f"{self._formats.local(at):%Y-%m-%d %H:%M}"

    def head(self, trace: Trace) -> str:
        return f"{trace.name}: {', '.join(self.say(ROLES[role]) for role in trace.found_as)}"

    def lot(self, lot: TracedLot, only: str | None) -> Iterator[str]:
        """`only`: of its materials, this lot alone is of interest."""
        row, say = lot.row, self.say
        name = row.product_lot_id or say(Text("sans lot", "no lot"))
        yield f"{name} · {lot.work_unit} · {self.at(moment(row.first))} – {self.at(moment(row.last))}"
        yield from self._order(lot)
        good, scrap, rework = (self._formats.quantity(q) for q in (row.good, row.scrap, row.rework))
        yield say(Text(f"  bonnes {good}, rebut {scrap}, retouche {rework}", f"  good {good}, scrap {scrap}, rework {rework}"))
        for link in row.links.values():
            if only is not None and link.lot_id != only:
                continue
            lot_id = link.lot_id or say(Text("lot inconnu", "lot unknown"))
            how = say(_MODES.get(link.mode, Text(link.mode, link.mode)))
            much = "" if link.mode == "loaded" else f" {_plain(link.quantity)} {link.unit or ''}".rstrip()
            yield f"  {say(Text('matière', 'material'))} {link.material_id} · {lot_id}{much} ({how})"
        for name, tally in row.quality.items():
            said = tally.summary()
            limits = " … ".join(_plain(said[key]) if said[key] is not None else "" for key in ("lower", "upper")).strip()
            asked = f" [{said['required_by']}]" if said["required_by"] else ""
            failed = say(Text(f"{tally.failed} hors limites", f"{tally.failed} failed"))
            span = f"{_plain(said['min'])} … {_plain(said['max'])}" if tally.count else "–"
            what = say(Text("contrôle", "check"))
            yield f"  {what} {name}{asked}: {tally.count} ({failed}), {span} ({limits}) {said['unit'] or ''}".rstrip()
        if lot.states.spent:
            spent = ", ".join(
                f"{say(_STATES.get(kind, Text(kind, kind)))} {self._formats.duration(time / 1e6)}"
                for kind, time in lot.states.spent.items()
            )
            yield f"  {spent}"
        for stop in lot.states.stops:
            reason = stop.reason or self._words["no_reason"]
            lasted = self._formats.duration(((stop.end or row.last) - stop.start) / 1e6)
            yield f"    {say(Text('arrêt', 'stop'))} {self.at(moment(stop.start))}, {lasted}, {reason}"

    def _order(self, lot: TracedLot) -> Iterator[str]:
        row, order, say = lot.row, lot.row.order, self.say
        if row.job_order_id is None:
            yield say(Text("  sans OF", "  no order"))
            return
        parts = [f"OF {row.job_order_id}" if self._french else f"order {row.job_order_id}"]
        parts += [str(order[key]) for key in ("order_id", "product_id") if order.get(key)]
        bought = " ".join(str(order[key]) for key in ("customer", "order_number", "order_line") if order.get(key))
        if bought:
            parts.append(f"{say(Text('client', 'customer'))} {bought}")
        yield f"  {' · '.join(parts)}"

    def serial(self, serial: TracedSerial) -> str:
        body = serial.body
        lots = ", ".join(f"{material} {lot}" for material, lot in body["materials"]) or "–"
        made_at = self.at(datetime.fromisoformat(body["at"]))
        return f"  {body['serial']} · {serial.work_unit} · {made_at} · {body['job_order_id'] or '–'} · {lots}"


def trace_sections(trace: Trace, language: str, formats: Formats) -> tuple[str, list[tuple[str, Sequence[str]]]]:
    """The head line, and (title, lines) of each part that has something to say."""
    teller = _Teller(language, formats)
    sections: list[tuple[str, Sequence[str]]] = []
    for part, title in PARTS.items():
        only = trace.name if part == "used_in" else None
        lines = [line for lot in getattr(trace, part) for line in teller.lot(lot, only)]
        if lines:
            sections.append((teller.say(title), lines))
    if trace.serials:
        sections.append((teller.say(Text("Numéros de série", "Serial numbers")), [teller.serial(one) for one in trace.serials]))
    if trace.limited:
        more = Text("La réponse est plus longue : seules les premières lignes sont là.", "There is more: only the first rows are here.")
        sections.append((teller.say(Text("Suite", "More")), [teller.say(more)]))
    return teller.head(trace), sections


def trace_lines(trace: Trace, language: str, time_zone: str) -> Iterator[str]:
    """For a terminal or a file."""
    head, sections = trace_sections(trace, language, Formats(language, time_zone))
    yield head
    for title, lines in sections:
        yield ""
        yield title
        yield "-" * len(title)
        yield from lines


def _plain(value: Any) -> str:
    """A figure as it was measured, with no digit more."""
    if not isinstance(value, Decimal):
        return str(value)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
