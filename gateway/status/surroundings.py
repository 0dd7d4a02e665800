"""What groups of routes have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.metrics import Metrics
from gateway.status.answers import html
from gateway.status.board import Board
from gateway.status.page import Pages


@dataclass(frozen=True)
class Surroundings:
    """`present` raises 503 while the gateway starts; `language` is that of a request."""

    pages: Pages
    present: Callable[[], Board]
    language: Callable[[web.Request], str]
    clock: Clock
    metrics: Metrics

    def sentence(self, request: web.Request, text: Text, status: int) -> web.Response:
        """A page with this one sentence."""
        language = self.language(request)
        return html(self.pages.sentence(text.fr if language == "fr" else text.en, language), status)
