"""The real Tryton server as a process of its own, over SQLite or PostgreSQL. Its code is never imported here.

The data base of the tests is made once (a minute) and kept beside Tryton's virtual environment, under the content of what made it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from simulators.loopback import HOST, free_port
from tests.erp_tryton import client
from tests.erp_tryton import seed as seeding
from tests.system.line import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".venv-tryton"
LOCK = Path(__file__).with_name("requirements.txt")
MODULES = ("production_work", "production_routing", "quality", "stock_lot", "sale_supply_production")
DATABASE = "lineside"
_START_S = 60.0


class MissingTrytonError(Exception):
    """Tryton is not installed; says what to do. A test then fails: it never skips."""


class Tryton:
    """One server. `start` after `kill` comes back on the same port with its books."""

    def __init__(self, folder: Path, database_uri: str) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._folder = folder
        self._log = folder / "trytond.log"
        self._configuration = folder / "trytond.conf"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["[database]", f"uri = {database_uri}", f"path = {folder}", "[web]", f"listen = {HOST}:{self.port}"]
        lines += ["[session]", "max_age = 86400", "timeout = 86400", ""]
        self._configuration.write_text("\n".join(lines))

    def update(self, *modules: str) -> None:
        """Make the tables of an empty data base."""
        password = self._folder / "password"
        password.write_text(seeding.ADMINISTRATOR[1])
        command = [_program("trytond-admin"), "-c", str(self._configuration), "-d", DATABASE, "-u", *modules]
        command += ["--activate-dependencies", "-l", "en", "--email", "nobody@example.org"]
        with self._log.open("ab") as log:
            environment = {**os.environ, "TRYTONPASSFILE": str(password)}
            subprocess.run(command, check=True, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, timeout=600)

    def start(self) -> None:
        """Returns when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program("trytond"), "-c", str(self._configuration), "-d", DATABASE],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"trytond does not answer:\n{self.log()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to its whole group; it may be gone already."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def seat(self, user: tuple[str, str]) -> client.Seat:
        return client.Seat(self.url, DATABASE, *user)

    def log(self) -> str:
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-40:]) if self._log.exists() else ""

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/{DATABASE}/rpc/", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code < 500
        except OSError:
            return False


def _program(name: str) -> str:
    program = HOME / "bin" / name
    if not program.exists():
        raise MissingTrytonError("Tryton is not installed for the tests: run `make tryton`")
    return str(program)


def template() -> Path:
    """The folder of a seeded SQLite data base, made where it is not there yet; several test processes may ask at once."""
    return _made("seeded", _seed, LOCK, Path(seeding.__file__), Path(client.__file__))


def _empty() -> Path:
    """The same with tables alone: what takes half a minute, and changes with Tryton's version only."""
    return _made("empty", _make_tables, LOCK)


def _made(kind: str, make: Callable[[Path], None], *sources: Path) -> Path:
    _program("trytond")
    digest = hashlib.sha256(repr(MODULES).encode())
    for file in sources:
        digest.update(file.read_bytes())
    folder = HOME / "base" / f"{kind}-{digest.hexdigest()[:16]}"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "made").touch()
    return folder


def _make_tables(folder: Path) -> None:
    (folder / f"{DATABASE}.sqlite").touch()
    Tryton(folder, "sqlite://").update(*MODULES)


def _copy(source: Path, folder: Path) -> None:
    """Through SQLite: a killed server leaves part of its data base in the write-ahead log."""
    with closing(sqlite3.connect(source / f"{DATABASE}.sqlite")) as old, closing(sqlite3.connect(folder / f"{DATABASE}.sqlite")) as new:
        old.backup(new)


def _seed(folder: Path) -> None:
    _copy(_empty(), folder)
    with _running(Tryton(folder, "sqlite://")) as server:
        seeding.seed(server.seat(seeding.ADMINISTRATOR))


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Tryton]:
    """A running server with a data base of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    _copy(template(), folder)
    with _running(Tryton(folder, "sqlite://")) as server:
        yield server


# --- PostgreSQL --------------------------------------------------------------------------------------------------------


class Cluster:
    """A PostgreSQL of its own below `folder`, which its user must be able to reach: the server refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not programs:
            raise MissingTrytonError("PostgreSQL is not installed for the tests: apt-get install postgresql")
        self._programs = programs[-1]
        self._folder = folder
        self._data = folder / "data"
        self._port = free_port()

    @property
    def uri(self) -> str:
        return f"postgresql://postgres@{HOST}:{self._port}/"

    def create(self) -> None:
        """An empty cluster with an empty data base, running."""
        self._give_away()
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        self.start()
        self._run("createdb", "-h", HOST, "-p", str(self._port), "-U", "postgres", DATABASE)

    def copy_from(self, template: Path) -> None:
        shutil.copytree(template / "data", self._data)
        self._data.chmod(0o700)
        self._give_away()

    def start(self) -> None:
        # The books of a test need not survive a power cut of the machine it runs on.
        options = f"-F -p {self._port} -c listen_addresses={HOST} -c unix_socket_directories={self._folder}"
        self._run("pg_ctl", "start", "-w", "-t", "60", "-D", str(self._data), "-l", str(self._folder / "postgres.log"), "-o", options)

    def stop(self) -> None:
        """It may be stopped already."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self._data))

    def _give_away(self) -> None:
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "postgres", str(self._folder)], check=True)

    def _run(self, program: str, *arguments: str) -> None:
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*user, str(self._programs / program), *arguments]
        with (self._folder / "commands.log").open("ab") as log:
            subprocess.run(command, check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=120)


def _make_cluster(folder: Path) -> None:
    with _beside() as work:
        cluster = Cluster(work)
        try:
            cluster.create()
            server = Tryton(folder, cluster.uri)
            server.update(*MODULES)
            with _running(server):
                seeding.seed(server.seat(seeding.ADMINISTRATOR))
        finally:
            cluster.stop()
        shutil.copytree(work / "data", folder / "data")


@contextmanager
def _beside() -> Iterator[Path]:
    """A folder that the user of PostgreSQL can reach, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="lineside-postgres-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def on_postgres(folder: Path) -> Iterator[Tryton]:
    """A running server with a cluster of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    template = _made("postgres", _make_cluster, LOCK, Path(seeding.__file__), Path(client.__file__))
    with _beside() as work:
        cluster = Cluster(work)
        cluster.copy_from(template)
        try:
            cluster.start()
            with _running(Tryton(folder, cluster.uri)) as server:
                yield server
        finally:
            cluster.stop()


@contextmanager
def _running(server: Tryton) -> Iterator[Tryton]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


if __name__ == "__main__":
    print(template())
