"""`lineside backup` and `lineside restore` beside a daemon that runs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from gateway.__main__ import main
from simulators.loopback import HOST, free_port
from tests.chaos.nursery import Nursery

CONFIG = """\
gateway: {{id: backup-pc, enterprise: acme, site: lyon, language: en, listen: "{listen}"}}
devices:
  plc: {{driver: modbus, url: "tcp://{host}:{plc}", tags: {{parts: {{holding: 0}}}}}}
work_units:
  press-07: {{area: a, work_center: c, device: plc, ideal_cycle_time: 1s, state: {{from: counts}}, counts: {{total: parts}}}}
"""


@pytest.mark.slow
async def test_backup_while_the_daemon_runs_and_restore_when_it_has_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, state, copy, log = tmp_path / "c.yaml", tmp_path / "state", tmp_path / "copy.db", tmp_path / "log"
    config.write_text(CONFIG.format(listen=f"{HOST}:{free_port()}", host=HOST, plc=free_port()))
    where = ["-c", str(config), "--state-dir", str(state)]
    nursery = Nursery("gateway.__main__:main")
    await nursery.open()
    try:
        pid = await nursery.start(log, "run", *where)
        async with asyncio.timeout(30):
            while not log.exists() or " started " not in log.read_text():
                await asyncio.sleep(0.05)
        assert main(["backup", *where, str(copy)]) == 0
        assert re.search(r"copy.db: \d+ ledger rows", capsys.readouterr().out)
        assert main(["backup", *where, str(copy)]) == 2
        assert "exists already. Choose another name." in capsys.readouterr().err
        assert main(["backup", *where, str(tmp_path)]) == 0
        assert list(tmp_path.glob("backup-pc-*Z.db"))
        assert main(["restore", *where, str(copy)]) == 2
        assert f"already in use by another gateway (process {pid})" in capsys.readouterr().err
        assert await nursery.term(pid) == 0
        assert main(["restore", *where, str(copy)]) == 0
        said = capsys.readouterr().out
        epoch = re.search(r"new epoch (\w+)", said)
        assert epoch is not None, said
        assert "before-restore-1" in said
        log.unlink()
        pid = await nursery.start(log, "run", *where)
        async with asyncio.timeout(30):
            while not log.exists() or " started " not in log.read_text():
                await asyncio.sleep(0.05)
        assert f"epoch={epoch[1]}" in log.read_text()
        assert await nursery.term(pid) == 0
    finally:
        await nursery.close()
