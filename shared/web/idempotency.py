"""`Idempotency-Key`: the same request twice has one effect and one answer.

As in the draft draft-ietf-httpapi-idempotency-key-header-07. The key, the business change and the stored
answer are one transaction, so there is no moment at which one exists without the others: a crash, a rolled
back change or a refusal (4xx, 5xx) leaves no key behind, and the corrected request may use it again.

A twin that arrives meanwhile waits on the key's row until the first has committed, then gets its answer; if
that takes too long it is told to come back (409). Keys belong to tenant, principal and route, and are
kept for a week.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import flask
import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from shared.db import unit_of_work
from shared.web.api import Operation
from shared.web.auth import Identity
from shared.web.problems import (
    BadRequest,
    FieldError,
    IdempotencyConflict,
    IdempotencyInFlight,
    IdempotencyKeyMissing,
)

if TYPE_CHECKING:
    from shared.web.dispatch import Rendered

__all__ = ["HEADER", "KEPT", "key_of", "once"]

HEADER: Final = "Idempotency-Key"

KEPT: Final = timedelta(days=7)
"""How long an answer is remembered: longer than any client retries, and a weekend."""

# RFC 8941 §3.3.3: a string in quotes. Most clients send the bare key, so that is taken as well.
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"')
_BARE: Final = re.compile(r"[!#-+\--~]{1,255}")

# An expired key that the daily cleanup has not reached yet is taken over.
_CLAIM: Final = """
INSERT INTO idempotency_keys AS known (tenant_id, principal, route, key, fingerprint, expires_at)
VALUES (%s, %s, %s, %s, %s, now() + %s)
ON CONFLICT (tenant_id, principal, route, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, status = NULL, headers = NULL, body = NULL,
        created_at = now(), expires_at = excluded.expires_at
    WHERE known.expires_at < now()
RETURNING true
"""
_STORE: Final = """
UPDATE idempotency_keys SET status = %s, headers = %s::jsonb, body = %s
WHERE tenant_id = %s AND principal = %s AND route = %s AND key = %s
"""
_FIND: Final = """
SELECT fingerprint, status, headers, body FROM idempotency_keys
WHERE tenant_id = %s AND principal = %s AND route = %s AND key = %s
"""


class _Refused(Exception):
    """Carries an answer that is no success out of the unit of work, so that it rolls back."""

    def __init__(self, rendered: Rendered) -> None:
        super().__init__(rendered.status)
        self.rendered = rendered


def key_of(request: flask.Request, operation: Operation) -> str | None:
    """Return the request's key, None when it has none or the operation takes none.

    Raises IdempotencyKeyMissing where the operation wants one, BadRequest for one that is malformed.
    """
    if operation.idempotency == "none":
        return None
    header = request.headers.get(HEADER)
    if header is None:
        if operation.idempotency == "required":
            raise IdempotencyKeyMissing(f"Send an {HEADER} header, such as a fresh UUID.")
        return None
    header = header.strip()
    quoted = _QUOTED.fullmatch(header)
    if quoted is not None:
        return re.sub(r'\\(["\\])', r"\1", quoted[1])
    if _BARE.fullmatch(header) is None:
        raise BadRequest(
            errors=[FieldError(pointer=f"header:{HEADER}", detail="Send 1 to 255 printable ASCII characters.")]
        )
    return header


def once(
    operation: Operation, identity: Identity, key: str, body_digest: bytes, produce: Callable[[], Rendered]
) -> tuple[bool, Rendered]:
    """Return the answer to the request with this key, and whether it is the answer of an earlier one.

    `produce` runs at most once, in this unit of work; what it raises rolls everything back.
    """
    scope = (identity.tenant_id, identity.principal, f"{operation.method} {operation.path}", key)
    fingerprint = _fingerprint(body_digest)
    try:
        with unit_of_work() as session:
            connection = session.connection()
            if not _claim(connection, scope, fingerprint):
                return True, _replay(connection, scope, fingerprint)
            rendered = produce()
            if rendered.status >= 400:
                raise _Refused(rendered)
            session.flush()
            connection.exec_driver_sql(_STORE, (rendered.status, json.dumps(rendered.headers), rendered.body, *scope))
            return False, rendered
    except _Refused as refused:
        return False, refused.rendered


def _claim(connection: Connection, scope: tuple[str, ...], fingerprint: str) -> bool:
    try:
        return connection.exec_driver_sql(_CLAIM, (*scope, fingerprint, KEPT)).scalar() is not None
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
            raise IdempotencyInFlight() from None
        raise


def _replay(connection: Connection, scope: tuple[str, ...], fingerprint: str) -> Rendered:
    from shared.web.dispatch import Rendered

    row = connection.exec_driver_sql(_FIND, scope).one_or_none()
    if row is None:  # the cleanup was faster
        raise IdempotencyInFlight()
    if row.fingerprint != fingerprint:
        raise IdempotencyConflict()
    return Rendered(row.status, row.headers, bytes(row.body))


def _fingerprint(body_digest: bytes) -> str:
    request = flask.request
    head = f"{request.method} {request.path}?{request.query_string.decode('latin-1')}\n"
    return hashlib.sha256(head.encode() + body_digest).hexdigest()
