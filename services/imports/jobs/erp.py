"""What ERPs sent is applied, in the order in which it came.

Each feed is one commit. So whatever is killed goes on where it stopped, and applying a feed twice changes nothing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select

from services.imports.erp import log
from services.imports.erp.credentials import all_secrets
from services.imports.erp.models import Entity, ErpFeed
from services.imports.erp.sync import apply_page, lock
from services.imports.room import room_left
from shared.db import unit_of_work
from shared.jobs import Skip, Verdict, actor, current_job

__all__ = ["apply_feed"]

_COUNTS: Final = ("created", "updated", "unchanged", "failed")


@actor(queue_name="default", unique="feed_id", subject="Items from an ERP")
def apply_feed(feed_id: UUID, connection_id: UUID) -> dict[str, int]:
    """Apply a feed, and before it those of its connection that came earlier and still wait."""
    total = dict.fromkeys(_COUNTS, 0)
    while (counts := _apply_next(feed_id, connection_id)) is not None:
        total = {name: total[name] + counts[name] for name in _COUNTS}
        current_job().breathe()
    return total


@apply_feed.failed
def _feed_failed(verdict: Verdict, feed_id: UUID, connection_id: UUID) -> None:
    """A feed that cannot be applied must not hold up those that follow."""
    with unit_of_work() as session:
        feed = session.get(ErpFeed, feed_id, with_for_update=True)
        if feed is None or feed.state != "received":
            return
        feed.state, feed.settled_at, feed.body = "failed", datetime.now(UTC), b""
        log.write(
            session,
            connection_id,
            "in",
            feed.entity,  # type: ignore[arg-type]
            failed=True,
            secrets=(),
            external_id=str(feed_id),
            response=verdict.code,
        )


def _apply_next(feed_id: UUID, connection_id: UUID) -> dict[str, int] | None:
    with unit_of_work() as session:
        connection = lock(session, connection_id)
        if connection is None:
            raise Skip("connection_gone")
        feed = session.scalars(
            select(ErpFeed)
            .where(ErpFeed.connection_id == connection_id, ErpFeed.state == "received", ErpFeed.id <= feed_id)
            .order_by(ErpFeed.id)
            .limit(1)
        ).first()
        if feed is None:
            return None
        body = feed.body.decode()
        entity: Entity = feed.entity  # type: ignore[assignment]
        counts = apply_page(
            session,
            connection,
            entity,
            json.loads(body)["items"],
            direction="in",
            secrets=all_secrets(connection),
            request=body,
            room=room_left(session) if entity == "samples" else None,
        )
        feed.state, feed.settled_at, feed.body = "applied", datetime.now(UTC), b""
    return counts
