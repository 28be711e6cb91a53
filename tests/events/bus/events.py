"""Handlers for tests. Each writes down what it got, so that one that ran twice is there twice."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from shared.context import current
from shared.db import unit_of_work
from shared.jobs import Event, Retry, handler
from tests.events.bus.contracts import FOREIGN, ThingHappened


def record(name: str, event: Event[Any], what: str) -> None:
    with unit_of_work() as session:
        session.execute(
            text("INSERT INTO seen (tenant_id, handler, event_id, what) VALUES (:tenant, :handler, :event, :what)"),
            {"tenant": current().tenant_id, "handler": name, "event": event.id, "what": what},
        )


@handler(ThingHappened)
def note(event: Event[ThingHappened]) -> None:
    """Write down the name of what happened."""
    record("note", event, event.data.name)


@handler(ThingHappened, retry=(0.1, 0.1, 0.1))
def keep_newest(event: Event[ThingHappened]) -> None:
    """Keep the newest name of each subject, whatever the order in which they come."""
    if event.data.name == "stubborn" and (current().attempt or 0) < 3:
        raise Retry("not_yet", "as the test wants it")
    with unit_of_work() as session:
        session.execute(
            text(
                "INSERT INTO newest (tenant_id, subject, sequence, name) VALUES (:tenant, :subject, :sequence, :name) "
                "ON CONFLICT (tenant_id, subject) DO UPDATE SET sequence = excluded.sequence, name = excluded.name "
                "WHERE newest.sequence < excluded.sequence"
            ),
            {
                "tenant": event.tenant_id,
                "subject": event.subject,
                "sequence": event.sequence or 0,
                "name": event.data.name,
            },
        )


@handler(FOREIGN)
def note_foreign(event: Event[dict[str, Any]]) -> None:
    """Write down what somebody else told."""
    record("note_foreign", event, event.data["parcel"])
