"""Browse paths to node ids (TranslateBrowsePathsToNodeIds, OPC 10000-4): a companion specification fixes names, each server its ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asyncua import ua
from asyncua.client.ua_session import UaSession

from drivers.opcua_paths import numbered, parse_path
from drivers.opcua_values import resolve, status_name

ROOT = "i=84"
"""Where a path starts that no node is given for."""

_HIERARCHICAL = ua.NodeId.from_string("i=33")
_WHOLE_PATH = 0xFFFFFFFF


class PathBook:
    """The tags of a device that are given by a browse path."""

    def __init__(self, paths: Mapping[str, tuple[str | None, str]]) -> None:
        """`paths`: tag -> (node that the path starts at, or None for the root folder; path)."""
        self._paths = {tag: (node or ROOT, parse_path(path), path) for tag, (node, path) in paths.items()}

    def __contains__(self, tag: str) -> bool:
        return tag in self._paths

    def __len__(self) -> int:
        return len(self._paths)

    async def translate(self, session: UaSession, namespaces: Sequence[str], per_call: int) -> tuple[dict[str, ua.NodeId], dict[str, str]]:
        """Tag -> node id, and tag -> why there is none. May raise what asyncua raises."""
        nodes: dict[str, ua.NodeId] = {}
        refused: dict[str, str] = {}
        asked: list[tuple[str, ua.BrowsePath]] = []
        for tag, (start, steps, path) in self._paths.items():
            node = resolve(start, namespaces)
            names = numbered(steps, namespaces)
            if node is None:
                refused[tag] = f"BadNodeIdUnknown: the server has no namespace of {start}"
            elif isinstance(names, str):
                refused[tag] = f"BadNoMatch: the server has no namespace {names} (path {path})"
            else:
                asked.append((tag, _browse_path(node, names)))
        for start_at in range(0, len(asked), per_call):
            chunk = asked[start_at : start_at + per_call]
            results = await session.translate_browsepaths_to_nodeids([path for _, path in chunk])
            for (tag, _), result in zip(chunk, results, strict=True):
                target = next((t.TargetId for t in result.Targets or () if t.RemainingPathIndex == _WHOLE_PATH), None)
                if result.StatusCode.is_good() and target is not None:
                    nodes[tag] = ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)
                else:
                    refused[tag] = f"{status_name(int(result.StatusCode.value) or 0x806F0000)}: no node at path {self._paths[tag][2]}"
        return nodes, refused


def _browse_path(node: ua.NodeId, names: Sequence[tuple[int, str]]) -> ua.BrowsePath:
    path = ua.RelativePath(Elements=[_element(index, name) for index, name in names])
    return ua.BrowsePath(StartingNode=node, RelativePath=path)


def _element(index: int, name: str) -> ua.RelativePathElement:
    element = ua.RelativePathElement(ReferenceTypeId=_HIERARCHICAL, TargetName=ua.QualifiedName(name, index))
    # asyncua's Boolean is a mark in its annotations; the values are plain.
    element.IsInverse = False  # type: ignore[assignment]
    element.IncludeSubtypes = True  # type: ignore[assignment]
    return element
