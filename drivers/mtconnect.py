"""MTConnect agents over HTTP: `current` for what stands, then `sample` from the next sequence number on, so that no change is missed.

Sources: the standard's model, https://model.mtconnect.org, and the Institute's own agent, https://github.com/mtconnect/cppagent
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self
from urllib.parse import quote, urlsplit
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import ParseError, fromstring
from pydantic import Field, model_validator

from drivers import remedies
from drivers.base import Clock, Concern, Quality, Reading, TagError, Value
from drivers.deadband import ChangeFilter
from drivers.settings import COUNTER_TYPES, DeviceSettings, FieldError, IntegerType, Name, Secret, TagSettings
from drivers.values import InvalidValues, from_text

if TYPE_CHECKING:
    from aiohttp import ClientSession

COUNT = 2000  # observations in one response; while there are more, the next request follows at once
LARGEST = 8 * 1024 * 1024  # bytes of a document: some thirty thousand observations

_ADDRESS = re.compile(r"https?://[^/@?#\s]+(/[^@?#\s]*)?")


class MTConnectTag(TagSettings):
    """One data item by its id in the agent's `probe`. `type`: what its text must be, without one a number or text; of a counter, where
    it rolls over. A condition is the native code of its fault, empty while there is none."""

    data_item: str = Field(min_length=1, max_length=256)
    type: IntegerType | Literal["float32", "float64", "bool", "string"] | None = None


class MTConnectSettings(DeviceSettings):
    """An agent, or with `device` one of its machines by name or uuid: `http://192.168.10.30:5000`."""

    driver: Literal["mtconnect"]
    url: str
    device: str | None = Field(default=None, min_length=1)
    tags: dict[Name, MTConnectTag] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not _ADDRESS.fullmatch(self.url):
            raise FieldError(f"{self.url!r} is no address of an agent; write http://192.168.10.30:5000", "url")
        writable = next((name for name, tag in self.tags.items() if tag.writable), None)
        if writable is not None:
            raise FieldError("an MTConnect agent can only be read; remove writable", "tags", writable, "writable")
        return self

    @property
    def peer(self) -> str:
        return f"MTConnect {urlsplit(self.url).netloc} {self.device or ''}".strip()

    def counter_type(self, tag: str) -> tuple[int, bool] | None:
        """(bits, signed) where the tag says its type; None: a decrease means a reset."""
        return COUNTER_TYPES.get(self.tags[tag].type or "")


class Observation(NamedTuple):
    """One value. `text` None: several in one. `kind`: its element, of a condition Normal, Warning, Fault or Unavailable."""

    sequence: int
    data_item: str
    text: str | None
    at: datetime
    kind: str
    is_condition: bool
    code: str


class Document(NamedTuple):
    """A streams document, its observations in sequence; or with `error` what the agent refused."""

    instance: str
    next: int = 0
    last: int = 0
    observations: Sequence[Observation] = ()
    error: str = ""


class MTConnectDriver:
    """Satisfies `drivers.base.Driver`, `Subscribing`, `Refusing` and `Watching`."""

    def __init__(
        self, settings: MTConnectSettings, clock: Clock, *, name: str, secrets: Callable[[Secret], str], state_dir: Path | None = None
    ) -> None:
        self._settings, self._clock = settings, clock
        self._base = f"{settings.url.rstrip('/')}/{quote(settings.device or '', safe='')}".rstrip("/")
        self._http: ClientSession | None = None
        self._tags_of: dict[str, list[str]] = {}
        for tag, found in settings.tags.items():
            self._tags_of.setdefault(found.data_item, []).append(tag)
        self._faults: dict[str, dict[str, str]] = {}
        self.refused: Mapping[str, str] = {}
        self._invalid = InvalidValues()
        self.incidents = {"gap": 0, "restart": 0, "invalid_value": 0}
        """`gap`: the agent had forgotten changes before they were fetched; `restart`: it began anew."""

    @property
    def concerns(self) -> Mapping[str, Concern]:
        values = self._invalid.concern(self._clock.monotonic())
        return {} if values is None else {"values": values}

    async def connect(self) -> None:
        # A configuration is read without loading the HTTP stack.
        from aiohttp import ClientSession

        self._http = ClientSession()
        try:
            await self._ask("current")
        except BaseException:
            await self.close()
            raise

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        return self._present(tags, await self._ask("current"))

    async def subscribe(self, tags: Sequence[str]) -> AsyncIterator[Sequence[Reading]]:
        news = ChangeFilter({tag: self._settings.tags[tag].deadband for tag in tags})
        known, is_all = await self._ask("current"), True
        yield news.changed(self._present(tags, known))
        while True:
            if is_all:
                await self._clock.sleep(self._settings.interval)
            found = await self._ask(f"sample?from={known.next}&count={COUNT}")
            if found.error or found.instance != known.instance:
                # OUT_OF_RANGE: the buffer has moved on; another instance: sequence numbers began anew. What stands now is complete.
                self.incidents["gap" if found.instance == known.instance else "restart"] += 1
                known, is_all = await self._ask("current"), True
                yield news.changed(self._present(tags, known))
                continue
            known, is_all = found, not known.next < found.next <= found.last
            for batch in self._batches(tags, found):
                yield news.changed(batch)

    def _batches(self, tags: Sequence[str], document: Document) -> list[list[Reading]]:
        """In the order things happened, no tag twice in a batch; one empty batch for nothing: the agent is alive."""
        received_at, wanted = self._clock.now(), set(tags)
        batches: list[dict[str, Reading]] = [{}]
        for seen in document.observations:
            for tag in wanted.intersection(self._tags_of.get(seen.data_item, ())):
                if tag in batches[-1]:
                    batches.append({})
                batches[-1][tag] = self._reading(tag, seen, received_at)
        return [list(batch.values()) for batch in batches]

    def _present(self, tags: Sequence[str], document: Document) -> list[Reading]:
        self._faults.clear()
        found = {reading.tag: reading for batch in self._batches(tags, document) for reading in batch}
        told = document.error or "the agent has no data item of this id"
        self.refused = {tag: told for tag in tags if tag not in found}
        return [found.get(tag) or Reading(tag, None, Quality.BAD, None, self._clock.now(), told) for tag in tags]

    def _reading(self, tag: str, seen: Observation, received_at: datetime) -> Reading:
        settings = self._settings.tags[tag]
        value: Value = None
        if seen.text == "UNAVAILABLE" or seen.kind == "Unavailable":
            self._faults.pop(tag, None)
            detail = "UNAVAILABLE"
        elif seen.text is None:
            detail = "a set of values cannot be a tag"
        elif seen.is_condition:
            value, detail = self._fault(tag, seen), ""
        else:
            value, detail = from_text(seen.text, settings, settings.type)
            if detail:
                self._invalid.note(tag, detail, self._clock.monotonic())
                self.incidents["invalid_value"] += 1
        return Reading(tag, value, Quality.BAD if value is None else Quality.GOOD, seen.at, received_at, detail)

    def _fault(self, tag: str, seen: Observation) -> str:
        """The code of the oldest fault that stands. Several may; a Normal clears the one of its code, without a code all."""
        standing = self._faults.setdefault(tag, {})
        if seen.kind == "Fault":
            standing.setdefault(seen.code, seen.code or "Fault")
        else:
            for code in [seen.code] if seen.code or seen.kind == "Warning" else list(standing):
                standing.pop(code, None)
        return next(iter(standing.values()), "")

    async def _ask(self, request: str) -> Document:
        from aiohttp import ClientConnectorError, ClientError

        peer = self._settings.peer
        if self._http is None:
            raise remedies.dropped(peer, "not connected")
        url, body = f"{self._base}/{request}", bytearray()
        try:
            async with self._clock.timeout(self._settings.timeout), self._http.get(url, allow_redirects=False) as response:
                async for part in response.content.iter_any():
                    body += part
                    if len(body) > LARGEST:
                        raise ValueError(f"a document of more than {LARGEST} bytes")
                return parse_document(body)
        except TimeoutError as error:
            raise remedies.unanswered(peer, f"{request} within {self._settings.timeout:g} s") from error
        except (ClientError, OSError) as error:
            failure = remedies.unreachable if isinstance(error, ClientConnectorError) else remedies.dropped
            raise failure(peer, str(error) or type(error).__name__) from error
        except (ParseError, ValueError, LookupError, OverflowError) as error:
            raise remedies.no_agent(peer, f"{request}: HTTP {response.status}, {error}") from error

    async def write(self, tag: str, value: Value) -> None:
        raise TagError(f"tag {tag} is not writable: an MTConnect agent can only be read")

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None


def parse_document(body: bytes | bytearray) -> Document:
    """A streams or error document of any version of the standard. Raises ValueError, LookupError, OverflowError or ParseError."""
    root = fromstring(body)
    header = next((element for element in root if _local(element) == "Header"), root)
    if _local(root) == "MTConnectError":
        errors = [f"{element.get('errorCode')} {element.text or ''}".strip() for element in root.iter() if element.get("errorCode")]
        return Document(header.get("instanceId", ""), error="; ".join(errors) or "an error without a code")
    if _local(root) != "MTConnectStreams":
        raise ValueError(f"{_local(root)[:40]} is no answer to this")
    seen = (_observation(element, group) for group in root.iter() for element in group if element.get("dataItemId"))
    sequence = sorted(seen, key=lambda observation: observation.sequence)
    return Document(header.get("instanceId", ""), int(header.get("nextSequence", "")), int(header.get("lastSequence", "")), sequence)


def _observation(element: Element, group: Element) -> Observation:
    at = datetime.fromisoformat(element.get("timestamp", ""))
    at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    text = None if len(element) else (element.text or "").strip()
    sequence, item, code = int(element.get("sequence", "")), element.get("dataItemId", ""), element.get("nativeCode", "")
    return Observation(sequence, item, text, at, _local(element), _local(group) == "Condition", code)


def _local(element: Element) -> str:
    """The name without its namespace: that changes with every version of the standard."""
    return str(element.tag).rpartition("}")[2]
