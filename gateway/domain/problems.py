"""Why a command is refused: every problem code of the published schema, with its return status and its meaning.

The table imports no other noun of the core, so that ledger, intake, parser and schema can all build on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.domain.events import Text

# OPC 10031-4 B.2, the values of `job_order.ReturnStatus`.
_UNKNOWN_ORDER = 2
_INVALID_COMMAND = 4
_INVALID_STATE = 8
_UNABLE_TO_ACCEPT = 16
_INVALID_REQUEST = 1 << 32


@dataclass(frozen=True)
class ProblemCode:
    """One row of the table. `return_status` is a bit of OPC 10031-4's map; `meaning` is for people and for the schema."""

    code: str
    return_status: int
    meaning: Text


_TABLE = (
    # The ledger: what the order or the work unit does not allow.
    ProblemCode("unknown_order", _UNKNOWN_ORDER, Text("Aucun ordre de ce nom sur ce poste.", "No order of this name on this work unit.")),
    ProblemCode("invalid_command", _INVALID_COMMAND, Text("Cette commande n'existe pas.", "There is no such command.")),
    ProblemCode(
        "invalid_state",
        _INVALID_STATE,
        Text("L'état de l'ordre ne permet pas cette commande.", "The order's state does not allow this command."),
    ),
    ProblemCode(
        "order_exists",
        _UNABLE_TO_ACCEPT,
        Text("Un ordre de ce nom existe déjà sur ce poste.", "An order of this name already exists on this work unit."),
    ),
    ProblemCode(
        "other_order_running",
        _UNABLE_TO_ACCEPT,
        Text("Un autre ordre est en cours sur ce poste.", "Another order is running on this work unit."),
    ),
    ProblemCode("queue_full", _UNABLE_TO_ACCEPT, Text("La file d'attente du poste est pleine.", "The work unit's queue is full.")),
    ProblemCode(
        "quantity_below_made",
        _UNABLE_TO_ACCEPT,
        Text("La quantité demandée est inférieure à celle déjà produite.", "The quantity asked for is below what has been made."),
    ),
    ProblemCode(
        "window_in_past",
        _UNABLE_TO_ACCEPT,
        Text("La fenêtre de livraison ou d'exécution est déjà passée.", "The delivery or execution window is already past."),
    ),
    # Facts: what cannot be booked.
    ProblemCode("no_stop_at", _UNABLE_TO_ACCEPT, Text("Aucun arrêt n'était en cours à cet instant.", "No stop was going on at that time.")),
    ProblemCode(
        "state_is_read",
        _UNABLE_TO_ACCEPT,
        Text("L'état de ce poste vient de la machine.", "The state of this work unit comes from the machine."),
    ),
    ProblemCode("unknown_lot", _UNABLE_TO_ACCEPT, Text("Ce lot n'est pas connu sur ce poste.", "This lot is not known on this work unit.")),
    ProblemCode(
        "lot_already_loaded",
        _UNABLE_TO_ACCEPT,
        Text("Ce lot est déjà chargé sur ce poste.", "This lot is already loaded on this work unit."),
    ),
    ProblemCode(
        "unknown_material",
        _UNABLE_TO_ACCEPT,
        Text("Cette matière n'est pas connue sur ce poste.", "This material is not known on this work unit."),
    ),
    ProblemCode(
        "unknown_characteristic",
        _UNABLE_TO_ACCEPT,
        Text("Cette caractéristique n'est pas contrôlée sur ce poste.", "This characteristic is not checked on this work unit."),
    ),
    ProblemCode(
        "no_order",
        _UNABLE_TO_ACCEPT,
        Text("Aucun ordre ne peut recevoir cette déclaration.", "There is no order that could take this declaration."),
    ),
    ProblemCode(
        "total_negative", _UNABLE_TO_ACCEPT, Text("La correction rendrait un total négatif.", "The correction would make a total negative.")
    ),
    ProblemCode(
        "no_result",
        _UNABLE_TO_ACCEPT,
        Text("Aucun résultat de contrôle ne peut être annulé ici.", "There is no quality result that could be cancelled here."),
    ),
    ProblemCode(
        "unknown_command",
        _UNABLE_TO_ACCEPT,
        Text("La déclaration à corriger n'est pas connue.", "The fact to be corrected is not known."),
    ),
    ProblemCode(
        "time_not_covered",
        _UNABLE_TO_ACCEPT,
        Text("Cet instant est dans l'avenir ou n'est plus en mémoire.", "That time is in the future or no longer remembered."),
    ),
    # The address.
    ProblemCode(
        "wrong_work_unit",
        _INVALID_REQUEST,
        Text("Le poste du message n'est pas celui de l'adresse.", "The message's work unit is not that of its topic."),
    ),
    ProblemCode(
        "unknown_work_unit",
        _INVALID_REQUEST,
        Text("Cette passerelle ne connaît pas ce poste.", "This gateway does not know this work unit."),
    ),
    # The message.
    ProblemCode("expired", _INVALID_REQUEST, Text("La commande est arrivée après sa date limite.", "The command came after its expiry.")),
    ProblemCode(
        "retained",
        _INVALID_REQUEST,
        Text("Une commande ne doit pas être retenue par le courtier.", "A command must not be retained by the broker."),
    ),
    ProblemCode("too_large", _INVALID_REQUEST, Text("Le message dépasse 256 Kio.", "The message is over 256 KiB.")),
    ProblemCode("not_json", _INVALID_REQUEST, Text("Le message n'est pas du JSON.", "The message is not JSON.")),
    ProblemCode(
        "invalid_field", _INVALID_REQUEST, Text("Un champ a une valeur ou un type inattendu.", "A field has an unexpected value or type.")
    ),
    ProblemCode(
        "unknown_field", _INVALID_REQUEST, Text("Un champ n'existe pas dans cette commande.", "A field does not exist in this command.")
    ),
    ProblemCode("missing_field", _INVALID_REQUEST, Text("Un champ obligatoire manque.", "A required field is missing.")),
    ProblemCode(
        "unknown_reason", _INVALID_REQUEST, Text("Ce motif n'est pas dans la configuration.", "This reason is not in the configuration.")
    ),
    ProblemCode("unknown_state", _INVALID_REQUEST, Text("Cet état n'existe pas.", "There is no such state.")),
    ProblemCode("unknown_unit", _INVALID_REQUEST, Text("Cette unité ne convient pas ici.", "This unit does not fit here.")),
    ProblemCode(
        "quantity_invalid",
        _INVALID_REQUEST,
        Text("La quantité n'est pas un nombre possible ici.", "The quantity is not a possible number here."),
    ),
    ProblemCode(
        "limits_invalid", _INVALID_REQUEST, Text("Les limites de qualité se contredisent.", "The quality limits contradict each other.")
    ),
    ProblemCode("window_invalid", _INVALID_REQUEST, Text("Le début n'est pas avant la fin.", "The beginning is not before the end.")),
)

PROBLEMS: Mapping[str, ProblemCode] = MappingProxyType({row.code: row for row in _TABLE})
"""Code -> its row. An answer's `problem.code` is always a key of this table."""


def return_status(code: str) -> int:
    """The return status that goes with `code`. Raises KeyError for a code that is not in the table."""
    return PROBLEMS[code].return_status
