"""Words of the report, printed or in a terminal, in both languages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.status.formats import unbroken

_WORDS: Mapping[str, tuple[str, str]] = {
    "report": ("Rapport", "Report"),
    "kind.shift": ("Poste", "Shift"),
    "kind.day": ("Journée", "Day"),
    "kind.job": ("OF", "Order"),
    "revision": ("révision", "revision"),
    "open": ("en cours, chiffres provisoires", "going on, figures are provisional"),
    "known_to": ("connu jusqu’à", "known up to"),
    "printed": ("Imprimé le", "Printed on"),
    "print_hint": ("Imprimer : Ctrl+P", "Print: Ctrl+P"),
    "back": ("Retour à la machine", "Back to the machine"),
    "degraded": ("dégradé", "degraded"),
    "degraded_why": ("temps inconnu ou pièces comptées après coup", "unknown time, or pieces counted afterwards"),
    "orders": ("Ordres (OF)", "Orders"),
    "no_orders": ("Aucun OF pendant ce temps.", "No order in this time."),
    "good": ("bonnes", "good"),
    "scrap": ("rebuts", "scrap"),
    "rework": ("retouches", "rework"),
    "produced": ("produites", "produced"),
    "late": ("comptées après coup", "counted afterwards"),
    "started": ("Début", "Begun"),
    "ended": ("Fin", "Ended"),
    "times": ("Temps", "Time"),
    "kpis": ("Indicateurs", "Figures"),
    "lost": ("Perdu", "Lost"),
    "losses": ("Pertes", "Losses"),
    "total": ("Total", "Total"),
    "stops": ("Arrêts les plus longs", "Longest stops"),
    "no_stops": ("Aucun arrêt.", "No stop."),
    "by_time": ("Arrêts par durée", "Stops by time"),
    "by_count": ("Arrêts par nombre", "Stops by count"),
    "more": ("autres", "others"),
    "cycle": ("Temps de cycle", "Cycle time"),
    "no_cycle": ("Aucun cycle jugé.", "No cycle was judged."),
    "cycle.count": ("pièces", "pieces"),
    "cycle.mean_s": ("moyenne", "mean"),
    "cycle.best_s": ("meilleur tenu", "best held"),
    "quality": ("Qualité", "Quality"),
    "checks": ("contrôles", "checks"),
    "failed": ("non conformes", "failed"),
    "tail": (
        "L’inconnu n’est pas un arrêt. « – » : sans objet ou non connu.",
        "Unknown time is no stop. “–”: not applicable or not known.",
    ),
    "from": ("de", "from"),
    "to": ("à", "to"),
    "duration": ("Durée", "Duration"),
    "reason": ("Motif", "Reason"),
    "money": ("Coût", "Cost"),
    "scrap_cost": ("rebuts, en plus de leur temps", "scrap, beside its time"),
    "scrap_material_cost": ("dont matière", "of it material"),
    "work_center": ("Ligne", "Work centre"),
    "area": ("Atelier", "Area"),
    "site": ("Site", "Site"),
    "machine": ("Machine", "Machine"),
    # times
    "planned_s": ("tR requis", "tR required (PBT)"),
    "total_s": ("tT total", "tT total"),
    "opening_s": ("tO ouverture", "tO opening (POT)"),
    "run_s": ("tF marche", "tF running (APT)"),
    "net_s": ("tN net", "tN net (PRI × PQ)"),
    "useful_s": ("tU utile", "tU useful (PRI × GQ)"),
    "setup_s": ("changement", "set-up (AUST)"),
    "stop_s": ("arrêts", "stops (ADET + ADOT)"),
    "micro_stop_s": ("micro-arrêts", "micro-stops"),
    "slow_s": ("lenteur", "slow cycles"),
    "unknown_s": ("inconnu", "unknown"),
    # figures
    "oee": ("TRS", "OEE"),
    "availability": ("Disponibilité Do", "Availability"),
    "effectiveness": ("Performance Tp", "Effectiveness"),
    "quality_ratio": ("Qualité Tq", "Quality ratio"),
    "trg": ("TRG", "TRG (tU / tO)"),
    "tre": ("TRE", "TRE (tU / tT)"),
    "nee": ("NEE", "NEE"),
    "setup_ratio": ("Part de changement", "Set-up ratio"),
    "scrap_ratio": ("Taux de rebut", "Scrap ratio"),
    "mtbf_s": ("MTBF", "MTBF"),
    "mttr_s": ("MTTR", "MTTR"),
    "throughput_per_h": ("Débit par heure", "Throughput per hour"),
    # losses
    "loss.own": ("arrêts propres", "own stops"),
    "loss.induced": ("arrêts induits", "induced stops"),
    "loss.no_order": ("sans OF", "no order"),
    "loss.setup": ("changement", "set-up"),
    "loss.unknown": ("inconnu", "unknown"),
    "loss.micro_stops": ("micro-arrêts", "micro-stops"),
    "loss.slow": ("lenteur", "slow cycles"),
    "loss.residual": ("reste de marche", "rest of running"),
    "loss.scrap": ("rebuts", "scrap"),
    "loss.rework": ("retouches", "rework"),
    "kind.availability": ("disponibilité", "availability"),
    "kind.performance": ("performance", "performance"),
    "kind.quality": ("qualité", "quality"),
}


def report_words(language: str) -> Mapping[str, str]:
    """All labels of the report in `language` (fr or en)."""
    return _BY_LANGUAGE[language]


_BY_LANGUAGE: Mapping[str, Mapping[str, str]] = {
    "fr": MappingProxyType({key: unbroken(pair[0]) for key, pair in _WORDS.items()}),
    "en": MappingProxyType({key: pair[1] for key, pair in _WORDS.items()}),
}

TIMES = (
    "total_s", "opening_s", "planned_s", "run_s", "net_s", "useful_s", "setup_s", "stop_s", "micro_stop_s", "slow_s", "unknown_s",
)  # fmt: skip
"""Time elements a report shows, in this order."""
RATIOS = ("oee", "availability", "effectiveness", "quality_ratio", "trg", "tre", "nee", "setup_ratio", "scrap_ratio")
DURATIONS = ("mtbf_s", "mttr_s")
CYCLES = ("mean_s", "p10_s", "p50_s", "p90_s", "best_s")
