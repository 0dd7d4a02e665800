"""Room set aside: with a full disk SQLite can neither commit nor delete, so a file that can be given up keeps the journal writing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LARGEST = 32_000_000
SHARE = 0.05
"""Of the file system: a small one must not be half ballast."""
LOW = 2
"""Space is low below this many times the ballast's size; laid again, once given up, above one more."""


class Ballast:
    """One file of min(32 MB, 5 % of the file system) in the state directory. Its methods block: they run in a thread."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "ballast"

    def survey(self) -> bool:
        """True while space is low. Lays the ballast where it is missing and there is room for it."""
        try:
            system = os.statvfs(self._path.parent)
        except OSError:
            return True
        free = system.f_bavail * system.f_frsize
        size = min(LARGEST, int(system.f_blocks * system.f_frsize * SHARE))
        if self._path.exists():
            return free < LOW * size
        return free < (LOW + 1) * size or not self._lay(size)

    def release(self) -> bool:
        """Give the room up; False when there was none, or nothing can be changed."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def _lay(self, size: int) -> bool:
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except OSError:
            return False
        try:
            os.posix_fallocate(handle, 0, max(size, 1))
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()
            return False
        finally:
            os.close(handle)
        return True
