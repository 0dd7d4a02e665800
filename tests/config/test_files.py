"""Several files, spreadsheets, secrets, and the YAML that is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivers.settings import Secret
from gateway.config import ConfigError, SecretError, check_secrets, load, read_secret
from gateway.config.yaml_tree import parse, plain
from tests.config.plant import BASE, loaded, problems, write

TAGS = BASE[BASE.index("    tags:\n") : BASE.index("  other:")]


def test_sections_of_an_included_file_join(tmp_path: Path) -> None:
    (tmp_path / "lines").mkdir()
    write(tmp_path / "lines", "devices: {third: {driver: modbus, url: 'tcp://192.0.2.3:502', tags: {a: {coil: 0}}}}\n", "more.yaml")
    write(tmp_path, "include: lines/more.yaml\njournal: {retention: 2d}\n", "site.yaml")
    config = loaded(tmp_path, "include: [site.yaml]\n" + BASE)
    assert list(config.devices) == ["plc", "other", "third"]
    assert config.journal.retention == 2 * 86400
    assert [path.name for path in config.files] == ["config.yaml", "site.yaml", "more.yaml"]


def test_the_digest_changes_with_every_file(tmp_path: Path) -> None:
    extra = write(tmp_path, "journal: {retention: 2d}\n", "site.yaml")
    before = loaded(tmp_path, "include: site.yaml\n" + BASE).digest
    assert load(tmp_path / "config.yaml").digest == before
    extra.write_text("journal: {retention: 3d}\n", encoding="utf-8")
    assert load(tmp_path / "config.yaml").digest != before


@pytest.mark.parametrize("separator", [",", ";"])
def test_tags_of_a_spreadsheet(tmp_path: Path, separator: str) -> None:
    rows = ["tag,holding,discrete,type,unit", "parts,100,,uint16,", "rejects,101,,uint32,C62", "", "running,,0,,"]
    (tmp_path / "tags.csv").write_text("\n".join(rows).replace(",", separator), encoding="utf-8-sig")
    config = loaded(tmp_path, BASE.replace(TAGS, "    tags_csv: tags.csv\n"))
    tags = config.devices["plc"].model_dump(include={"tags"}, exclude_defaults=True)["tags"]
    assert tags == {
        "parts": {"holding": 100, "type": "uint16"},
        "rejects": {"holding": 101, "type": "uint32", "unit": "C62"},
        "running": {"discrete": 0},
    }


def test_tags_of_both_places_join_and_double_ones_are_told(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("tag,coil\ndoor,3\n", encoding="utf-8")
    text = BASE.replace("    tags:\n", "    tags_csv: tags.csv\n    tags:\n", 1)
    assert "door" in loaded(tmp_path, text).devices["plc"].model_dump()["tags"]
    (tmp_path / "tags.csv").write_text("tag,coil\ndoor,3\nparts,4\ndoor,5\n,6\nx,7,8\n", encoding="utf-8")
    told = [(Path(p.file).name, p.line, p.text) for p in problems(write(tmp_path, text))]
    assert [(file, line) for file, line, _ in told] == [("tags.csv", 3), ("tags.csv", 4), ("tags.csv", 5), ("tags.csv", 6)]
    assert "config.yaml:8" in told[0][2]


def test_scalars_are_those_of_yaml_1_2() -> None:
    root, faults = parse("a: [13:00, 2026-12-25, no, 010, 0x1F, 0o17, 1_000, .5, 1e3, true, ~, 'true', 3.1.1, -.inf]", "f")
    assert not faults
    assert plain(root) == {"a": ["13:00", "2026-12-25", "no", 10, 31, 15, "1_000", 0.5, 1000.0, True, None, "true", "3.1.1", float("-inf")]}


BOMB = "a0: &a0 [1]\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 9))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a: &x [*x]", "alias repeats itself"),
        ("a: *x", "no anchor"),
        ("a: !!python/name:os.system x", "tag is not known"),
        ("<<: {a: 1}", "merge keys"),
        ("[1]: 2", "key must be a word"),
        ("a: [1", "this is not YAML"),
        ("a:\n\t- 1", "tab"),
        ("a: \x01", "does not allow"),
        (BOMB, "alias repeats itself"),
        ("a: " + "[" * 5000, "nested without an end"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(text: str, wrong: str) -> None:
    _, faults = parse(text, "f")
    assert [wrong in fault.text for fault in faults] == [True]


def test_aliases_are_read() -> None:
    root, faults = parse("a: &x {k: 1}\nb: *x", "f")
    assert not faults
    assert plain(root) == {"a": {"k": 1}, "b": {"k": 1}}


def test_names_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    config = loaded(tmp_path, BASE + "products: {4711: {recipe: 1}}\n")
    assert list(config.work_units["m-1"].products) == ["4711"]


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"gateway: \xff\xfe")
    assert "UTF-8" in problems(path)[0].text
    assert "cannot be read" in problems(tmp_path / "none.yaml")[0].text


SECRET = "uplinks: {erp: {type: http, url: 'https://erp.lan/x', token: {credential: erp}, tls: {ca: pki/ca.pem}}}\n"


def test_secrets_are_looked_for_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded(tmp_path, BASE + SECRET)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    with pytest.raises(ConfigError) as raised:
        check_secrets(config)
    told = {problem.path: problem for problem in raised.value.problems}
    assert set(told) == {"uplinks.erp.token", "uplinks.erp.tls.ca"}
    assert told["uplinks.erp.token"].value == "erp"
    assert told["uplinks.erp.token"].line == BASE.count("\n") + 1
    assert "LoadCredential=erp:" in told["uplinks.erp.token"].text
    (credentials / "erp").write_text("s3cret\n", encoding="utf-8")
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "ca.pem").write_text("-", encoding="utf-8")
    check_secrets(config)


def test_reading_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "mqtt").write_text("pass word\n", encoding="utf-8")
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    assert read_secret(Secret(credential="mqtt")) == "pass word"
    assert read_secret(Secret(file=str(tmp_path / "mqtt"))) == "pass word"
    for wrong in (Secret(credential="empty"), Secret(credential="none"), Secret(credential="../mqtt"), Secret(file=os.devnull)):
        with pytest.raises(SecretError, match="; "):
            read_secret(wrong)


def test_a_relative_secret_file_counts_from_its_own_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "token").write_text("t", encoding="utf-8")
    write(tmp_path / "sub", SECRET.replace("{credential: erp}", "{file: token}").replace(", tls: {ca: pki/ca.pem}", ""), "up.yaml")
    check_secrets(loaded(tmp_path, "include: sub/up.yaml\n" + BASE))


def test_one_wrong_entry_hides_no_other(tmp_path: Path) -> None:
    text = BASE.replace("tcp://192.0.2.1:502", "tpc://192.0.2.1:502").replace("reject: rejects", "reject: rejectz").replace("gw", "g w")
    assert [problem.path for problem in problems(write(tmp_path, text))] == [
        "gateway.id",
        "devices.plc.url",
        "work_units.m-1.counts.reject",
    ]


def test_the_word_that_chooses_a_model_is_not_taken_for_its_key(tmp_path: Path) -> None:
    text = BASE.replace("{from: bits, running: running}", "{from: codes, codes: {0: running}, tag: 'no tag', fault: state}")
    assert [problem.path for problem in problems(write(tmp_path, text))] == ["work_units.m-1.state.tag"]


@pytest.mark.parametrize(
    ("faults", "path", "wrong"),
    [
        ("[null]", "reasons.jam.faults.m-1[0]", "a whole number or text"),
        ("7", "reasons.jam.faults.m-1", "must be a list"),
        (f"[{10**30}]", "reasons.jam.faults.m-1[0]", "less than"),
    ],
)
def test_fault_codes_are_numbers_or_text(tmp_path: Path, faults: str, path: str, wrong: str) -> None:
    (problem,) = problems(write(tmp_path, BASE + f"reasons: {{jam: {{class: own, faults: {{m-1: {faults}}}}}}}\n"))
    assert problem.path == path
    assert wrong in problem.text or wrong in problem.expert
