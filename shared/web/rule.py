"""The Rule inside requests: a request is quick and small, all else is a job.

The clock of a request starts when its body is here (a slow sender is not the handler's fault) and is
looked at before each commit; the rows that it writes are counted as they are written. What breaks a limit
is rolled back whole and answered with a problem, so that nobody builds on an operation that will be slow
one day. Each single statement is cut off by the database after the same time (`statement_timeout` on the
connections that requests use). That no third party is called is `shared.outbound.guard`'s part.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from shared.db.database import commit_checks
from shared.telemetry.logs import get_logger
from shared.web.problems import RuleTooLong, RuleTooManyRecords

__all__ = ["MAX_RECORDS", "MAX_SECONDS", "enforce", "install", "unlimited_time"]

log = get_logger(__name__)

MAX_SECONDS: Final = 2.0
"""People notice half a second; two leave room for a bad moment of the database, and none for a provider."""

MAX_RECORDS: Final = 200
"""A large order with all its lines and their history fits. An import, a bulk change and a sweep do not."""

_WRITES: Final = ("INSERT", "UPDATE", "DELETE", "MERGE")


class _Meter:
    """What one request has used up."""

    __slots__ = ("deadline", "records", "route")

    def __init__(self, route: str, deadline: float | None) -> None:
        self.route = route
        self.deadline = deadline
        self.records = 0

    def check(self, session: Session) -> None:
        """Before a commit: raise if the time is over or too much was written."""
        session.flush()  # what the flush writes counts too, and takes its time
        if self.records > MAX_RECORDS:  # somebody has swallowed the exception
            raise RuleTooManyRecords(max_records=MAX_RECORDS)
        over = 0.0 if self.deadline is None else time.monotonic() - self.deadline
        if over > 0:
            log.error("rule_too_long", route=self.route, seconds=round(MAX_SECONDS + over, 3), limit=MAX_SECONDS)
            raise RuleTooLong(f"A request has {MAX_SECONDS:g} seconds; this one took longer and was undone.")


_meter: ContextVar[_Meter | None] = ContextVar("backroom_rule", default=None)


@contextmanager
def enforce(route: str, *, timed: bool = True) -> Iterator[None]:
    """Hold everything inside to the Rule. `route` names the operation in the log."""
    meter = _Meter(route, time.monotonic() + MAX_SECONDS if timed else None)
    token, checks = _meter.set(meter), commit_checks.set((*commit_checks.get(), meter.check))
    try:
        yield
    finally:
        commit_checks.reset(checks)
        _meter.reset(token)


@contextmanager
def unlimited_time() -> Iterator[None]:
    """Time spent inside does not count: waiting for a job on behalf of a client, with no connection held."""
    meter, started = _meter.get(), time.monotonic()
    try:
        yield
    finally:
        if meter is not None and meter.deadline is not None:
            meter.deadline += time.monotonic() - started


def install() -> None:
    """Listen to all engines of the process. Doing it twice is the same as once.

    Outside of `enforce` the listener costs one look-up per statement.
    """
    if not event.contains(Engine, "after_cursor_execute", _count):
        event.listen(Engine, "after_cursor_execute", _count)


def _count(_connection: Any, cursor: Any, _statement: str, _parameters: Any, _context: Any, _executemany: bool) -> None:
    meter = _meter.get()
    if meter is None:
        return
    # The server's own word for what it did, so raw SQL counts as well as the ORM's.
    done = cursor.statusmessage
    if done is None or not done.startswith(_WRITES):
        return
    meter.records += max(cursor.rowcount, 0)
    if meter.records > MAX_RECORDS:
        log.error("rule_too_many_records", route=meter.route, records=meter.records, limit=MAX_RECORDS)
        raise RuleTooManyRecords(
            f"A request may change {MAX_RECORDS} records; this one was about to change more.",
            max_records=MAX_RECORDS,
        )
