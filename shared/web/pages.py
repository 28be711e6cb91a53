"""Lists by cursor: no offsets, no totals, no row seen twice and none missed while others are written.

    class OrderQuery(PageQuery):
        state: str | None = None

    @api.get("/v1/orders")
    def list_orders(query: OrderQuery) -> Page[OrderView]:
        with unit_of_work() as session:
            return paginate(session, select(Order), (Order.id,), query)

A cursor is the key of the last row seen, signed: clients can neither read meaning into it nor make one up.
It belongs to its path, stays valid for ever, and is passed along with the same filters.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlencode

import flask
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from shared.web.problems import BadRequest, FieldError

__all__ = ["Page", "PageQuery", "paginate"]

T = TypeVar("T")

_SIGNATURE: Final = 16  # bytes of HMAC-SHA256 that are kept: a forger has one try in 2^128


class PageQuery(BaseModel):
    """The query parameters of every list; subclass it to add filters."""

    cursor: str | None = Field(None, max_length=1000, description="Where to go on: `next_cursor` of the page before.")
    limit: int = Field(50, ge=1, le=200, description="How many items at most.")


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next_cursor: str | None = Field(None, description="Send it as `cursor` for what follows; null at the end.")


def paginate(
    session: Session,
    statement: Select[Any],
    keys: Sequence[InstrumentedAttribute[Any]],
    query: PageQuery,
    *,
    view: Callable[[Any], Any] | None = None,
    descending: bool = True,
) -> Page[Any]:
    """Return the page of `statement` (of one entity) that `query` asks for.

    `keys` are the columns that order the list, unique together and never null; all go the same way. `view`
    turns a row into an item; without it rows become what the operation declares, by their attributes.
    Raises BadRequest for a cursor that is not ours.
    """
    if query.cursor is not None:
        last = _open(query.cursor, keys)
        row, bound = tuple_(*keys), tuple_(*last)
        statement = statement.where(row < bound if descending else row > bound)
    statement = statement.order_by(*(key.desc() if descending else key.asc() for key in keys))
    # One more than asked for tells whether anything follows, without counting.
    rows = session.scalars(statement.limit(query.limit + 1)).all()
    page = rows[: query.limit]
    following = _seal([getattr(page[-1], key.key) for key in keys]) if len(rows) > query.limit else None
    return Page[Any](items=[view(row) for row in page] if view else list(page), next_cursor=following)


def next_link(request: flask.Request, cursor: str) -> str:
    """The `Link` header (RFC 8288) to the page that follows."""
    pairs = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor"]
    return f'<{request.path}?{urlencode([*pairs, ("cursor", cursor)])}>; rel="next"'


def _seal(values: list[Any]) -> str:
    payload = TypeAdapter(list[Any]).dump_json(values)
    return base64.urlsafe_b64encode(_sign(payload) + payload).rstrip(b"=").decode()


def _open(cursor: str, keys: Sequence[InstrumentedAttribute[Any]]) -> list[Any]:
    refused = BadRequest(errors=[FieldError(pointer="query:cursor", detail="This cursor is not of this list.")])
    try:
        sealed = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True)
    except ValueError:
        raise refused from None
    signature, payload = sealed[:_SIGNATURE], sealed[_SIGNATURE:]
    if not hmac.compare_digest(signature, _sign(payload)):
        raise refused
    values = json.loads(payload)
    if len(values) != len(keys):
        raise refused  # an older version of us ordered the list by other columns
    try:
        return [
            TypeAdapter(key.type.python_type).validate_python(value) for key, value in zip(keys, values, strict=True)
        ]
    except ValidationError:
        raise refused from None


def _sign(payload: bytes) -> bytes:
    secret: bytes = flask.current_app.extensions["backroom"].settings.cursor_secret
    place = flask.request.path.encode()
    return hmac.digest(secret, hashlib.sha256(place).digest() + payload, "sha256")[:_SIGNATURE]
