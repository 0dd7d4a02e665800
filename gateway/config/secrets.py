"""Secrets and other files that the configuration names: read when a link opens, looked for by `lineside check` and at the start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from drivers.settings import OnDisk, Secret
from gateway.config.draft import Draft
from gateway.config.load import Config
from gateway.config.problems import ConfigError
from gateway.config.yaml_tree import Path

CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
"""Set by systemd for a unit with LoadCredential=; the files in it carry the credentials' names."""


class SecretError(Exception):
    """A secret cannot be read. The message is one sentence: what is wrong; what to do. `expert` says it in the system's terms."""

    def __init__(self, message: str, expert: str) -> None:
        super().__init__(message)
        self.expert = expert


def read_secret(secret: Secret) -> str:
    """The secret without its last line break. Raises SecretError."""
    if secret.file is not None:
        return _read(FilePath(secret.file), "the file of this secret cannot be read; create it or correct its name and rights")
    name = secret.credential or ""
    folder = os.environ.get(CREDENTIALS_DIRECTORY)
    if folder is None:
        raise SecretError(
            f"the credential `{name}` is missing, this process is given none; run it as the systemd service, "
            f"or set {CREDENTIALS_DIRECTORY} to a folder with a file {name}",
            f"${CREDENTIALS_DIRECTORY} is not set",
        )
    if "/" in name or name in ("", ".", ".."):
        raise SecretError("a credential is a file name without folders; rename it", f"credential name {name!r}")
    remedy = f"add LoadCredential={name}:/etc/lineside/credentials/{name} to the service and create that file"
    return _read(FilePath(folder) / name, f"the credential `{name}` is missing; {remedy}")


def _read(path: FilePath, wrong: str) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SecretError(wrong, f"{error.strerror}: {path}") from None
    except UnicodeDecodeError as error:
        raise SecretError("this secret is not text; save it as UTF-8", f"{error.reason} at byte {error.start}: {path}") from None
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise SecretError("this secret is empty; write it into its file", f"0 bytes: {path}")
    return secret


def check_secrets(config: Config) -> None:
    """Look whether every secret and every other file that devices and uplinks name can be read. Raises ConfigError with all that cannot."""
    draft = Draft(config.tree)
    for section, entries in (("devices", config.devices), ("uplinks", config.uplinks)):
        for name, settings in entries.items():
            for path, named in _named_files(settings, (section, name)):
                if isinstance(named, Secret):
                    try:
                        read_secret(named)
                    except SecretError as error:
                        draft.blame(path, str(error), error.expert, value=named.credential or named.file or "")
                elif not os.access(named, os.R_OK):
                    draft.blame(
                        path, "this file cannot be read; create it or correct its name and rights", f"no readable file {named}", value=named
                    )
    if draft.problems:
        raise ConfigError(draft.problems)


def _named_files(settings: BaseModel, path: Path) -> Iterator[tuple[Path, Secret | str]]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        below = (*path, field.alias or name)
        if isinstance(value, Secret):
            yield below, value
        elif isinstance(value, BaseModel):
            yield from _named_files(value, below)
        elif isinstance(value, str) and _is_on_disk(field):
            yield below, value


def _is_on_disk(field: FieldInfo) -> bool:
    """Whether the field is a file name; the mark of an optional one sits inside the union with None."""
    marks = [*field.metadata, *(mark for kind in get_args(field.annotation) for mark in getattr(kind, "__metadata__", ()))]
    return any(isinstance(mark, OnDisk) for mark in marks)
