"""How the tests run: the same random inputs each time, the longest files first."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy, and a run that fails must fail again: no deadline per input, no inputs of the day. Other inputs than those of
# every other run: pytest --hypothesis-profile=search.
settings.register_profile("house", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

_LONG = ("erp_tryton", "system", "chaos", "fuzz", "app", "uplink", "domain", "drivers")
"""Folders whose tests take longest, first: a long one that is begun last runs alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("thorough"):
            item.add_marker(pytest.mark.system)
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """The order of items within a file, and of files within a folder, stays."""
    folder = Path(item.path).relative_to(Path(__file__).parent).parts[0]
    return _LONG.index(folder) if folder in _LONG else len(_LONG)
