"""`lineside status` against an HTTP server, and against what is not one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from gateway.__main__ import main
from gateway.cli.status import summary

BODY: dict[str, Any] = {
    "at": "2026-11-25T06:10:00Z",
    "gateway": {"id": "line-pc-07", "enterprise": "acme", "site": "lyon", "version": "0.1.0", "language": "fr"},
    "alerts": [
        {"severity": "warning", "text": {"fr": "Presse arrêtée.", "en": "Press stopped."}, "remedy": {"fr": "Voir la fiche.", "en": "See."}}
    ],
    "units": [
        {
            "work_unit": "press-07", "state": "stopped", "reason": "overload", "fault": 217, "since": "2026-11-25T05:00:00Z",
            "kpi": {"shift": {"oee": 0.7234, "produced": 12345, "good": 12000.5}},
            "job": {"job_order_id": "OF-1", "good": 10, "target": 100, "eta_likely": "2026-11-25T08:00:00Z", "verdict": "at_risk"},
        },
        {"work_unit": "packer-02", "state": "running", "since": "2026-11-25T06:09:30Z", "kpi": {}, "job": None},
    ],
    "links": [{"name": "press_plc", "state": "connected", "peer": "OPC UA h:4840", "since": "2026-11-25T05:58:00Z", "error": ""}],
    "uplinks": [{"name": "plant", "rows": 7, "parked": 1}],
    "journal": {"disk": "ok", "bytes": 2_000_000, "cap_bytes": 2_000_000_000, "hours_left": 912.4},
}  # fmt: skip


@contextmanager
def served(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/api/status" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the tests' terminal."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_summary_says_state_loss_and_backlog(capsys: pytest.CaptureFixture[str]) -> None:
    with served(200, json.dumps(BODY).encode()) as url:
        assert main(["status", url.removeprefix("http://")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "line-pc-07  acme/lyon  lineside 0.1.0  2026-11-25T06:10:00Z"
    assert lines[1] == "! warning: Presse arrêtée. Voir la fiche."
    assert lines[2] == "unit  press-07         stopped (overload) for 1 h 10  OEE 72.3%  made 12,345  good 12,000.5"
    assert lines[3] == "      OF-1: 10 of 100, ready 2026-11-25T08:00:00Z (at_risk)"
    assert lines[4] == "unit  packer-02        running for 30 s  OEE –  made –  good –"
    assert lines[5].startswith("link  press_plc        connected     OPC UA h:4840  since 12 min")
    assert lines[6] == "out   plant            7 rows waiting, 1 parked"
    assert lines[7] == "disk  ok, journal 2 MB of 2000 MB, room for 912 h at the present rate"


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    with served(200, json.dumps(BODY).encode()) as url:
        assert main(["status", url + "/", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == BODY


def test_a_status_with_little_in_it_is_still_shown() -> None:
    assert list(summary({})) == ["?  ?/?  lineside ?  ", "no alerts"]


@pytest.mark.parametrize(("status", "body"), [(404, b""), (200, b"<html>"), (200, b"[]"), (200, b"\xff")])
def test_what_is_no_gateway(status: int, body: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with served(status, body) as url:
        assert main(["status", url]) == 1
    err = capsys.readouterr().err
    assert "as a gateway; check the address" in err
    assert "    expert: " in err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with served(200, b"") as url:
        pass
    assert main(["status", url]) == 1
    assert "is it running" in capsys.readouterr().err
    assert main(["status", "http://127.0.0.1:99999"]) == 1
