"""`lineside record`: whole lines of what a gateway says, and a sentence for all that goes wrong."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.__main__ import main

HEADER = b"at,device,tag,value,quality\n"
ROW = b"2026-11-25T06:00:00Z,plc,parts,7,good\n"


@contextmanager
def gateway(body: bytes, *, status: int = 200, content_type: str = "text/csv") -> Iterator[tuple[str, list[str]]]:
    """Answers everything with `body` and closes; its address, and what was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def test_whole_lines_are_written_and_signs_of_life_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fault.csv"
    with gateway(HEADER + ROW + b"\n\n" + ROW + b"2026-11-25T06:0") as (url, asked):
        assert main(["record", url, "--for", "10min", "--device", "press_plc", str(file)]) == 0
    assert file.read_bytes() == HEADER + ROW + ROW
    assert asked == ["/api/readings?device=press_plc&seconds=600.0"]
    assert f"2 readings in {file}" in capsys.readouterr().err


def test_the_address_may_be_left_out_or_given_without_scheme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gateway(HEADER) as (url, asked):
        assert main(["record", url.removeprefix("http://"), str(tmp_path / "a.csv")]) == 0
    assert asked == ["/api/readings?"]
    assert "0 readings" in capsys.readouterr().err


def test_a_file_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fault.csv"
    file.write_text("precious")
    with gateway(HEADER + ROW) as (url, _):
        assert main(["record", url, str(file)]) == 2
        assert "exists; give another name" in capsys.readouterr().err
        assert main(["record", url, str(tmp_path / "nowhere" / "a.csv")]) == 2
        assert "check folder and rights" in capsys.readouterr().err
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--for", "10"], "--for '10': it needs a number with a unit"), (["--for", "soon"], "example: --for 10min")]
)
def test_a_wrong_length_is_refused_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["record", *arguments, str(tmp_path / "a.csv")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "a.csv").exists()


def test_what_the_gateway_refuses_is_said_with_its_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = json.dumps({"error": "no device mill", "devices": ["plc", "scale"]}).encode()
    with gateway(body, status=404, content_type="application/json") as (url, _):
        assert main(["record", url, "--device", "mill", str(tmp_path / "a.csv")]) == 2
    said = capsys.readouterr().err
    assert "no device mill" in said
    assert "plc, scale" in said
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(("status", "says"), [(200, "does not answer as a gateway"), (404, "does not record")])
def test_another_program_at_that_address(tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, says: str) -> None:
    with gateway(b"<html>", status=status, content_type="text/html") as (url, _):
        assert main(["record", url, str(tmp_path / "a.csv")]) == 1
    assert says in capsys.readouterr().err


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "http://127.0.0.1:9", str(tmp_path / "a.csv")]) == 1
    assert "no gateway answers" in capsys.readouterr().err
    assert not (tmp_path / "a.csv").exists()
