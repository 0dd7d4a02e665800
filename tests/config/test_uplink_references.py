from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import ConfigError, load
from tests.config.plant import BASE, write

FILES = "{type: files, inbox: in, archive: ar, error: er, outbox: out, format: csv"


@pytest.mark.parametrize(
    ("uplinks", "at", "said"),
    [
        (f"  erp: {FILES}, work_centers: {{m-7: PRESSE}}}}\n", "uplinks.erp.work_centers.m-7", "there is no work unit of this name"),
        (f"  erp: {FILES}}}\n  second: {FILES.replace('in,', 'in2,').replace('ar,', 'ar2,').replace('er,', 'er2,')}}}\n",
         "uplinks.second.outbox", "it is the folder `outbox` of `erp` too; give each its own"),
        (f"  erp: {FILES.replace('ar,', 'in,')}}}\n", "uplinks.erp.archive", "it is the same folder as `inbox`; give each its own"),
        (f"  erp: {FILES.replace('csv', 'b2mml-xml')}, csv: {{decimal: ','}}}}\n", "uplinks.erp.csv", "only CSV files have columns"),
    ],
)  # fmt: skip
def test_uplinks_that_do_not_fit(tmp_path: Path, uplinks: str, at: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, f"{BASE}uplinks:\n{uplinks}"))
    assert [problem.path for problem in caught.value.problems] == [at]
    assert said in caught.value.problems[0].text


def test_two_erps_with_folders_of_their_own(tmp_path: Path) -> None:
    other = FILES.replace("in,", "in2,").replace("ar,", "ar2,").replace("er,", "er2,").replace("out,", "out2,")
    config = load(write(tmp_path, f"{BASE}uplinks:\n  erp: {FILES}, work_centers: {{m-1: PRESSE}}}}\n  second: {other}}}\n"))
    assert sorted(config.uplinks) == ["erp", "second"]
