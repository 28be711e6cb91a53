"""What all of Shippo's objects share: ids, times, owners, pages, and how a missing field is refused."""

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.sandbox.web import HttpError, Request, Response, reply

if TYPE_CHECKING:
    from shared.sandbox.core import Core

#: https://github.com/goshippo/shippo-python-sdk docs/models/components/transaction.md
METADATA_LENGTH = 100
PAGE_DEFAULT, PAGE_LARGEST = 25, 100


class Objects:
    """Base of the parts of the API: keeps objects of one kind in the books, per account."""

    kind: str

    def __init__(self, core: "Core"):
        self.core = core

    def header(self, account: str) -> dict[str, Any]:
        """The fields that every object starts with."""
        now = self.core.clock.iso()
        return {
            "object_id": uuid.uuid4().hex,
            "object_owner": "owner@sandbox.invalid",
            "object_created": now,
            "object_updated": now,
            "test": account.startswith("shippo_test_"),
        }

    def owned(self, request: Request, key: str) -> dict[str, Any]:
        """The caller's object of this id. Raises HttpError 404; objects of others do not exist for them."""
        item = self.core.books.get(account_of(request), self.kind, key)
        if item is None:
            raise HttpError(404, {"detail": "Not found."})
        return item


def account_of(request: Request) -> str:
    """The authenticated account: set for every route that is not public."""
    if request.account is None:
        raise HttpError(401, {"detail": "Authentication credentials were not provided."})
    return request.account


def paginate(request: Request, items: list[dict[str, Any]]) -> Response:
    """{next, previous, results} of `items`, by the query's `page` (from 1) and `results` (at most 100)."""
    page = _positive(request, "page", 1)
    size = min(_positive(request, "results", PAGE_DEFAULT), PAGE_LARGEST)
    pages = max(1, -(-len(items) // size))
    if page > pages:
        raise HttpError(404, {"detail": "Invalid page."})

    def link(number: int) -> str | None:
        if not 1 <= number <= pages:
            return None
        query = "&".join(f"{name}={value}" for name, value in {**request.query, "page": number}.items())
        return f"{request.base_url}{request.path}/?{query}"

    results = items[(page - 1) * size : page * size]
    return reply({"next": link(page + 1), "previous": link(page - 1), "results": results})


def require(data: Mapping[str, Any], *names: str) -> None:
    """Raises HttpError 400 that names the fields which are not there."""
    missing = {name: ["This field is required."] for name in names if data.get(name) in (None, "", [], {})}
    if missing:
        raise HttpError(400, missing)


def checked_metadata(data: Mapping[str, Any]) -> str:
    """The metadata, which is free text of at most 100 characters."""
    metadata = data.get("metadata") or ""
    if not isinstance(metadata, str):
        raise HttpError(400, {"metadata": ["Not a valid string."]})
    if len(metadata) > METADATA_LENGTH:
        raise HttpError(400, {"metadata": [f"Ensure this field has no more than {METADATA_LENGTH} characters."]})
    return metadata


def _positive(request: Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise HttpError(400, {name: ["A valid integer is required."]})
    return int(text)
