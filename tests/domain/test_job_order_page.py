"""docs/job-orders.md shows the transition table that the ledger executes."""

from __future__ import annotations

from pathlib import Path

from gateway.domain.ledger import transition_table

PAGE = Path(__file__).parents[2] / "docs" / "job-orders.md"
_STATES = {"(none)": "[*]", "(removed)": "[*]"}


def diagram() -> str:
    """The table as a Mermaid state diagram, verbs that join the same two states on one arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for source, verb, target in transition_table():
        arrows.setdefault((_STATES.get(source, source), _STATES.get(target, target)), []).append(verb)
    lines = [f"    {source} --> {target}: {', '.join(verbs)}" for (source, target), verbs in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def test_the_page_shows_the_table_of_the_code() -> None:
    assert diagram() in PAGE.read_text(encoding="utf-8"), f"put this into {PAGE.name}:\n{diagram()}"
