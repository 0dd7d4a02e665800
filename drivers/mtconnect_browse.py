"""Looking around in an MTConnect agent: its data items with what stands in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from drivers.base import Found, Raw, TagError
from drivers.mtconnect import MTConnectDriver, Observation


class MTConnectExplorer(MTConnectDriver):
    """Satisfies `drivers.base.Explorer`."""

    async def browse(self, path: str, told: Callable[[str], None]) -> AsyncIterator[Sequence[Found]]:
        """The data items as `Execution/exec` (kind and id), of a condition `Condition/id`; with a path those that begin with it."""
        document = await self._ask("current")
        if document.error:
            raise TagError(f"the agent answered {document.error}")
        latest = {seen.data_item: seen for seen in document.observations}
        found = sorted((_found(seen) for seen in latest.values()), key=lambda one: one.path)
        begins = path.casefold()
        wanted = [one for one in found if any(word.casefold().startswith(begins) for word in (one.path, *one.tag.values()))]
        if not wanted:
            raise TagError(f"the agent has no data item that begins with {path}; leave the path out to see all {len(found)}")
        told(f"{len(wanted)} data items")
        yield wanted

    async def inspect(self, tags: Sequence[str]) -> Sequence[Raw]:
        document = await self._ask("current")
        latest = {seen.data_item: seen for seen in document.observations}
        readings = self._present(tags, document)
        return [Raw(reading, _told(latest.get(self._settings.tags[reading.tag].data_item))) for reading in readings]


def _found(seen: Observation) -> Found:
    kind = "Condition" if seen.is_condition else seen.kind
    value = f"{seen.kind} {seen.code}".strip() if seen.is_condition else seen.text or ""
    if seen.text is None:
        return Found(f"{kind}/{seen.data_item}", {}, "set", "r", "", "a set of values cannot be a tag")
    return Found(f"{kind}/{seen.data_item}", {"data_item": seen.data_item}, "text", "r", value)


def _told(seen: Observation | None) -> str:
    return "" if seen is None else f"{seen.kind} {seen.text or seen.code} #{seen.sequence}"
