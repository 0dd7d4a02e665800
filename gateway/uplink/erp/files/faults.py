"""What is wrong with a file, in the words of the `.err` beside it: what, where, what to do, in both languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.events import Text

_WHOLE_FILE = Text("", "")


@dataclass(frozen=True)
class Fault:
    """`where`: line, column or order, empty for the whole file. `text`: one sentence with the remedy. `code`: as for a refused command."""

    text: Text
    where: Text = _WHOLE_FILE
    code: str = "invalid_field"

    def sentence(self, language: str) -> str:
        where, text = (self.where.fr, self.text.fr) if language == "fr" else (self.where.en, self.text.en)
        return f"{where}: {text}" if where else text


class Unreadable(Exception):
    """Nothing of the file can be used. `may_grow`: it looks like one that is still being written."""

    def __init__(self, fault: Fault, *, may_grow: bool = False) -> None:
        super().__init__(fault.sentence("en"))
        self.fault = fault
        self.may_grow = may_grow


def shown(name: str) -> str:
    """A file name as text that can be written anywhere: its bytes may be none in UTF-8."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def explanation(name: str, at: str, faults: Sequence[Fault], taken: Sequence[str]) -> bytes:
    """The `.err` of file `name`. `taken`: the orders of it that the line has."""
    lines = []
    name = shown(name)
    for language, heading, kept, nothing in (
        ("fr", f"Fichier {name}, lu le {at}", "Ordres pris", "Aucun ordre de ce fichier n'a été pris."),
        ("en", f"File {name}, read {at}", "Orders taken", "No order of this file was taken."),
    ):
        lines += [heading, *(f"- {fault.sentence(language)}" for fault in faults)]
        lines += [f"{kept}: {', '.join(taken)}" if taken else nothing, ""]
    return "\r\n".join(lines).encode()
