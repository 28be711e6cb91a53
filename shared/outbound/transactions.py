"""Transactions of the outbound package's own, apart from whatever unit of work is open around it.

What is learned from a call (a provider is down, a token was used) stays true when the work around it is
rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.orm import Session

from shared.context import SYSTEM, current, use
from shared.db.database import Work, adopt, current_database

__all__ = ["ANY_TENANT", "NOW", "Clock", "system_transaction", "tenant_or_any"]

ANY_TENANT: Final = "*"
"""In `circuits` and `rate_limits`: the provider as a whole."""

Clock = Callable[[], datetime]
"""For tests. Elsewhere None: the database's clock, which all processes share."""

NOW: Final = "COALESCE(CAST(:now AS timestamptz), clock_timestamp())"
"""SQL for now: the parameter `now` where a test gives one, else the clock of the database."""


@contextmanager
def system_transaction() -> Iterator[Session]:
    """One transaction under the role that sees all tenants; units of work opened inside join it."""
    database = current_database()
    with Session(database.system, expire_on_commit=False) as session:
        work = Work(database, session, SYSTEM, system=True)
        with use(tenant_id=SYSTEM), adopt(work):
            yield session
            for check in work.before_commit:
                check(session)
            session.commit()
    for callback in work.after_commit:
        callback()


def tenant_or_any(per_tenant: bool) -> str:
    """Return the current tenant, or the sign for all of them."""
    return (current().tenant_id or ANY_TENANT) if per_tenant else ANY_TENANT


def utc_now(clock: Clock | None) -> datetime:
    return datetime.now(UTC) if clock is None else clock()
