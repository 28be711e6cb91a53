"""The door through which events leave a service: typed, of its own types only, in its open transaction."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from shared.context import current
from shared.db.database import current_work, unit_of_work
from shared.db.signals import wake_relay_after
from shared.events import outbox
from shared.events.contracts.contract import EventContract, service_of

__all__ = ["NotOurEvent", "Occurrence", "publish", "publish_many"]


class NotOurEvent(Exception):
    """A service may publish events of its own types only; readers rely on who says what."""


class Occurrence(NamedTuple):
    """One of several events that are published together."""

    event: EventContract
    subject: uuid.UUID | str
    sequence: int | None = None
    tenant_id: str | None = None
    """Whose it is, where that is not the current tenant: for sweeps of the tenant SYSTEM; the wall refuses others."""


def publish(
    session: Session | None, event: EventContract, *, subject: uuid.UUID | str, sequence: int | None = None
) -> uuid.UUID:
    """Write an event about `subject`, of which `sequence` is the version now; return the event's id.

    It joins the transaction of `session`, or of the open unit of work, or else has one of its own; the relay
    publishes it once that has committed. Raises NotOurEvent, and RuntimeError outside of any tenant.
    """
    return publish_many(session, [Occurrence(event, subject, sequence)])[0]


def publish_many(session: Session | None, occurrences: Sequence[Occurrence]) -> list[uuid.UUID]:
    """Write events of one type in one statement, as `publish` does; return their ids in order.

    Raises ValueError for events of several types.
    """
    if not occurrences:
        return []
    contract = type(occurrences[0].event)
    if any(type(occurrence.event) is not contract for occurrence in occurrences):
        raise ValueError("events that are published together are of one type")
    context = current()
    producer = service_of(contract.type)
    if context.service != producer:
        who = f"the service {context.service!r}" if context.service else "code that runs for no service"
        raise NotOurEvent(f"{contract.type} is for {producer!r} to publish, and this is {who}")
    if context.tenant_id is None:
        raise RuntimeError(f"{contract.type}: no tenant; an event belongs to one, enter it with use(tenant_id=…)")
    if session is None:
        with unit_of_work() as opened:
            return _write(opened, contract.type, context.tenant_id, occurrences)
    return _write(session, contract.type, context.tenant_id, occurrences)


def _write(session: Session, event_type: str, tenant_id: str, occurrences: Sequence[Occurrence]) -> list[uuid.UUID]:
    ids = outbox.append(
        session.connection(),
        tenant_id=[occurrence.tenant_id or tenant_id for occurrence in occurrences],
        type=event_type,
        events=[
            (str(occurrence.subject), occurrence.sequence, occurrence.event.model_dump(mode="json"))
            for occurrence in occurrences
        ],
    )
    work = current_work()
    if work is not None and work.session is session:
        wake_relay_after(work)
    return ids
