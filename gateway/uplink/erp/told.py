"""What people hear of an ERP's bookings and of its planners: alerts in both languages, each with its remedy."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.seams import AlertBoard
from gateway.uplink.erp.account import Account
from gateway.uplink.erp.orders import News
from gateway.uplink.erp.port import Standing

ACTS_SHOWN_S = 900.0
"""What a planner did is news for a quarter of an hour; in the journal it stays."""
MOST_NAMED = 20
"""Orders that wait with an alert of their own; when all of an ERP's orders wait there is one reason, not hundreds."""

_LINE = Text(
    "Rien à faire si c'était voulu ; sinon corriger l'ordre dans l'ERP.", "Nothing if it was meant; else correct the order in the ERP."
)
_PLANNER = Text("Voir avec le planificateur ce que l'ordre doit devenir.", "Ask the planner what is to become of the order.")
_ACTS: dict[str, tuple[str, Text, Text]] = {
    "changed": ("info", Text("L'ordre {order} a été modifié dans l'ERP", "Order {order} was changed in the ERP"), _LINE),
    "withdrawn": (
        "info", Text("L'ordre {order} a été remis en attente dans l'ERP", "Order {order} was put back to waiting in the ERP"), _LINE
    ),
    "released_again": (
        "info", Text("L'ordre {order} est de nouveau lancé dans l'ERP", "Order {order} was released again in the ERP"), _LINE
    ),
    "cancelled": (
        "warning", Text("L'ordre {order} a été annulé dans l'ERP", "Order {order} was cancelled in the ERP"), _LINE
    ),
    "closed": (
        "warning", Text("L'ordre {order} a été clos à la main dans l'ERP", "Order {order} was closed by hand in the ERP"), _LINE
    ),
    "moved": ("info", Text("L'ordre {order} a changé de poste dans l'ERP", "Order {order} was moved in the ERP"), _LINE),
    "vanished": ("warning", Text("L'ordre {order} n'existe plus dans l'ERP", "Order {order} is no longer in the ERP"), _LINE),
    "vanished_running": (
        "warning",
        Text("L'ordre {order} n'existe plus dans l'ERP et continue ici", "Order {order} is no longer in the ERP and goes on here"),
        _PLANNER,
    ),
    "cancelled_late": (
        "warning",
        Text("L'ordre {order}, fini ici, a été annulé dans l'ERP", "Order {order}, finished here, was cancelled in the ERP"),
        _PLANNER,
    ),
    "changed_late": (
        "warning",
        Text("L'ordre {order}, fini ici, a été modifié dans l'ERP", "Order {order}, finished here, was changed in the ERP"),
        _PLANNER,
    ),
    "reopened": (
        "warning",
        Text("L'ordre {order}, fini ici, a été rouvert dans l'ERP", "Order {order}, finished here, was opened again in the ERP"),
        Text("Créer un nouvel ordre dans l'ERP pour ce qui reste à faire.", "Make a new order in the ERP for what is left to do."),
    ),
    "refused": (
        "warning",
        Text("L'ordre {order} de l'ERP n'est pas pris", "Order {order} of the ERP is not taken"),
        Text("Corriger l'ordre dans l'ERP ; il est repris dès qu'il change.", "Correct the order in the ERP; it is taken once it changes."),
    ),
    "impossible": (
        "warning",
        Text("La ligne ne peut pas suivre l'ERP pour l'ordre {order}", "The line cannot follow the ERP for order {order}"),
        _PLANNER,
    ),
}  # fmt: skip
_LASTING = frozenset({"refused", "reopened"})
"""These stand until the order changes in the ERP or leaves its list."""
_WAITS = {
    Standing.BLOCKED: Text("{erp} : l'ordre {order} attend une personne : {words}", "{erp}: order {order} waits for a person: {words}"),
    Standing.REFUSED: Text("{erp} refuse l'ordre {order} : {words}", "{erp} refuses order {order}: {words}"),
}
_IN_THE_ERP = {
    Standing.BLOCKED: Text(
        "Faire dans l'ERP ce que dit le message ; la passerelle réessaie seule.",
        "Do in the ERP what the message says; the gateway tries again by itself.",
    ),
    Standing.REFUSED: Text(
        "Corriger l'ordre dans l'ERP, ou y saisir la production à la main.",
        "Correct the order in the ERP, or enter its production by hand.",
    ),
}
_NO_WORDS = Text("(sans explication)", "(no explanation)")


class Told:
    """The alerts of one ERP; `uplink` is its name."""

    def __init__(self, uplink: str, alerts: AlertBoard, clock: Clock) -> None:
        self._uplink = uplink
        self._alerts = alerts
        self._clock = clock
        self._acts: dict[str, float] = {}
        """Alert -> when it is no news any more (monotonic)."""
        self._waiting: dict[str, str | None] = {}
        """Job order -> its alert; None: one too many, it is told with the others."""

    # --- planners ------------------------------------------------------------------------------------------------------

    def news(self, news: News) -> None:
        severity, text, remedy = _ACTS[news.kind]
        lasting = news.kind in _LASTING
        key = self._order(news.job_order_id) if lasting else f"erp.planner:{self._uplink}:{news.job_order_id}"
        more = f" ({news.detail})." if news.detail else "."
        said = _filled(Text(text.fr + more, text.en + more), order=news.job_order_id)
        # A refused order may name a work unit that this gateway does not have.
        unit = None if lasting else news.work_unit
        self._alerts.raise_(key, severity, said, remedy, work_unit=unit, detail=f"{self._uplink} {news.key} {news.kind}")
        if not lasting:
            self._acts[key] = self._clock.monotonic() + ACTS_SHOWN_S

    def taken(self, job_order_id: str) -> None:
        """The order was refused before and is not any more, or has left the list."""
        self._alerts.clear(self._order(job_order_id))

    def age(self) -> None:
        """What was told long enough goes."""
        now = self._clock.monotonic()
        for key in [key for key, until in self._acts.items() if until <= now]:
            del self._acts[key]
            self._alerts.clear(key)

    def unreadable(self, reasons: Sequence[str]) -> None:
        """What of the last listing could not be read; nothing: all of it could."""
        key = f"erp.unreadable:{self._uplink}"
        if not reasons:
            self._alerts.clear(key)
            return
        self._alerts.raise_(
            key, "warning",
            Text(
                f"{self._uplink} : {len(reasons)} ordre(s) illisible(s) : {reasons[0]}",
                f"{self._uplink}: {len(reasons)} order(s) cannot be read: {reasons[0]}",
            ),
            Text("Corriger ces ordres dans l'ERP.", "Correct these orders in the ERP."), detail="; ".join(reasons[:20]),
        )  # fmt: skip

    # --- bookings ------------------------------------------------------------------------------------------------------

    def waits(self, account: Account) -> None:
        """Raise, renew or clear the alert of an order, as its steps stand."""
        name = account.job_order_id
        wait = next((w for s in _WAITS for w in account.waits.values() if w.standing is s), None)
        if wait is None:
            if name in self._waiting:
                key = self._waiting.pop(name)
                if key is not None:
                    self._alerts.clear(key)
                self._tell_rest()
            return
        if name not in self._waiting:
            named = sum(key is not None for key in self._waiting.values())
            self._waiting[name] = f"erp.blocked:{self._uplink}:{name}" if named < MOST_NAMED else None
        key = self._waiting[name]
        if key is None:
            self._tell_rest()
            return
        words = wait.words or None
        said = Text(
            *(text.format_map({"erp": self._uplink, "order": name, "words": words or none})
              for text, none in zip((_WAITS[wait.standing].fr, _WAITS[wait.standing].en), (_NO_WORDS.fr, _NO_WORDS.en), strict=True))
        )  # fmt: skip
        self._alerts.raise_(
            key, "warning", said, _IN_THE_ERP[wait.standing], work_unit=account.work_unit, detail=f"{account.key}: {wait.words}"
        )  # fmt: skip

    def forget(self, account: Account) -> None:
        """Nobody looks after the order any more."""
        self.taken(account.job_order_id)
        self.aborted(account, is_open=False)

    def _tell_rest(self) -> None:
        rest = [name for name, key in self._waiting.items() if key is None]
        key = f"erp.blocked:{self._uplink}"
        if not rest:
            self._alerts.clear(key)
            return
        self._alerts.raise_(
            key, "warning",
            Text(f"{self._uplink} : {len(rest)} autres ordres attendent.", f"{self._uplink}: {len(rest)} more orders wait."),
            Text("Régler d'abord les premiers : la cause est souvent la même.", "Settle the first ones: the cause is often the same."),
            detail=", ".join(rest[:50]),
        )  # fmt: skip

    def aborted(self, account: Account, *, is_open: bool) -> None:
        """The line gave the order up. No ERP is told to close it for that: what was made is booked, the rest is for people to decide."""
        key = f"erp.aborted:{self._uplink}:{account.job_order_id}"
        if not is_open:
            self._alerts.clear(key)
            return
        said = Text(
            "L'ordre {order} a été abandonné sur la ligne et reste ouvert dans l'ERP.",
            "Order {order} was given up on the line and is still open in the ERP.",
        )
        remedy = Text("Le clore ou l'annuler dans l'ERP.", "Close or cancel it in the ERP.")
        self._alerts.raise_(key, "warning", _filled(said, order=account.job_order_id), remedy, work_unit=account.work_unit)

    def _order(self, job_order_id: str) -> str:
        return f"erp.order:{self._uplink}:{job_order_id}"


def _filled(text: Text, *, order: str) -> Text:
    return Text(text.fr.replace("{order}", order), text.en.replace("{order}", order))
