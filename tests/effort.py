"""How often a random test is tried: a little in `make check`, more in `make test`, in full in `make system`."""

from __future__ import annotations

from typing import Any

import pytest


def efforts(name: str, quick: Any, more: Any, thorough: Any) -> pytest.MarkDecorator:
    """Parametrize `name` with three values: one for each command."""
    return pytest.mark.parametrize(
        name,
        [
            pytest.param(quick, id="quick"),
            pytest.param(more, id="more", marks=pytest.mark.slow),
            pytest.param(thorough, id="thorough", marks=pytest.mark.thorough),
        ],
    )
