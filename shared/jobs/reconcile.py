"""Reconciliation: finding what should have happened and did not, and queueing it again, once a night.

    LOOKOUTS = (
        Lookout("labels_undecided", recheck_label, find_undecided_labels),
        Lookout("tracking_stale", look_up_tracking, find_stale_tracking, routine=True),
    )

    @actor(queue_name="default", unique=(), periodic=cron("30 2 * * *"))
    def reconcile_nightly() -> dict[str, int]:
        return reconcile(LOOKOUTS)

What comes back three nights running is put before a person, by one event per thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.context import current, use
from shared.db import unit_of_work
from shared.events import publish
from shared.events.contracts.jobs import ReconciliationStuck, of_service
from shared.jobs.actor import Actor, Priority
from shared.jobs.current import current_job
from shared.jobs.enqueue import enqueue_many
from shared.telemetry import get_logger

__all__ = ["NIGHTS", "Found", "Lookout", "queue_again", "reconcile"]

NIGHTS: Final = 3
"""After so many nights running, a person is told."""

Found = tuple[str, dict[str, Any]]
"""A tenant, and the arguments of the job that mends it. The first argument is the id of the thing."""

log = get_logger(__name__)

_SEEN: Final = """
INSERT INTO reconciliations AS known (name, tenant_id, item, nights, last_night)
SELECT :name, tenant_id, item, 1, CAST(:night AS date)
FROM unnest(CAST(:tenants AS text[]), CAST(:items AS text[])) AS found(tenant_id, item)
ON CONFLICT (name, tenant_id, item) DO UPDATE SET
    nights = CASE WHEN known.last_night = excluded.last_night THEN known.nights
                  WHEN known.last_night = excluded.last_night - 1 THEN known.nights + 1
                  ELSE 1 END,
    alerted_at = CASE WHEN known.last_night >= excluded.last_night - 1 THEN known.alerted_at END,
    last_night = excluded.last_night
RETURNING tenant_id, item, nights, alerted_at
"""

_ALERTED: Final = """
UPDATE reconciliations SET alerted_at = clock_timestamp()
WHERE name = :name AND tenant_id = :tenant AND item = :item
"""

_FORGET: Final = "DELETE FROM reconciliations WHERE last_night < CAST(:night AS date) - 7"


@dataclass(frozen=True, slots=True)
class Lookout:
    """One thing to look out for. `find` gets a session that sees all tenants.

    `routine` ones are found every night in the ordinary course of things, and alert nobody.
    """

    name: str
    mend: Actor[Any, Any]
    find: Callable[[Session], Sequence[Found]]
    routine: bool = False


def reconcile(lookouts: Iterable[Lookout], *, night: date | None = None) -> dict[str, int]:
    """Look out for each, queue again what is found; return how many jobs are new, by lookout.

    To be called from a leased job of the tenant SYSTEM. Running it twice in one night queues nothing twice
    that is still under way, and counts the night once.
    """
    night = night or datetime.now(UTC).date()
    queued: dict[str, int] = {}
    for lookout in lookouts:
        with unit_of_work(system=True) as session:
            found = lookout.find(session)
            queued[lookout.name] = queue_again(lookout.mend, found)
            if not lookout.routine:
                _count_nights(session, lookout.name, found, night)
        current_job().breathe()
    with unit_of_work(system=True) as session:
        session.execute(text(_FORGET), {"night": night})
    return queued


def queue_again(mend: Actor[Any, Any], found: Sequence[Found]) -> int:
    """Queue a job for each; what is live already is left alone. Return how many are new."""
    made = 0
    for tenant_id in dict.fromkeys(tenant for tenant, _ in found):
        arguments = [each for tenant, each in found if tenant == tenant_id]
        made += len(enqueue_many(mend, arguments, tenant_id=tenant_id, priority=Priority.BULK))
    return made


def _count_nights(session: Session, name: str, found: Sequence[Found], night: date) -> None:
    items = [(tenant, str(next(iter(arguments.values())))) for tenant, arguments in found]
    if not items:
        return
    rows = session.execute(
        text(_SEEN),
        {
            "name": name,
            "night": night,
            "tenants": [tenant for tenant, _ in items],
            "items": [item for _, item in items],
        },
    ).all()
    for row in rows:
        if row.nights < NIGHTS or row.alerted_at is not None:
            continue
        log.error("reconciliation in vain", lookout=name, item=row.item, nights=row.nights)
        stuck = of_service(ReconciliationStuck, current().service)
        with use(tenant_id=row.tenant_id):
            event = stuck(reconciliation=name, item=row.item, nights=row.nights, job_id=None)
            publish(session, event, subject=row.item, sequence=row.nights)
        session.execute(text(_ALERTED), {"name": name, "tenant": row.tenant_id, "item": row.item})
