"""The house's own rules, read from the code's syntax trees and the project's files."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.config import load

ROOT = Path(__file__).parents[2]
CODE = [path for room in ("gateway", "drivers", "simulators") for path in sorted((ROOT / room).rglob("*.py"))]
DAEMON = [path for path in CODE if "simulators" not in path.parts and path != ROOT / "gateway/clock.py"]
LOCKS = [ROOT / "requirements/run.txt", ROOT / "requirements/dev.txt"]

CLOCK_READS = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep", "localtime", "gmtime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "asyncio": {"sleep", "timeout", "wait_for"},
}
"""What reads a clock or waits on one, by the name in front of the dot."""


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def clock_reads(tree: ast.AST) -> Iterator[str]:
    """`time.monotonic()`, `datetime.now(UTC)`, `loop.time()`, `from time import sleep`, in any file but the clock's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                if alias.name in CLOCK_READS.get(node.module or "", set()):
                    yield f"line {node.lineno}: from {node.module} import {alias.name}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            before = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            if node.func.attr in CLOCK_READS.get(before, set()) or (before.endswith("loop") and node.func.attr == "time"):
                yield f"line {node.lineno}: {before}.{node.func.attr}"


def broad_excepts(tree: ast.AST) -> Iterator[str]:
    """`except:`, `except Exception`, `except (ValueError, BaseException)`, `suppress(Exception)`.

    A handler whose last statement is a bare `raise` cleans up and swallows nothing: it is free to catch what it likes.
    """
    for node in ast.walk(tree):
        caught: list[ast.expr] = []
        if isinstance(node, ast.ExceptHandler):
            if isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None:
                continue
            if node.type is None:
                yield f"line {node.lineno}: bare except"
            else:
                caught = [node.type]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
            caught = list(node.args)
        for each in caught:
            for part in each.elts if isinstance(each, ast.Tuple) else [each]:
                if ast.unparse(part) in {"Exception", "BaseException"}:
                    yield f"line {part.lineno}: catches {ast.unparse(part)}"


def test_the_finders_find() -> None:
    """The rules below pass on an empty finder too, so the finders are tested on what they must see."""
    bad = "import time\nfrom time import sleep\ntime.monotonic()\ndatetime.datetime.now(UTC)\nloop.time()\nawait_ = asyncio.sleep(1)\n"
    assert len(list(clock_reads(ast.parse(bad)))) == 5
    assert list(clock_reads(ast.parse("clock.now()\nclock.sleep(1)\nself._clock.timeout(2)\nfrom datetime import timedelta\n"))) == []
    broad = "try: x()\nexcept (OSError, Exception): x()\ntry: x()\nexcept: x()\nwith contextlib.suppress(BaseException): x()\n"
    assert len(list(broad_excepts(ast.parse(broad)))) == 3
    assert list(broad_excepts(ast.parse("try: x()\nexcept OSError: x()\ntry: x()\nexcept BaseException:\n    x()\n    raise\n"))) == []
    assert len(DAEMON) > 20


def offences(paths: list[Path], find: Callable[[ast.AST], Iterator[str]]) -> list[str]:
    return [f"{path.relative_to(ROOT)}, {what}" for path in paths for what in find(tree_of(path))]


def test_only_the_clock_reads_time() -> None:
    assert offences(DAEMON, clock_reads) == []


def test_no_broad_except() -> None:
    assert offences(CODE, broad_excepts) == []


def test_no_room_is_called_by_a_word_that_says_nothing() -> None:
    vague = {"utils", "util", "common", "helpers", "manager", "service", "core", "misc"}
    assert [name for name in names(CODE) if vague & set(re.split(r"[/_.]", name))] == []


def locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", LOCKS, ids=names(LOCKS))
def test_a_lock_names_no_index_and_hashes_everything(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    # An option line could name an index; a requirement continues with its hashes.
    assert re.findall(r"^-.*", text, re.MULTILINE) == []
    blocks = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == len(locked(path)) > 20
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_locks_agree_and_cover_the_project() -> None:
    run, dev = (locked(path) for path in LOCKS)
    assert run.items() <= dev.items(), "the daemon is tested with the versions it runs with"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {extra: _names(given) for extra, given in project["optional-dependencies"].items()}
    assert _names(project["dependencies"]) | asked["demo"] | {"hatchling"} <= run.keys()
    assert set().union(*asked.values()) <= dev.keys()
    for requirement in project["dependencies"]:
        if match := re.fullmatch(r"([A-Za-z0-9._-]+)==(.+)", requirement):
            assert run[_normal(match[1])] == match[2]


def _names(requirements: list[str]) -> set[str]:
    return {_normal(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]) for requirement in requirements}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_makefile_has_what_the_documents_promise() -> None:
    assert {"help", "demo", "run", "check", "test", "system", "bench", "schema"} <= make_targets()
    called = re.findall(r"^make (\w+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert called == ["check", "test", "system"]


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "systemd/README.md", ROOT / "tests/golden/README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", documents(), ids=names(documents()))
def test_what_a_document_names_exists(path: Path) -> None:
    """Make targets, relative links, and the files of the project that a page names."""
    text = path.read_text()
    assert set(re.findall(r"`?\bmake ([a-z-]+)\b[ `A-Z\n]", "\n".join(_code(text)))) <= make_targets()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in links if not (path.parent / link).exists()] == []
    named = re.findall(
        r"(?<![\w/.])((?:config|docs|tests|systemd|gateway|drivers|simulators|requirements)/[\w./-]*\w)", "\n".join(_code(text))
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def _code(text: str) -> list[str]:
    """Fenced blocks and `code` of a page."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return fenced + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def lineside_commands(text: str) -> set[str]:
    return {match for code in _code(text) for match in re.findall(r"(?:^|[\s/$])lineside ([a-z]+)(?![\w./-])", code)}


def test_each_command_a_document_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {command for path in documents() for command in lineside_commands(path.read_text())}
    assert {"run", "demo", "check", "replay", "status", "schema"} <= commands
    for command in sorted(commands):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0, command
        assert "usage" in capsys.readouterr().out.lower()


def configurations() -> list[tuple[str, str]]:
    """Whole configurations that stand in a document, with the page's name."""
    return [
        (path.name, block)
        for path in documents()
        for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
        if block.startswith("gateway:")
    ]


@pytest.mark.parametrize(("page", "text"), configurations(), ids=[page for page, _ in configurations()])
def test_a_configuration_in_a_document_loads(page: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "lineside.yaml").write_text(text)
    assert load(tmp_path / "lineside.yaml").work_units, page


def test_a_missing_python_is_said_with_its_remedy() -> None:
    run = subprocess.run(
        [ROOT / "requirements/debian.sh", "venv"],
        env={**os.environ, "PYTHON": "/no/such/python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "make PYTHON=" in run.stderr


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    """Templates, styles and SQL are read from the installed package, where no checkout stands beside it."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("lineside-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    kept = subprocess.run(
        ["git", "ls-files", "gateway", "drivers", "simulators"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert len(kept) > 50
    assert [name for name in kept if (ROOT / name).exists() and name not in held] == []
    templates = {path.name for path in (ROOT / "config/machines").glob("*.yaml")}
    assert templates == {Path(name).name for name in held if name.startswith("gateway/config/machine_templates/")}
    tops = {name.split("/")[0] for name in held}
    assert {top for top in tops if not top.startswith("lineside-")} == {"gateway", "drivers", "simulators"}


def test_nothing_points_outside_the_project() -> None:
    """Paths of the machine that a file was written on mean nothing to the next reader."""
    outside = re.compile(r"/work/|\.\./shared|/root/|/tmp/clone")
    kept = [
        *CODE,
        *documents(),
        *LOCKS,
        *(ROOT / "config").rglob("*"),
        *(ROOT / "tests").rglob("*.py"),
        ROOT / "Makefile",
        ROOT / ".ci/run",
    ]
    assert [str(path) for path in kept if path.is_file() and path != Path(__file__) and outside.search(path.read_text())] == []
