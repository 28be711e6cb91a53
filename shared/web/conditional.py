"""Conditional requests (RFC 9110 §13): cheap polling with `If-None-Match`, safe changes with `If-Match`.

@api.get("/v1/orders/<uuid:order_id>")
def read(order_id: UUID) -> OrderView:
    ...
    return Answer(view, etag=etag(order.id, order.updated_at))     # answers 304 by itself

@api.patch("/v1/orders/<uuid:order_id>", raises=(PreconditionFailed,))
def change(order_id: UUID, body: Change) -> OrderView:
    ...
    require_match(etag(order.id, order.updated_at))
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import flask

from shared.web.problems import PreconditionFailed, PreconditionRequired

__all__ = ["etag", "not_modified", "require_match"]


def etag(*parts: Any) -> str:
    """Return the entity tag of a resource which changes when one of `parts` does: version, `updated_at`.

    It is weak: equal tags mean equal content, not equal bytes (RFC 9110 §8.8.1).
    """
    text = "\x1f".join(part.isoformat() if isinstance(part, datetime) else str(part) for part in parts)
    return f'W/"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"'


def not_modified(request: flask.Request, tag: str) -> bool:
    """Whether the client already has this version, by its `If-None-Match`."""
    return bool(request.if_none_match) and request.if_none_match.contains_weak(_bare(tag))


def require_match(tag: str, *, required: bool = False) -> None:
    """Go on only when the client's `If-Match`, if it sent one, names this version.

    Our tags are weak, so they are compared weakly; strictly by RFC 9110 §13.1.1 no weak tag ever matches,
    which would make the header useless for whatever has no byte-exact form.
    Raises PreconditionFailed, and PreconditionRequired when `required` and there is none.
    """
    given = flask.request.if_match
    if "If-Match" not in flask.request.headers:
        if required:
            raise PreconditionRequired()
        return
    if not given.contains_weak(_bare(tag)):
        raise PreconditionFailed(headers={"ETag": tag})


def _bare(tag: str) -> str:
    return tag.removeprefix("W/").strip('"')
