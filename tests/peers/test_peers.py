"""The peers from npm: pinned, and said when they are missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.peers import FOLDER, MissingPeerError, peer


def test_each_package_is_pinned_with_its_hash_and_no_address() -> None:
    wanted = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    packages = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert [name for name, entry in packages.items() if name and not entry.get("integrity", "").startswith("sha512-")] == []
    assert [name for name, entry in packages.items() if "resolved" in entry] == []


def test_none_of_them_asks_for_a_newer_node_than_debian_12_has() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    too_new = {
        name: entry["engines"]["node"]
        for name, entry in packages.items()
        if any(f">={major}" in entry.get("engines", {}).get("node", "").replace(" ", "") for major in range(19, 40))
    }
    assert too_new == {}


def test_a_missing_peer_is_said_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingPeerError, match="make peers"):
        peer("opcua_server.js", folder=tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPeerError, match="apt-get install nodejs npm"):
        peer("opcua_server.js")


@pytest.mark.slow
def test_the_peers_are_there() -> None:
    assert Path(peer("opcua_server.js", "4840")[1]).is_file()
