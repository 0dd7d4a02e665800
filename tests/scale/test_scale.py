"""The same as `make scale`, smaller."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scale.run import failures, first_values, measure, table

pytestmark = [pytest.mark.system, pytest.mark.alone]


def test_thousands_of_tags_are_read_in_time_and_the_first_thousand_at_once(tmp_path: Path) -> None:
    first = first_values(tmp_path)
    load = measure(2000, 4000, 10.0, tmp_path)
    print(*table(first, load), sep="\n")
    assert list(failures(first, load)) == []
