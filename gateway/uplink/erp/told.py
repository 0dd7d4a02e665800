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
_FIRST_ONES = Text("Régler d'abord les premiers : la cause est souvent la même.", "Settle the first ones: the cause is often the same.")
_NO_WORDS = Text("(sans explication)", "(no explanation)")


class _Named:
    """Alerts of one kind, an order each; those beyond `MOST_NAMED` share one that counts them."""

    def __init__(self, key: str, alerts: AlertBoard, rest: Text) -> None:
        self._key = key
        self._alerts = alerts
        self._rest = rest
        self._names: dict[str, bool] = {}
        """Order -> whether it has an alert of its own."""

    def raise_(self, name: str, text: Text, remedy: Text, *, work_unit: str | None, detail: str) -> None:
        if name not in self._names:
            self._names[name] = sum(self._names.values()) < MOST_NAMED
        if self._names[name]:
            self._alerts.raise_(f"{self._key}:{name}", "warning", text, remedy, work_unit=work_unit, detail=detail)
        else:
            self._tell_rest()

    def clear(self, name: str) -> None:
        named = self._names.pop(name, None)
        if named:
            self._alerts.clear(f"{self._key}:{name}")
        elif named is not None:
            self._tell_rest()

    def _tell_rest(self) -> None:
        rest = [name for name, named in self._names.items() if not named]
        if not rest:
            self._alerts.clear(self._key)
            return
        said = Text(self._rest.fr.format(len(rest)), self._rest.en.format(len(rest)))
        self._alerts.raise_(self._key, "warning", said, _FIRST_ONES, detail=", ".join(rest[:50]))


class Told:
    """The alerts of one ERP; `uplink` is its name."""

    def __init__(self, uplink: str, alerts: AlertBoard, clock: Clock) -> None:
        self._uplink = uplink
        self._alerts = alerts
        self._clock = clock
        self._acts: dict[str, float] = {}
        """Alert -> when it is no news any more (monotonic)."""
        self._waiting = _Named(
            f"erp.blocked:{uplink}", alerts, Text(f"{uplink} : {{}} autres ordres attendent.", f"{uplink}: {{}} more orders wait.")
        )
        self._refused = _Named(
            f"erp.order:{uplink}", alerts,
            Text(f"{uplink} : {{}} autres ordres ne sont pas pris.", f"{uplink}: {{}} more orders are not taken."),
        )  # fmt: skip

    # --- planners ------------------------------------------------------------------------------------------------------

    def news(self, news: News) -> None:
        severity, text, remedy = _ACTS[news.kind]
        more = f" ({news.detail})." if news.detail else "."
        said = _filled(text, order=news.job_order_id)
        said = Text(said.fr + more, said.en + more)
        detail = f"{self._uplink} {news.key} {news.kind}"
        if news.kind in _LASTING:
            # A refused order may name a work unit that this gateway does not have.
            self._refused.raise_(news.job_order_id, said, remedy, work_unit=None, detail=detail)
            return
        key, unit = f"erp.planner:{self._uplink}:{news.job_order_id}", news.work_unit or None
        if key not in self._acts and len(self._acts) >= MOST_NAMED:
            # A planner who moves the whole week is one piece of news.
            key, unit, severity = f"erp.planner:{self._uplink}", None, "info"
            said = Text(f"{self._uplink} : d'autres ordres ont changé dans l'ERP.", f"{self._uplink}: more orders were changed in the ERP.")
        self._alerts.raise_(key, severity, said, remedy, work_unit=unit, detail=detail)
        self._acts[key] = self._clock.monotonic() + ACTS_SHOWN_S

    def taken(self, job_order_id: str) -> None:
        """The order was refused before and is not any more, or has left the list."""
        self._refused.clear(job_order_id)

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
            self._waiting.clear(name)
            return
        # The words may hold anything: they are put in last, and no other sign in them is read.
        said = _filled(_WAITS[wait.standing], order=name, erp=self._uplink)
        words = Text(wait.words, wait.words) if wait.words else _NO_WORDS
        said = Text(said.fr.replace("{words}", words.fr), said.en.replace("{words}", words.en))
        detail = f"{account.key}: {wait.words}"
        self._waiting.raise_(name, said, _IN_THE_ERP[wait.standing], work_unit=account.work_unit, detail=detail)

    def forget(self, account: Account) -> None:
        """Nobody looks after the order any more."""
        self.taken(account.job_order_id)
        self._waiting.clear(account.job_order_id)
        self._alerts.clear(self._dropped_key(account))
        self.aborted(account, is_open=False)

    def _dropped_key(self, account: Account) -> str:
        return f"erp.results:{self._uplink}:{account.job_order_id}"

    def dropped(self, account: Account) -> None:
        """Results that waited so long that there were too many."""
        if not account.results_dropped:
            return
        lost = account.results_dropped
        said = Text(
            f"{lost} résultats de contrôle de l'ordre {{order}} ne seront pas transmis à l'ERP : trop attendaient.",
            f"{lost} quality results of order {{order}} will not reach the ERP: too many waited.",
        )
        remedy = Text(
            "Régler ce qui bloque l'ordre, puis saisir ces résultats dans l'ERP à partir du journal (lineside trace et l'ordre).",
            "Settle what blocks the order, then enter these results in the ERP from the journal (lineside trace and the order).",
        )
        self._alerts.raise_(
            self._dropped_key(account), "warning", _filled(said, order=account.job_order_id), remedy, work_unit=account.work_unit
        )

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


def _filled(text: Text, *, order: str, erp: str = "") -> Text:
    return Text(*(words.replace("{erp}", erp).replace("{order}", order) for words in (text.fr, text.en)))
