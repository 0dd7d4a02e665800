"""How much a server is asked at once: its make, and what it announces."""

from __future__ import annotations

import pytest

from drivers.opcua_profiles import LIMIT_NODES, PROFILES, Limits


@pytest.mark.parametrize(
    ("profile", "announced", "found"),
    [
        ("generic", (None, None, None, None, None), (50, 50, 50, None)),
        ("generic", (0, 0, 0, 0, 0), (50, 50, 50, None)),
        ("generic", (100_000, 20, 300, None, 5_000), (500, 20, 300, 5_000)),
        ("s7-1200", (1_000, 1_000, None, None, None), (200, 200, 100, 1_000)),
        ("s7-1200", (50, 1_000, None, 500, 9_000), (50, 200, 100, 500)),
        ("s7-1500", (None, None, None, None, None), (200, 200, 200, 10_000)),
        ("kepware", ("many", -1, 60, None, None), (50, 50, 60, None)),
    ],
)
def test_the_smaller_of_profile_and_server_wins(
    profile: str, announced: tuple[object, ...], found: tuple[int, int, int, int | None]
) -> None:
    assert len(announced) == len(LIMIT_NODES)
    limits = Limits.announced(PROFILES[profile], announced)
    assert (limits.per_read, limits.per_monitor, limits.per_translate, limits.items) == found
    assert Limits.of(PROFILES[profile]).items == PROFILES[profile].items
