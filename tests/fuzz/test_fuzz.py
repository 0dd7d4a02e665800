"""A little of `make fuzz`; inputs that once fell; the engine finds what it is there to find."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz.engine import MOST_MIB, SLOWEST_S, Parser, run, run_inputs, simple
from tests.fuzz.mutate import Mutator
from tests.fuzz.parsers import PARSERS

FOUND = Path(__file__).parent / "found"
"""`{parser}/{what}`: an input that fell, in a few words why."""


def test_what_falls_is_found_once_with_its_number(tmp_path: Path) -> None:
    def fall(data: bytes) -> None:
        if b"7" in data:
            raise KeyError(data)
        if b"8" in data:
            until = time.thread_time() + 2 * SLOWEST_S
            while time.thread_time() < until:
                pass
        if b"9" in data:
            bytearray(int(2 * MOST_MIB * 2**20))

    # What the process held before must not hide it.
    bytearray(int(5 * MOST_MIB * 2**20))
    inputs = [(number, str(number).encode()) for number in range(1, 9)] + [(17, b"17"), (9, b"9")]
    found = run_inputs(Parser("digits", (b"1",), simple(fall)), inputs, tmp_path).findings
    assert sorted((finding.what, finding.number) for finding in found.values()) == [("error", 7), ("memory", 9), ("slow", 8)]


def test_an_input_is_the_same_whatever_came_before() -> None:
    parser = PARSERS["command"]
    some = [parser.mutator().input(5, number) for number in (900, 20, 21)]
    other = parser.mutator()
    assert [other.input(5, number) for number in (21, 20, 900)] == some[::-1]
    assert len({other.input(5, number) for number in range(200)}) > 150
    assert Mutator("command", parser.seeds, is_json=True).input(6, 900) != some[0]


@pytest.mark.parametrize("name", PARSERS)
def test_good_inputs_pass(name: str, tmp_path: Path) -> None:
    """Without them nothing behind the first check would ever be reached."""
    assert run(PARSERS[name], range(len(PARSERS[name].seeds)), 1, tmp_path).findings == {}


@pytest.mark.parametrize("file", sorted(FOUND.glob("*/*")), ids=lambda file: f"{file.parent.name}-{file.name}")
def test_what_fell_once_falls_no_more(file: Path, tmp_path: Path) -> None:
    assert run_inputs(PARSERS[file.parent.name], [(0, file.read_bytes())], tmp_path).findings == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_some_hundred_inputs(name: str, tmp_path: Path) -> None:
    found = run(PARSERS[name], range(300), 1, tmp_path)
    assert found.findings == {}


@pytest.mark.system
def test_ten_thousand_inputs_of_each_parser() -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "--inputs", "10000", "--seed", "2"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
