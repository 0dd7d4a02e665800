"""The files of one configuration put together: `include:` and `tags_csv:`; every node still knows its file and line."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.problems import Problem, nearest
from gateway.config.yaml_tree import dotted, entries, mapping_node, parse, place, scalar_node, shown

CSV_NAME_COLUMN = "tag"


@dataclass
class Sources:
    """One tree of everything. `files` in reading order; `digest` changes with any byte of any of them.

    `readable` is False where a file could not be read as YAML at all, so that what is missing may stand in it; `untagged` are the
    devices whose tag list could not be read.
    """

    root: MappingNode
    readable: bool = True
    untagged: set[str] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def digest(self) -> str:
        """SHA-256 over the files' bytes, hexadecimal."""
        return self._hash.hexdigest()

    def read(self, path: Path, blame: Problem) -> str | None:
        """The text of a file, or None and `blame` with the reason added."""
        try:
            raw = path.read_bytes()
            text = raw.decode("utf-8-sig")
        except OSError as error:
            reason = f"{error.strerror}: {path}"
        except UnicodeDecodeError as error:
            reason = f"{path} is not UTF-8: {error.reason} at byte {error.start}"
        else:
            self.files.append(path)
            self._hash.update(raw)
            return text
        self.problems.append(Problem(blame.file, blame.line, blame.path, blame.value, blame.text, reason))
        return None


def gather(path: Path) -> Sources:
    """Read `path` and everything it includes. Never raises: what could not be read is in `problems`."""
    sources = Sources(mapping_node([], str(path), 1))
    blame = Problem(str(path), 1, "", "", "the file cannot be read; check its name and its rights, and that it is UTF-8 text", "")
    merged: dict[str, tuple[ScalarNode, Node]] = {}
    _take(path, blame, sources, merged, ())
    sources.root = mapping_node(list(merged.values()), str(path), 1)
    for name, (_, device) in entries(entries(sources.root).get("devices", (None, None))[1]).items():
        if isinstance(device, MappingNode):
            _take_tags(name, device, sources)
    return sources


def _take(path: Path, blame: Problem, sources: Sources, merged: dict[str, tuple[ScalarNode, Node]], above: tuple[Path, ...]) -> None:
    text = sources.read(path, blame)
    if text is None:
        sources.readable = False
        return
    root, problems = parse(text, str(path))
    sources.problems += problems
    if not root.value:
        sources.readable = False
    sections = entries(root)
    include = sections.pop("include", None)
    for name, (key, value) in sections.items():
        if name in merged:
            merged[name] = (merged[name][0], _joined(name, merged[name][1], value, key, sources))
        else:
            merged[name] = (key, value)
    if include is not None:
        _include(path, include, sources, merged, (*above, path.resolve()))


def _include(
    path: Path, include: tuple[ScalarNode, Node], sources: Sources, merged: dict[str, tuple[ScalarNode, Node]], above: tuple[Path, ...]
) -> None:
    node = include[1]
    items = node.value if isinstance(node, SequenceNode) else [node]
    for item in items:
        file, line = place(item)
        if not isinstance(item, ScalarNode) or not item.value:
            wrong = "`include` names files; write include: packer.yaml or include: [a.yaml, b.yaml]"
            sources.problems.append(Problem(file, line, "include", shown(item), wrong, "include: expected a string or a list of strings"))
            continue
        target = path.parent / item.value
        if target.resolve() in above:
            wrong = "this file includes itself, directly or through others; remove it"
            sources.problems.append(Problem(file, line, "include", item.value, wrong, f"include cycle at {target}"))
            continue
        wrong = "the included file cannot be read; check its name (it counts from the folder of this file) and its rights"
        _take(target, Problem(file, line, "include", item.value, wrong, ""), sources, merged, above)


def _joined(section: str, first: Node, second: Node, key: ScalarNode, sources: Sources) -> Node:
    """Two files' halves of one section; a name may stand in one of them only."""
    if not (isinstance(first, MappingNode) and isinstance(second, MappingNode)):
        file, line = place(key)
        other = ":".join(str(part) for part in place(first))
        sources.problems.append(
            Problem(file, line, section, shown(second), f"this section stands also in {other}; keep one of them", "cannot merge")
        )
        return first
    pairs = list(first.value)
    known = entries(first)
    for name, (name_key, value) in entries(second).items():
        if name in known:
            file, line = place(name_key)
            other = ":".join(str(part) for part in place(known[name][0]))
            wrong = f"this name stands also in {other}; keep one of them"
            sources.problems.append(Problem(file, line, dotted((section, name)), "", wrong, "defined in two files"))
        else:
            pairs.append((name_key, value))
    return mapping_node(pairs, *place(first))


def _take_tags(device: str, node: MappingNode, sources: Sources) -> None:
    """Replace `tags_csv: FILE` by the tags in it; they join those of `tags:`."""
    known = entries(node)
    if "tags_csv" not in known:
        return
    key, named = known["tags_csv"]
    file, line = place(key)
    where = dotted(("devices", device, "tags_csv"))
    node.value = [pair for pair in node.value if pair[0] is not key]
    if not isinstance(named, ScalarNode) or not named.value:
        sources.problems.append(
            Problem(file, line, where, shown(named), "`tags_csv` names one file; write tags_csv: packer.csv", "expected a string")
        )
        return
    path = Path(file).parent / named.value
    wrong = "the tag list cannot be read; check its name (it counts from the folder of this file), and that it is UTF-8 text"
    text = sources.read(path, Problem(file, line, where, named.value, wrong, ""))
    told = len(sources.problems)
    pairs = [] if text is None else _tags_of_csv(text, str(path), where, sources)
    if text is None or len(sources.problems) > told:
        sources.untagged.add(device)
    listed = known.get("tags")
    if listed is None:
        node.value.append((scalar_node("tags", file, line), mapping_node(pairs, file, line)))
    elif isinstance(listed[1], MappingNode):
        joined = _joined(dotted(("devices", device, "tags")), listed[1], mapping_node(pairs, str(path), 1), key, sources)
        node.value = [(k, joined if k is listed[0] else v) for k, v in node.value]


def _tags_of_csv(text: str, file: str, where: str, sources: Sources) -> list[tuple[Node, Node]]:
    """One tag a row: the column `tag` is its name, every other column a key of the tag; an empty cell is left out."""
    lines = text.splitlines()
    # A spreadsheet set to French writes semicolons.
    delimiter = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        wrong = "this line cannot be read; save the list as CSV again, and look for a quote that is not closed"
        sources.problems.append(Problem(file, reader.line_num, where, "", wrong, str(error)))
        return []
    header = rows.pop(0)[1] if rows else []
    if CSV_NAME_COLUMN not in header:
        wrong = f"the first line has no column `{CSV_NAME_COLUMN}`; begin the file with a line such as tag,holding,type,unit"
        sources.problems.append(
            Problem(file, 1, where, ",".join(header)[:60], wrong, f"columns are {header}{nearest(CSV_NAME_COLUMN, header)}")
        )
        return []
    pairs: list[tuple[Node, Node]] = []
    lines_of: dict[str, int] = {}
    for line, cells in rows:
        if not any(cells):
            continue
        if len(cells) > len(header):
            wrong = f"this row has {len(cells)} cells and the first line {len(header)}; quote a cell that holds a separator"
            sources.problems.append(Problem(file, line, where, delimiter.join(cells)[:60], wrong, f"csv, delimiter {delimiter!r}"))
            continue
        tag = dict(zip(header, cells, strict=False))
        name = tag.pop(CSV_NAME_COLUMN, "")
        keys: list[tuple[Node, Node]] = [(scalar_node(k, file, line), scalar_node(v, file, line)) for k, v in tag.items() if v]
        if not name or name in lines_of:
            wrong = (
                f"tag `{name}` stands also in line {lines_of[name]}; keep one of them"
                if name
                else "this row has no tag name; fill in the column `tag`"
            )
            sources.problems.append(Problem(file, line, where, name, wrong, "duplicate or empty tag name"))
            continue
        lines_of[name] = line
        pairs.append((scalar_node(name, file, line), mapping_node(keys, file, line)))
    return pairs
