"""The calls that touch a shared folder, each one a step that a crash can separate from the next.

Blocking, one after the other: a share that hangs may hold a thread, never the event loop, and a late call never overtakes a new one.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True)
class Found:
    """An entry of a folder. Equal as long as nobody wrote to it or put another one in its place."""

    name: str
    kind: Kind
    size: int
    changed_ns: int
    inode: int


class Disk:
    """The real thing. A test puts its faults between the steps by overriding them."""

    def look(self, folder: Path) -> list[Found]:
        """Entries by name; one that goes away meanwhile is left out. Raises OSError."""
        found = []
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found.append(Found(entry.name, _kind(status.st_mode), status.st_size, status.st_mtime_ns, status.st_ino))
        return sorted(found, key=lambda each: each.name)

    def exists(self, path: Path) -> bool:
        """Whether there is an entry of this name, whatever it is. Raises OSError when the folder cannot be asked."""
        try:
            path.lstat()
        except FileNotFoundError:
            return False
        return True

    def read(self, path: Path, limit: int) -> bytes:
        """At most `limit` bytes and one more, so that a longer file shows. Never follows a link. Raises OSError."""
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(limit + 1)

    def write(self, path: Path, data: bytes) -> None:
        """The whole file, on disk when this returns. Raises OSError."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o664), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.sync(path.parent)

    def move(self, source: Path, target: Path) -> None:
        """Rename within one file system, on disk when this returns. Raises OSError."""
        self.rename(source, target)
        self.sync(target.parent)
        if source.parent != target.parent:
            self.sync(source.parent)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def sync(self, folder: Path) -> None:
        """What was created, renamed and removed in `folder` outlives a power cut, where the file system can say so: SMB cannot."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(handle)

    def make(self, folder: Path) -> None:
        """One that an administrator makes with sudo is as open as the folder around it, else the service could not use it."""
        if folder.is_dir():
            return
        folder.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            around = folder.parent.stat()
            with suppress(PermissionError):
                os.chown(folder, around.st_uid, around.st_gid)
                folder.chmod(stat.S_IMODE(around.st_mode))

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.FOLDER
    return Kind.LINK if stat.S_ISLNK(mode) else Kind.OTHER
