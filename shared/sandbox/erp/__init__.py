"""A stand-in for a company's ERP: samples and stock that changed, page by page, for whoever has the token.

It speaks the protocol of docs/erp.md: `GET /erp/samples` and `GET /erp/stock` with `updated_since`, `cursor` and
`limit`, answered by `{"items": […], "next": "<cursor>" | null}`. What it has is put there through the control API.
"""

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from shared.sandbox.clock import iso, seconds_of
from shared.sandbox.provider import Provider
from shared.sandbox.web import HttpError, Request, Response, Route, reply

if TYPE_CHECKING:
    from shared.sandbox.core import Core

PREFIX = "/erp"
ENTITIES = ("samples", "stock")
MOST = 500

#: The cursor of a page that plays `same_cursor` where none was asked with: it leads to the first page.
_AGAIN = "again"


class Erp(Provider):
    """Any token that starts with erp_test_ is an ERP of its own, made on first use."""

    name: ClassVar[str] = "erp"

    def __init__(self, core: "Core"):
        super().__init__(core)
        self.page_size = MOST

    def routes(self) -> list[Route]:
        outcomes = frozenset({"same_cursor"})
        return [Route("GET", f"{PREFIX}/{entity}", self._lister(entity), outcomes) for entity in ENTITIES]

    def authenticate(self, request: Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not re.fullmatch(r"erp_test_[\w.-]+", token):
            raise HttpError(401, {"error": f"Nobody here knows the token {token}."})
        return token

    def error_body(self, status: int) -> Any:
        return {"error": f"HTTP {status}"}

    def controls(self) -> list[Route]:
        return [
            Route("GET", f"{PREFIX}/{{account}}/{{entity}}", self.read_items),
            Route("PUT", f"{PREFIX}/{{account}}/{{entity}}", self.put_items),
            Route("DELETE", f"{PREFIX}/{{account}}/{{entity}}", self.delete_items),
            Route("PUT", PREFIX, self.set_page_size),
        ]

    def reset(self) -> None:
        self.page_size = MOST

    # -- control -----------------------------------------------------------------------------------------------

    def read_items(self, request: Request, account: str, entity: str) -> Response:
        """{"items": […]}: all that this ERP has, the longest unchanged first."""
        return reply({"items": [row["item"] for row in self._rows(token_of(account), _known(entity))]})

    def put_items(self, request: Request, account: str, entity: str) -> Response:
        """{"items": […], "updated_at"?: ISO 8601}: new or changed items, known by their SKU or title."""
        data, entity = request.json(), _known(entity)
        items = data.get("items")
        if not isinstance(items, list):
            raise HttpError(400, {"detail": "items is a list"})
        updated_at = _moment(data["updated_at"]) if "updated_at" in data else self.core.clock.iso()
        for item in items:
            key = _key(item)
            row = {"key": key, "updated_at": updated_at, "item": item}
            self.core.books.save(token_of(account), f"erp_{entity}", key, row)
        return reply({"count": len(items)})

    def delete_items(self, request: Request, account: str, entity: str) -> Response:
        for row in self._rows(token_of(account), _known(entity)):
            self.core.books.remove(token_of(account), f"erp_{entity}", row["key"])
        return Response(204)

    def set_page_size(self, request: Request) -> Response:
        """{"page_size": n}: pages have no more items than this, whatever `limit` asks for."""
        size = request.json().get("page_size")
        if not isinstance(size, int) or not 1 <= size <= MOST:
            raise HttpError(400, {"detail": f"page_size is a number from 1 to {MOST}"})
        self.page_size = size
        return Response(204)

    # -- what the ERP answers ----------------------------------------------------------------------------------

    def _lister(self, entity: str) -> Any:
        return lambda request: self.page(request, entity)

    def page(self, request: Request, entity: str) -> Response:
        """One page; an item that changes meanwhile moves to the end, so that none is missed."""
        since, cursor = request.query.get("updated_since"), request.query.get("cursor")
        rows = self._rows(request.account or "", entity)
        if since is not None:
            moment = _moment(since)
            rows = [row for row in rows if row["updated_at"] >= moment]
        if cursor is not None:
            after = _read_cursor(cursor)
            rows = [row for row in rows if _position(row) > after]
        page = rows[: min(_limit(request), self.page_size)]
        following = _cursor(page[-1]) if len(page) < len(rows) else None
        if request.fault is not None:
            following = cursor or _AGAIN
        return reply({"items": [row["item"] for row in page], "next": following})

    def _rows(self, account: str, entity: str) -> list[dict[str, Any]]:
        return sorted(self.core.books.find(account, f"erp_{entity}"), key=_position)


def token_of(account: str) -> str:
    """The token that opens the ERP of this name."""
    return f"erp_test_{account}"


def _known(entity: str) -> str:
    if entity not in ENTITIES:
        raise HttpError(404, {"detail": f"known: {', '.join(ENTITIES)}"})
    return entity


def _key(item: Any) -> str:
    if isinstance(item, dict):
        for name in ("sku", "title"):
            if isinstance(item.get(name), str):
                return f"{name}:{item[name]}"
    # What is wrong with an item is for the other side to find out.
    return f"odd:{json.dumps(item, sort_keys=True)}"


def _position(row: dict[str, Any]) -> list[str]:
    return [row["updated_at"], row["key"]]


def _cursor(row: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(_position(row)).encode()).decode()


def _read_cursor(cursor: str) -> list[str]:
    if cursor == _AGAIN:
        return ["", ""]
    try:
        updated_at, key = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (binascii.Error, ValueError, TypeError) as error:
        raise HttpError(400, {"error": "This cursor is none of ours."}) from error
    return [str(updated_at), str(key)]


def _limit(request: Request) -> int:
    text = request.query.get("limit", str(MOST))
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise HttpError(400, {"error": f"limit is a number from 1 to {MOST}"})
    return int(text)


def _moment(text: Any) -> str:
    """A moment as the rows have it, so that moments compare as texts do."""
    try:
        return iso(seconds_of(text))
    except (TypeError, ValueError) as error:
        raise HttpError(400, {"error": "a moment is written as in 2026-01-31T10:00:00Z"}) from error


__all__ = ["Erp"]
