"""The command line as a whole: help, wrong arguments, exit codes."""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path

import pytest

from gateway.__main__ import COMMANDS, main, parser
from gateway.cli.errors import CommandError
from gateway.cli.run import default_state_dir

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_its_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    last = capsys.readouterr().out.rstrip().rsplit("\n\n", 1)[1]
    assert last.startswith(f"example: lineside {command}")


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n    {command} " in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("lineside ")


@pytest.mark.parametrize("arguments", [[], ["demol"], ["check"], ["check", "a.yaml", "--fast"], ["schema", "pages"], ["run"]])
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    technician, expert = capsys.readouterr().err.splitlines()
    assert "--help" in technician
    assert expert.startswith("    expert: usage: lineside")


def test_an_error_of_a_command_is_two_sentences(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_args: object) -> int:
        raise CommandError("the port is taken; choose another", "EADDRINUSE", status=1)

    monkeypatch.setattr(importlib.import_module("gateway.cli.status"), "run", fail)
    assert main(["status"]) == 1
    assert capsys.readouterr().err == "the port is taken; choose another\n    expert: EADDRINUSE\n"


def test_ctrl_c_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(_args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("gateway.cli.status"), "run", stop)
    assert main(["status"]) == 130
    assert capsys.readouterr().err == "stopped before the end\n"


@pytest.mark.parametrize("what", ["config", "messages", "asyncapi", "openapi"])
def test_schemas_are_json(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", what]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_run_refuses_a_wrong_configuration_before_it_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("gateway: {}\n", encoding="utf-8")
    assert main(["run", "-c", str(path), "--state-dir", str(tmp_path / "state")]) == 2
    assert f"{path}:1: gateway.id: (missing)" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_run_refuses_a_missing_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert main(["run", "-c", str(CONFIG / "plant.yaml"), "--state-dir", str(tmp_path / "state")]) == 2
    assert "the credential `mqtt` is missing" in capsys.readouterr().err


def test_run_refuses_a_state_directory_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["run", "-c", str(CONFIG / "minimal.yaml"), "--state-dir", str(tmp_path / "file" / "state")]) == 2
    assert "--state-dir" in capsys.readouterr().err


def test_run_hands_the_configuration_to_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, Path]] = []

    async def daemon(config: object, *, state_dir: Path) -> int:
        await asyncio.sleep(0)
        seen.append((str(getattr(config, "path", "")), state_dir))
        return 1

    monkeypatch.setattr("gateway.app.run_daemon", daemon)
    assert main(["run", "-c", str(CONFIG / "minimal.yaml"), "--state-dir", str(tmp_path / "state")]) == 1
    assert seen == [(str(CONFIG / "minimal.yaml"), tmp_path / "state")]
    assert (tmp_path / "state").is_dir()


def test_the_state_directory_is_systemds_or_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/lineside:/var/lib/other")
    assert default_state_dir() == Path("/var/lib/lineside")
    monkeypatch.delenv("STATE_DIRECTORY")
    assert default_state_dir() == Path("state")


def test_options_may_stand_between_the_other_arguments() -> None:
    args = parser("record").parse_args(["record", "http://pc:8080", "--for", "10min", "fault.csv", "--device", "press"])
    assert (args.url, args.length, str(args.file), args.device) == ("http://pc:8080", "10min", "fault.csv", "press")
