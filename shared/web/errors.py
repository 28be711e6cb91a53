"""From any exception to the problem that the client gets. Nothing of the exception itself goes out.

What the database says is read by its SQLSTATE (PostgreSQL, appendix A): an outage is 503 and may be
repeated, a lock that somebody else holds is 409, a value that no column can hold is 400.
"""

from __future__ import annotations

from typing import Any, Final

import flask
import psycopg
import sqlalchemy.exc
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed

from shared.outbound import guard
from shared.telemetry.logs import get_logger
from shared.web.problems import (
    BadRequest,
    Conflict,
    InternalError,
    MethodNotAllowed,
    NotFound,
    Problem,
    RuleCallsOut,
    RuleTooLong,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)

__all__ = ["Busy", "problem_of"]

log = get_logger(__name__)

_BY_STATUS: Final[dict[int, type[Problem]]] = {
    400: BadRequest,
    404: NotFound,
    413: TooLarge,
    415: UnsupportedMediaType,
}
_LOCKED: Final = ("55P03", "40P01", "40001")  # lock_not_available, deadlock_detected, serialization_failure
_TOO_LATE: Final = "57014"  # query_canceled: the statement's time was up
_RACED: Final = ("23505", "23503", "23P01")  # unique, foreign key and exclusion constraints


class Busy(Conflict):
    """Somebody else is changing the same thing this very moment. Repeat it after `Retry-After`."""

    slug, title, retryable = "busy", "Somebody else is changing it", True

    def __init__(self, detail: str | None = None, **extensions: Any) -> None:
        super().__init__(detail, headers={"Retry-After": "1"}, **extensions)


class OtherProblem(Problem):
    """What HTTP itself says by the status."""

    def __init__(self, error: HTTPException) -> None:
        super().__init__(error.description)
        self._status = error.code or 500
        self._name = error.name

    def document(self) -> dict[str, Any]:
        # RFC 9457 §4.2.1: a problem with no meaning of its own beyond its status is "about:blank".
        code = self._name.lower().replace(" ", "_")
        blank = {"type": "about:blank", "title": self._name, "status": self._status, "code": code}
        return {**super().document(), **blank}

    def response(self) -> flask.Response:
        response = super().response()
        response.status_code = self._status
        return response


def problem_of(error: BaseException) -> Problem:
    """Return the problem with which to answer `error`; logs what is a fault of ours."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        log.warning("database_pool_exhausted")
        return Unavailable("Too much is being asked of the database at the moment.")
    if isinstance(error, guard.RuleViolation):
        log.error("rule_calls_out", route=str(flask.request.url_rule), exc_info=error)
        return RuleCallsOut()
    original = getattr(error, "orig", error)
    if isinstance(original, psycopg.Error):
        found = _of_database(original)
        if found is not None:
            return found
    log.error("request_crashed", exc_info=error)
    return InternalError()


def _of_http(error: HTTPException) -> Problem:
    if isinstance(error, WerkzeugMethodNotAllowed):
        methods = sorted({method for method in error.valid_methods or () if method != "OPTIONS"})
        return MethodNotAllowed(
            f"The path knows {', '.join(methods)}.", headers={"Allow": ", ".join(methods)}, allowed=methods
        )
    if isinstance(error, RequestEntityTooLarge):
        limit = flask.request.max_content_length
        return TooLarge(f"The limit is {limit} bytes." if limit else None, max_bytes=limit)
    kind = _BY_STATUS.get(error.code or 500)
    return kind() if kind is not None else OtherProblem(error)


def _of_database(error: psycopg.Error) -> Problem | None:
    state = error.sqlstate
    if state in _LOCKED:
        return Busy()
    if state == _TOO_LATE:
        log.error("rule_statement_too_long", route=str(flask.request.url_rule))
        return RuleTooLong("A query took longer than a request may.")
    if state in _RACED:
        log.warning("constraint_violated", constraint=error.diag.constraint_name)
        return Conflict("Something else was stored at the same time which does not go together with it.")
    if isinstance(error, psycopg.DataError):  # class 22, and what psycopg itself does not send
        log.warning("value_refused_by_database", sqlstate=state)
        return BadRequest("A value is outside of what can be stored.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        log.warning("database_unavailable", sqlstate=state, reason=str(error))
        return Unavailable("The database cannot be reached.")
    return None
