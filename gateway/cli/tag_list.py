"""Tags as a list that a configuration takes (`tags_csv: FILE`): short names, valid and each once."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TextIO

from gateway.config.sources import CSV_NAME_COLUMN

_LONGEST_NAME = 64


def tag_names(paths: Sequence[str]) -> list[str]:
    """A name for each path: its last part, with as many parts before it as it takes to tell it from the others."""
    parts = [[part for part in (_valid(word) for word in path.split("/")) if part] or ["tag"] for path in paths]
    names = [words[-1] for words in parts]
    for length in range(2, max(map(len, parts), default=0) + 1):
        count = Counter(names)
        names = ["_".join(words[-length:]) if count[name] > 1 else name for words, name in zip(parts, names, strict=True)]
    return _unique([name[-_LONGEST_NAME:].strip("_-") or "tag" for name in names])


def _valid(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", word).strip("_")


def _unique(names: Sequence[str]) -> list[str]:
    taken = set(names)
    seen: set[str] = set()
    told = []
    for name in names:
        unique, number = name, 2
        while unique in seen or (number > 2 and unique in taken):
            suffix = f"_{number}"
            unique, number = f"{name[: _LONGEST_NAME - len(suffix)]}{suffix}", number + 1
        seen.add(unique)
        told.append(unique)
    return told


def write_csv(out: TextIO, names: Sequence[str], tags: Sequence[Mapping[str, str]]) -> None:
    """One row a tag; the columns are the keys that any of them has."""
    columns = list(dict.fromkeys(key for tag in tags for key in tag))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([CSV_NAME_COLUMN, *columns])
    for name, tag in zip(names, tags, strict=True):
        writer.writerow([name, *(tag.get(column, "") for column in columns)])
