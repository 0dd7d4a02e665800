"""What is wrong in a configuration file, said so that a maintenance technician can act on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake. `text` is one sentence: what is wrong; what to do. `expert` says the same in the program's own terms.

    `path` is dotted (`devices.press_plc.interval`), `value` as it stands in the file, `line` counts from 1.
    """

    file: str
    line: int
    path: str
    value: str
    text: str
    expert: str

    def __str__(self) -> str:
        where = ": ".join(part for part in (f"{self.file}:{self.line}", self.path, self.value, self.text) if part)
        # Half a character, written as `\ud800`, can be told but not printed.
        return f"{where}\n    expert: {self.expert}".encode(errors="backslashreplace").decode()


class ConfigError(Exception):
    """The configuration cannot be used; `problems` lists everything that was found, in the order of the files' lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=lambda p: (p.file, p.line, p.path, p.text)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean `x`?` or, without a likely word, the list of what is known (at most 12); starts with `; `."""
    words = [str(k) for k in known]
    folded = {k.casefold(): k for k in words}
    close = get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{folded[close[0]]}`?"
    if not words:
        return "; remove it"
    shown = ", ".join(f"`{k}`" for k in words[:12])
    return f"; known: {shown}{' ...' if len(words) > 12 else ''}"
