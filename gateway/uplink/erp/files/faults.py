"""What is wrong with a file, in the words of the `.err` beside it: what, where, what to do, in both languages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.events import Text

_WHOLE_FILE = Text("", "")


@dataclass(frozen=True)
class Fault:
    """`where`: line, column or order, empty for the whole file. `text`: one sentence with the remedy. `code`: as for a refused command.
    `is_harmless`: nobody has to do anything."""

    text: Text
    where: Text = _WHOLE_FILE
    code: str = "invalid_field"
    is_harmless: bool = False

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


_DONE_FR, _DONE_EN = "rien à faire", "nothing to do"
_HEADING = re.compile(r"File (.*), read \S+")


def explanation(name: str, at: str, faults: Sequence[Fault], taken: Sequence[str]) -> bytes:
    """The `.err` of file `name`. `taken`: the orders of it that the line has."""
    lines = []
    name = shown(name)
    is_done = all(fault.is_harmless for fault in faults)
    for language, heading, kept, nothing in (
        ("fr", f"Fichier {name}, lu le {at}", "Ordres pris", "Aucun ordre de ce fichier n'a été pris."),
        ("en", f"File {name}, read {at}", "Orders taken", "No order of this file was taken."),
    ):
        done = (_DONE_FR if language == "fr" else _DONE_EN) if is_done else ""
        lines += [f"{heading} ({done})" if done else heading, *(f"- {fault.sentence(language)}" for fault in faults)]
        lines += [f"{kept}: {', '.join(taken)}" if taken else nothing, ""]
    return "\r\n".join(lines).encode()


def complaints(data: bytes) -> list[str]:
    """What a `.err` asks for, in English, each with the file's name; nothing when there is nothing to do."""
    name, found = None, []
    for line in data.decode(errors="replace").splitlines():
        if heading := _HEADING.fullmatch(line):
            name = heading[1]
        elif name is not None and line.startswith("- "):
            found.append(f"{name}: {line.removeprefix('- ')}")
    return found
