"""Each broken configuration of tests/golden/config gives exactly its message."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.__main__ import main

FOLDER = Path(__file__).parents[1] / "golden" / "config"
CASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES)
def test_message(case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(FOLDER / case)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert main(["check", "config.yaml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == Path("expected.txt").read_text(encoding="utf-8")


def test_there_are_many_and_each_names_file_line_and_remedy() -> None:
    assert len(CASES) >= 25
    for case in CASES:
        lines = (FOLDER / case / "expected.txt").read_text(encoding="utf-8").splitlines()
        told = [line for line in lines if not line.startswith("    expert: ")][:-1]
        assert told, case
        assert len(lines) == 2 * len(told) + 1, f"{case}: every problem has its expert line"
        for line in told:
            file, number, _ = line.split(":", 2)
            assert (FOLDER / case / file).exists(), case
            assert number.isdecimal(), case
            assert "; " in line, f"{case}: says what to do"
