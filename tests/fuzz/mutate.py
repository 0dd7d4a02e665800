"""Inputs that are nearly right: each is a good one changed in a few places, as text and as what its text means.

Input number N of a seed is always the same, whatever came before it, so that a failure is repeated by its number and a run can be shared
between processes.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

LARGEST = 64 * 1024
"""Bytes of an input, where a parser does not ask for shorter ones."""

# What parsers trip over: bounds of integers and floats, numbers of endless length, times at the ends of the calendar, empty and odd text.
_ODD_TEXT = (
    "", " ", "0", "-0", "-1", "1", "007", "+5", "1_000", "1e309", "-1e-400", "NaN", "nan", "Infinity", "-inf", ".5", "5.", "0x",
    "0x1F", "1,5",
    "127", "128", "255", "256", "32768", "65535", "65536", "2147483648", "4294967296", "9223372036854775808", "18446744073709551616",
    "9" * 61, "9" * 400, "9" * 5000, "1e" + "9" * 20, "true", "True", "null", "None", "~", "no", "''", '""', "{}", "[]", "[" * 60,
    "{" * 60,
    "\x00", "\t", "\r\n", "\u2028", "\ufeff", "\ufffd", "é", "\u0301", "\u202e", "😀", "\U0010ffff", "%s", "%n", "{0}", "${x}", "../..",
    "/", "\\",
    "a" * 129, "a" * 1001, ";", ",", ":", "=", "#", "&", "*", "|", ">", "<", "!", "@", "`", "<!--", "]]>", "<?xml", "&amp;", "\\u0000",
    "\\ud800",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z", "2026-11-25T24:00:00Z", "2026-11-25T06:00:00",
    "2026-11-25", "T", "24:00", "00:00", "23:59:60", "2026-W01-1", "-250ms", "0s", "1e9d", "5 min", "250ms", "99999999999h", "10%",
    "-1%", "2GB",
    "Europe/Paris", "Mars/Olympus", "opc.tcp://[::1", "tcp://a:99999", "rtu:///dev/null", "http://user:secret@host", "ns=99999;i=-1",
    "i=4294967296",
)  # fmt: skip
ODD_TEXT: tuple[bytes, ...] = tuple(text.encode("utf-8", "surrogatepass") for text in (*_ODD_TEXT, "\ud800"))
_ODD_BYTES = (
    b"\xff",
    b"\xfe\xff",
    b"\x80",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\x1b[",
    b"\x7f",
    b"\xef\xbb\xbf",
    b"\x00\x00\x00\x00",
)
_ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 2**31, 2**63, -(2**63) - 1, 10**70, "", " ", "a" * 129, "a" * 1001, "\x00",
    "\u2028", "\ud800",
    "😀", "é", [], {}, [[]], {"": ""}, ["a"] * 600, "2026-11-25T06:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
    "1e400", "NaN",
    float("nan"), float("inf"),
)  # fmt: skip
_TOKEN = re.compile(rb"[A-Za-z_][A-Za-z0-9_.-]*|[+-]?\d[\d.eE+:TZ-]*|\"[^\"\n]{0,80}\"|'[^'\n]{0,80}'")


class Mutator:
    """`seeds`: good inputs. `words`: what else means something in this format. `is_json`: the seeds are JSON, also changed as such."""

    def __init__(
        self, name: str, seeds: Sequence[bytes], words: Sequence[bytes] = (), *, is_json: bool = False, largest: int = LARGEST
    ) -> None:
        self._name = name
        self._seeds = tuple(seeds)
        self._words = (*ODD_TEXT, *words)
        self._largest = largest
        self._tokens = tuple(dict.fromkeys(token for one in seeds for token in _TOKEN.findall(one))) or self._words
        self._trees = [json.loads(one) for one in seeds] if is_json else []

    def input(self, seed: int, number: int) -> bytes:
        """The first numbers are the good inputs themselves."""
        if number < len(self._seeds):
            return self._seeds[number]
        draw = Random(f"{self._name} {seed} {number}")
        if self._trees and draw.random() < 0.6:
            data = self._changed_tree(draw)
            if draw.random() < 0.7:
                return data[: self._largest]
        else:
            data = draw.choice(self._seeds)
        for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 5, 9))):
            data = draw.choice(_CHANGES)(self, draw, data)[: self._largest]
        return data

    # --- as text ------------------------------------------------------------------------------------------------------

    def _flip(self, draw: Random, data: bytes) -> bytes:
        if not data:
            return b"\x00"
        at = draw.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]

    def _set(self, draw: Random, data: bytes) -> bytes:
        at = draw.randint(0, len(data))
        return data[:at] + draw.choice((b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01", bytes([draw.randrange(256)]))) + data[at + 1 :]

    def _delete(self, draw: Random, data: bytes) -> bytes:
        start, end = _span(draw, data)
        return data[:start] + data[end:]

    def _cut(self, draw: Random, data: bytes) -> bytes:
        return data[: draw.randint(0, len(data))]

    def _insert(self, draw: Random, data: bytes) -> bytes:
        at = draw.randint(0, len(data))
        return data[:at] + draw.choice(draw.choice((self._words, self._words, self._tokens, _ODD_BYTES))) + data[at:]

    def _replace_token(self, draw: Random, data: bytes) -> bytes:
        found = list(_TOKEN.finditer(data))
        if not found:
            return self._insert(draw, data)
        token = draw.choice(found)
        other = draw.choice(draw.choice((self._words, self._words, self._tokens)))
        return data[: token.start()] + other + data[token.end() :]

    def _replace_number(self, draw: Random, data: bytes) -> bytes:
        found = list(re.finditer(rb"\d+", data))
        if not found:
            return self._flip(draw, data)
        number = draw.choice(found)
        near = int(number.group()[:18]) + draw.choice((-1, 1, 10, -10, 256, 65536))
        other = draw.choice((b"%d" % near, b"%d" % (near * -1), b"%d" % draw.getrandbits(draw.randint(1, 70)), draw.choice(ODD_TEXT)))
        return data[: number.start()] + other + data[number.end() :]

    def _repeat(self, draw: Random, data: bytes) -> bytes:
        start, end = _span(draw, data)
        times = draw.choice((2, 2, 3, 8, 60, 1000))
        return data[:start] + data[start:end] * min(times, self._largest // (end - start + 1)) + data[end:]

    def _move_line(self, draw: Random, data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        if len(lines) < 2:
            return self._splice(draw, data)
        line = lines.pop(draw.randrange(len(lines)))
        if draw.random() < 0.3:
            line = draw.choice((line[1:], b" " + line, b"  " + line, line.rstrip(b"\n"), b"\t" + line, line + line))
        lines.insert(draw.randint(0, len(lines)), line)
        return b"".join(lines)

    def _splice(self, draw: Random, data: bytes) -> bytes:
        other = draw.choice(self._seeds)
        return data[: draw.randint(0, len(data))] + other[draw.randint(0, len(other)) :]

    # --- as a tree ----------------------------------------------------------------------------------------------------

    def _changed_tree(self, draw: Random) -> bytes:
        tree = json.loads(json.dumps(draw.choice(self._trees)))
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            tree = self._changed(draw, tree)
        return json.dumps(tree, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")

    def _changed(self, draw: Random, tree: Any) -> Any:
        places = list(_places(tree))
        if not places:
            return _odd(draw)
        holder, key = draw.choice(places)
        match draw.randrange(7):
            case 0:
                del holder[key]
            case 1:
                holder[key] = [holder[key]] if draw.random() < 0.5 else {"value": holder[key]}
            case 2:
                other, name = draw.choice(list(_places(draw.choice(self._trees))) or [(holder, key)])
                holder[key] = json.loads(json.dumps(other[name]))
            case 3 if isinstance(holder, dict):
                holder[draw.choice((str(key).upper(), f"{key} ", "", "x", "_", *_WORDS))] = holder.pop(key)
            case 4 if isinstance(holder, list):
                holder[:] = holder * draw.choice((2, 3, 50))
            case 5:
                deep: Any = holder[key]
                for _ in range(draw.choice((3, 12, 120))):
                    deep = [deep]
                holder[key] = deep
            case _:
                holder[key] = _odd(draw)
        return tree


_WORDS = ("command", "job_order", "quantity", "at", "id", "epoch")
_CHANGES: tuple[Callable[[Mutator, Random, bytes], bytes], ...] = (
    Mutator._flip, Mutator._set, Mutator._delete, Mutator._cut, Mutator._insert, Mutator._insert, Mutator._replace_token,
    Mutator._replace_token,
    Mutator._replace_token, Mutator._replace_number, Mutator._replace_number, Mutator._repeat, Mutator._move_line, Mutator._splice,
)  # fmt: skip


def _odd(draw: Random) -> Any:
    return copy.deepcopy(draw.choice(_ODD_VALUES))


def _span(draw: Random, data: bytes) -> tuple[int, int]:
    start = draw.randint(0, len(data))
    return start, min(len(data), start + draw.choice((1, 1, 2, 4, 8, 40, 400)))


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) of a JSON value."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found
