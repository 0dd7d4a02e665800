"""A journal on disk with the worked example of docs/metrology.md in it, as the daemon would have left it."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path

import yaml

from drivers.base import Quality
from drivers.recording import Recording, by_instant
from gateway.config import Config, load
from gateway.domain.events import WindowClosed
from gateway.domain.instants import SECOND, instant, moment
from gateway.domain.job_order import Fact, JobCommand
from gateway.domain.kpi import kpi_line
from gateway.domain.sample import Input
from gateway.domain.tracker import Tracker
from gateway.domain.work_center import WorkCenter
from gateway.outbox.migrate import migrate
from gateway.outbox.session import open_writer
from gateway.outbox.statedir import DATABASE
from gateway.outbox.transaction import Batch, write
from gateway.uplink.messages import parse_command

EXAMPLE = Path(__file__).parents[1] / "golden/metrology"


def site(folder: Path, *, language: str = "en") -> Path:
    """The example's configuration with a second machine on the line, that nothing is known of."""
    tree = yaml.safe_load((EXAMPLE / "config.yaml").read_text())
    tree["gateway"]["language"] = language
    tree["work_units"]["packer-02"] = tree["work_units"]["press-07"] | {"area": "stamping", "ideal_cycle_time": "5s"}
    tree["work_units"]["saw-01"] = tree["work_units"]["press-07"] | {"area": "sawing", "work_center": "line-1"}
    path = folder / "lineside.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False))
    return path


def play(config: Config, unit: str, *, until: datetime | None = None) -> Tracker:
    """The example as one machine saw it, up to `until`."""
    tracker = Tracker(config.work_units[unit])
    stop = None if until is None else instant(until)
    commands = [parse_command(line.encode(), retained=False, topic_work_unit=None) for line in _lines("commands.jsonl")]
    given = sorted((instant(c.issued_at if isinstance(c, JobCommand) else c.at), n, c) for n, c in enumerate(commands))  # type: ignore[union-attr]
    with closing(Recording.open(EXAMPLE / "recording.csv")) as recording:
        tracker.begin(moment(recording.first))
        for at, readings in by_instant(recording.rows()):
            while given and given[0][0] <= at:
                when, _, command = given.pop(0)
                if isinstance(command, JobCommand):
                    tracker.command(command, moment(when))
                elif isinstance(command, Fact):
                    tracker.fact(command, moment(when))
            if stop is not None and at > stop:
                break
            tracker.observe_at(at, {tag: Input(value, bad=quality is Quality.BAD) for _, _, tag, value, quality in readings})
        tracker.advance(until or moment(recording.last + 60 * SECOND))
    return tracker


def _lines(name: str) -> list[str]:
    return [line for line in (EXAMPLE / name).read_text().splitlines() if line.strip()]


def save(state_dir: Path, *trackers: Tracker, center: WorkCenter | None = None) -> None:
    """As one commit of the recorder; `center` hears of the windows that the trackers' memory still has."""
    state_dir.mkdir(exist_ok=True)
    with closing(open_writer(state_dir / DATABASE)) as connection:
        migrate(connection)
        batch = Batch(snapshots={tracker.unit.name: tracker.snapshot() for tracker in trackers})
        if center is not None:
            for tracker in trackers:
                for window in tracker.machine.windows.closed:
                    center.closed(
                        WindowClosed(work_unit=tracker.unit.name, at=tracker.now, job_order_id=None, line=kpi_line(window, tracker.unit))
                    )
            batch.snapshots[center.key] = center.snapshot()
        write(connection, batch, total_bytes=0, recorded_at=0)


def remembered(folder: Path, *units: str, language: str = "en", until: datetime | None = None) -> tuple[Path, Path]:
    """(configuration, state directory) in `folder`; `units`: the machines that saw the example."""
    path = site(folder, language=language)
    config = load(path)
    save(folder / "state", *(play(config, unit, until=until) for unit in units))
    return path, folder / "state"
