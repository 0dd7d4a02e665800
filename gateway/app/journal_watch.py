"""What page, alerts and metrics say of the journal itself: that it was damaged, cut, restored, and what the check of its pages found."""

from __future__ import annotations

from gateway.domain.events import Text
from gateway.metrics import Metrics
from gateway.outbox.checking import Finding
from gateway.outbox.exchange import LATEST, Thinned
from gateway.outbox.store import Store
from gateway.status.health import Alerts

_KEEP = Text(
    "Prévenir l'informatique : garder les fichiers mis de côté, contrôler le disque.",
    "Tell IT: keep the files that were moved aside, check the disk.",
)


def tell_origin(store: Store, alerts: Alerts, metrics: Metrics) -> None:
    """At the start: why this journal begins a new epoch."""
    saved, lost = store.salvaged, 0
    if saved is not None:
        lost = saved.lost
        for table, count in saved.rows.items():
            metrics.salvaged.labels(table).set(count)
        metrics.salvage_lost.set(lost)
    if store.origin == "salvaged":
        count = saved.rows.get("journal", 0) if saved is not None else 0
        rest = Text("", "")
        if saved is not None and not saved.complete:
            rest = Text(" Tout n'a pas pu être lu à temps.", " Not everything could be read in time.")
        older = _older(store.thinned)
        told = Text(
            f"Le journal était endommagé ; {count} lignes sauvées dans un nouveau, {lost} en attente d'envoi perdues.{rest.fr}",
            f"The journal was damaged; {count} rows were saved into a new one, {lost} that waited to be sent are lost.{rest.en}",
        )
        if saved is None or not saved.rows:
            told = Text(
                "Le journal était endommagé ; un démarrage précédent a sauvé dans un nouveau ce qui se lisait.",
                "The journal was damaged; an earlier start saved what could be read into a new one.",
            )
        alerts.raise_(
            "journal.damaged", "critical",
            Text(told.fr + older.fr, told.en + older.en),
            _KEEP, detail=str(store.moved_aside or ""),
        )  # fmt: skip
    elif store.origin == "log_lost":
        alerts.raise_(
            "journal.damaged", "critical",
            Text(
                "La fin du journal était endommagée ou effacée ; les dernières secondes peuvent manquer ou être recomptées.",
                "The end of the journal was damaged or deleted; the last seconds may be missing or be counted again.",
            ),
            Text(
                "Prévenir l'informatique : contrôler le disque, ne jamais effacer ni copier journal.db-wal.",
                "Tell IT: check the disk, never delete or copy journal.db-wal.",
            ),
            detail=f"epoch {store.epoch}",
        )  # fmt: skip
    elif store.origin == "restored":
        alerts.raise_(
            "journal.restored", "warning",
            Text(
                "Le journal vient d'une sauvegarde : ce qui a été produit depuis est recompté et marqué tardif.",
                "The journal comes from a backup: what was made since then is counted again and marked late.",
            ),
            Text(
                "Comparer les quantités de cette période avec l'ERP et le MES.",
                "Compare this period's quantities with the ERP and the MES.",
            ),
            detail=f"epoch {store.epoch}",
        )  # fmt: skip


def _older(thinned: Thinned) -> Text:
    """What became of journals that were damaged before this one."""
    if not thinned.removed and thinned.kept <= LATEST + 1:
        return Text("", "")
    megabytes = round(thinned.bytes / 1e6)
    kept = Text(
        f" {thinned.kept} journaux endommagés ({megabytes} Mo) sont gardés : le disque est à remplacer.",
        f" {thinned.kept} damaged journals ({megabytes} MB) are kept: the disk is to be replaced.",
    )
    if not thinned.removed:
        return kept
    names = ", ".join(thinned.removed)
    return Text(f" De plus anciens, lus jusqu'au bout, ont été supprimés ({names}).{kept.fr}",
                f" Older ones that had been read to their end were removed ({names}).{kept.en}")  # fmt: skip


def tell_finding(finding: Finding, said: str, alerts: Alerts, metrics: Metrics) -> None:
    """Of the check while the gateway runs."""
    metrics.journal_checks.labels(finding.value).inc()
    if finding is Finding.DAMAGED:
        alerts.raise_(
            "journal.damaged", "critical",
            Text("Le journal est endommagé sur le disque.", "The journal is damaged on the disk."),
            Text(
                "Redémarrer lineside à un moment calme : ce qui est lisible sera sauvé. Faire contrôler le disque.",
                "Restart lineside at a quiet moment: what can be read will be saved. Have the disk checked.",
            ),
            detail=said[:200],
        )  # fmt: skip
