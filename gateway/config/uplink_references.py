"""Whether the uplinks fit the rest of the configuration and each other."""

from __future__ import annotations

from gateway.config.draft import Draft
from gateway.config.problems import nearest
from gateway.uplink.erp.files.settings import FilesSettings


def check_uplinks(draft: Draft) -> None:
    """Tell in `draft.problems` whatever does not fit."""
    _check_work_centers(draft)
    _check_folders(draft)


def _check_work_centers(draft: Draft) -> None:
    """Names of work units that an ERP's own names are given for."""
    units = draft.names("work_units")
    for name, settings in draft.uplinks.items():
        for unit in getattr(settings, "work_centers", {}):
            if units and unit not in units:
                path = ("uplinks", name, "work_centers", unit)
                draft.blame(path, f"there is no work unit of this name{nearest(unit, units)}", "not a key of `work_units`")


def _check_folders(draft: Draft) -> None:
    """Two ERPs in one folder would take each other's orders and number each other's confirmations."""
    taken: dict[str, tuple[str, str]] = {}
    for name, settings in draft.uplinks.items():
        if not isinstance(settings, FilesSettings):
            continue
        for field in ("inbox", "archive", "error", "outbox"):
            other, at = taken.setdefault(getattr(settings, field), (name, field))
            if other != name:
                draft.blame(("uplinks", name, field), f"it is the folder `{at}` of `{other}` too; give each its own", "one ERP a folder")
