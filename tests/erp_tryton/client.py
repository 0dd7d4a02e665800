"""A planner's seat at the Tryton server of the tests: JSON-RPC by hand, apart from the adapter's client, so that one judges the other."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any


class RpcError(Exception):
    """What Tryton answered instead of a result: its kind (`UserError`) and its words."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(f"{kind}: {words}")
        self.kind = kind
        self.words = words


class Seat:
    """One logged-in user. `call("production", "read", [1], ["state"])`: the user's context is added."""

    def __init__(self, url: str, database: str, user: str, password: str) -> None:
        self._url = f"{url}/{database}/rpc/"
        self._headers = {"Content-Type": "application/json"}
        uid, token, *_ = self._post("common.db.login", [user, {"password": password}, "en"])
        self.uid: int = uid
        self._headers["Authorization"] = "Session " + base64.b64encode(f"{user}:{uid}:{token}".encode()).decode()
        self.context: dict[str, Any] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the user's preferences again (its company, its groups)."""
        self.context = self._post("model.res.user.get_preferences", [True, {}])

    def call(self, model: str, method: str, *arguments: Any, **context: Any) -> Any:
        return self._post(f"model.{model}.{method}", [*arguments, {**self.context, **context}])

    def search_read(self, model: str, domain: list[Any], fields: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call(model, "search_read", domain, 0, None, [["id", "ASC"]], fields)
        return found

    def create(self, model: str, **values: Any) -> int:
        return int(self.call(model, "create", [values])[0])

    def by_xml_id(self, module: str, name: str) -> int:
        """The id of a record that a module brought."""
        return int(self.call("ir.model.data", "get_id", module, name))

    def _post(self, method: str, parameters: list[Any]) -> Any:
        body = json.dumps({"id": 0, "method": method, "params": parameters}).encode()
        with urllib.request.urlopen(urllib.request.Request(self._url, body, self._headers), timeout=60) as reply:
            answer = json.load(reply)
        if "error" in answer:
            error: list[Any] = answer["error"]
            words = error[1] if len(error) > 1 else ""
            raise RpcError(str(error[0]), words if isinstance(words, str) else json.dumps(words))
        return answer["result"]


def decimal(value: str) -> dict[str, str]:
    return {"__class__": "Decimal", "decimal": value}


def date(year: int, month: int, day: int) -> dict[str, Any]:
    return {"__class__": "date", "year": year, "month": month, "day": day}


def seconds(delta: Any) -> float:
    """Of a time span as Tryton sends it."""
    return float(delta["seconds"]) if delta else 0.0
