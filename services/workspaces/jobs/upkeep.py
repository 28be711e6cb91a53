"""Keeping house: keys that sign rotate, and what lets nobody in any more is deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import text

from services.workspaces import keys
from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.jobs import Priority, actor, cron
from shared.jobs.library.cleaning import delete_in_batches
from shared.telemetry import get_logger

__all__ = ["clean_up_sign_in", "rotate_signing_keys", "watch_links"]

log = get_logger(__name__)

_KEEP_LINKS: Final = timedelta(hours=24)
_KEEP_SESSIONS: Final = timedelta(days=30)

_MANY: Final = 50
"""Links to sign in per hour that need no explanation, however few members there are; ten per member is the other."""


@actor(priority=Priority.HIGH, unique=(), subject="Rotate the keys that sign tokens", periodic=cron("5 * * * *"))
def rotate_signing_keys() -> dict[str, int]:
    """Make the next key in time, and forget those of which no token is good any more."""
    with use(tenant_id=SYSTEM), unit_of_work(system=True) as session:
        return keys.rotate(session)


@actor(priority=Priority.BULK, unique=(), subject="Clean up old links and sessions", periodic=cron("25 * * * *"))
def clean_up_sign_in() -> dict[str, int]:
    """Delete links a day after they were of use, sessions 30 days after, and limits that are not used up."""
    over = "DELETE FROM {0} WHERE id IN (SELECT id FROM {0} WHERE {1} < now() - :keep LIMIT :batch)"
    return {
        "links": delete_in_batches(
            over.format("links", "least(used_at, revoked_at, expires_at)"), {"keep": _KEEP_LINKS}
        ),
        "sessions": delete_in_batches(over.format("sessions", "least(ended_at, expires_at)"), {"keep": _KEEP_SESSIONS}),
        "limits": delete_in_batches(
            "DELETE FROM request_limits WHERE ctid = ANY(ARRAY(SELECT ctid FROM request_limits "
            "WHERE empty_at < now() LIMIT :batch))",
            {},
        ),
    }


_COUNT: Final = """
SELECT links.tenant_id, count(*) AS issued, (SELECT count(*) FROM members WHERE members.tenant_id = links.tenant_id)
FROM links WHERE purpose = 'sign_in' AND created_at > clock_timestamp() - interval '1 hour'
GROUP BY links.tenant_id
HAVING count(*) > greatest(:many, 10 * (SELECT count(*) FROM members WHERE members.tenant_id = links.tenant_id))
"""


@actor(priority=Priority.BULK, unique=(), subject="Look for too many links", periodic=cron("55 * * * *"))
def watch_links() -> dict[str, int]:
    """Log an error for each workspace to which far more links to sign in were mailed than its members can need."""
    with unit_of_work(system=True) as session:
        found = session.execute(text(_COUNT), {"many": _MANY}).all()
    for tenant_id, issued, members in found:
        log.error("links_issued_abnormally", workspace=tenant_id, issued=issued, members=members)
    return {"workspaces": len(found)}
