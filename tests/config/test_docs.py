"""docs/configuration.md names every key, its examples load, and its defaults are the models'."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gateway.config import config_schema

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def every_key() -> set[str]:
    schema: dict[str, Any] = config_schema()
    models = [schema, *schema["$defs"].values()]
    return {key for model in models for key in model.get("properties", {})}


def test_every_key_is_explained() -> None:
    code = " ".join(re.findall(r"`([^`]+)`", TEXT)) + " ".join(re.findall(r"(?m)^    .*$", TEXT))
    missing = {key for key in every_key() if not re.search(rf"\b{key}\b", code)}
    assert not missing


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target


def test_defaults_are_those_of_the_models() -> None:
    rows = re.findall(r"(?m)^\| `(?:[a-z_]+\.)?([a-z_]+)` \| `([^`]+)` \|", TEXT)
    assert len(rows) >= 20
    schema = config_schema()
    defaults: dict[str, set[str]] = {}
    for model in schema["$defs"].values():
        for key, field in model.get("properties", {}).items():
            if "default" in field:
                value = field["default"]
                defaults.setdefault(key, set()).add(
                    str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
                )
    wrong = {(key, told) for key, told in rows if key in defaults and told not in defaults[key]}
    assert not wrong
