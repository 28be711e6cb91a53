"""Telling again what a service told before: out of its outbox, by way of its relay.

An event that is replayed keeps its id, so that each handler that had it already lets it pass, and only
those run that never had it: new ones, or one whose message was purged. A forced replay tells it as a
new event, with the old one's id in the extension `replay`, and every handler runs again.

The outbox keeps events for thirty days after their publication; what is older cannot be told again.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from shared.context import SYSTEM, use
from shared.db import new_id, unit_of_work, uuid7_floor
from shared.db.database import current_work
from shared.db.signals import wake_relay_after

__all__ = ["replay"]

_BATCH = 500

# What is itself a forced replay is never replayed: its original is.
_CHOOSE = """
SELECT id FROM outbox
WHERE id > :after AND replay_of IS NULL AND published_at IS NOT NULL
  AND (CAST(:since AS timestamptz) IS NULL OR created_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR created_at < :until)
  AND (CAST(:types AS text[]) IS NULL OR type = ANY(:types))
  AND (CAST(:tenant AS text) IS NULL OR tenant_id = :tenant)
  AND (CAST(:ids AS uuid[]) IS NULL OR id = ANY(:ids))
ORDER BY id LIMIT :batch
"""

_AGAIN = "UPDATE outbox SET published_at = NULL WHERE id = ANY(:chosen)"

_ANEW = """
INSERT INTO outbox (id, tenant_id, type, subject, sequence, data, principal, correlation_id, causation_id, traceparent,
                    replay_of)
SELECT anew.id, tenant_id, type, subject, sequence, data, principal, correlation_id, outbox.id::text, traceparent,
       outbox.id
FROM unnest(CAST(:new_ids AS uuid[]), CAST(:chosen AS uuid[])) AS anew(id, original)
JOIN outbox ON outbox.id = anew.original
"""


def replay(
    *,
    types: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    tenant_id: str | None = None,
    ids: Sequence[uuid.UUID] | None = None,
    force: bool = False,
) -> int:
    """Have published events of the current service published again, oldest first; return how many.

    All given conditions hold together; times are aware, `since` included and `until` not. Goes in batches, each
    committed: when it is stopped midway, what came before stays replayed. Raises ValueError without a condition.
    """
    conditions = {"types": types, "since": since, "until": until, "tenant": tenant_id, "ids": ids}
    if all(value is None for value in conditions.values()):
        raise ValueError("say which events: by type, time, tenant or id")
    parameters: dict[str, Any] = {
        **conditions,
        "types": None if types is None else list(types),
        "ids": None if ids is None else list(ids),
        "batch": _BATCH,
    }
    # Ids begin with the time at which they were made, by a clock that may differ from the database's.
    after = uuid.UUID(int=0) if since is None else uuid7_floor(since - timedelta(minutes=1))
    total = 0
    with use(tenant_id=SYSTEM):
        while True:
            with unit_of_work(system=True) as session:
                chosen = list(session.scalars(text(_CHOOSE), {**parameters, "after": after}))
                if not chosen:
                    return total
                if force:
                    session.execute(text(_ANEW), {"new_ids": [new_id() for _ in chosen], "chosen": chosen})
                else:
                    session.execute(text(_AGAIN), {"chosen": chosen})
                work = current_work()
                assert work is not None
                wake_relay_after(work)
            total += len(chosen)
            after = chosen[-1]
