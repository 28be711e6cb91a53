"""What failures come to in the end, as it is told: by it alerts find out that what they tell of is mended."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert

from services.notifications.alerts import resolve
from services.notifications.tables import Outcome
from shared.db import unit_of_work
from shared.events.contracts.imports import ImportCompleted, ImportFailed
from shared.events.contracts.shipping import (
    ConnectionChanged,
    LabelFailed,
    LabelNeedsReview,
    LabelPurchased,
    OrderTransitioned,
)
from shared.jobs import Event, Skip, handler

__all__ = [
    "note_bought_label",
    "note_cancelled_order",
    "note_completed_import",
    "note_failed_import",
    "note_failed_label",
    "note_undecided_label",
    "silence_connection",
]


@handler(LabelFailed)
def note_failed_label(event: Event[LabelFailed]) -> None:
    """Keep which job failed for a label."""
    _failed(event, "label", event.data.label_id, event.data.order_id)


@handler(LabelNeedsReview)
def note_undecided_label(event: Event[LabelNeedsReview]) -> None:
    """Keep which job left it open whether a label was bought."""
    _failed(event, "label", event.data.label_id, event.data.order_id)


@handler(LabelPurchased)
def note_bought_label(event: Event[LabelPurchased]) -> None:
    """Keep that a label was bought."""
    label = event.data
    _note(event, "label", label.label_id, label.order_id, succeeded_at=label.purchased_at)


@handler(OrderTransitioned)
def note_cancelled_order(event: Event[OrderTransitioned]) -> None:
    """Keep that an order needs nothing any more."""
    if event.data.to_state != "Cancelled":
        raise Skip("not_cancelled")
    _note(event, "order", event.data.order_id, event.data.order_id, succeeded_at=event.time)


@handler(ImportFailed)
def note_failed_import(event: Event[ImportFailed]) -> None:
    """Keep which job failed for an import."""
    _failed(event, "import", event.data.import_id, event.data.import_id)


@handler(ImportCompleted)
def note_completed_import(event: Event[ImportCompleted]) -> None:
    """Keep that an import is done."""
    _note(event, "import", event.data.import_id, event.data.import_id, succeeded_at=event.time)


@handler(ConnectionChanged)
def silence_connection(event: Event[ConnectionChanged]) -> None:
    """The account with the carrier works again: alerts that asked for it fall silent."""
    if event.data.status != "connected":
        raise Skip("not_connected")
    with unit_of_work() as session:
        resolve(
            session,
            "tenant_id = :tenant AND service = 'shipping' AND code = ANY(:codes) AND first_at < :at",
            {
                "tenant": event.tenant_id,
                "codes": ["provider_not_authorized", "shippo_not_connected"],
                "at": event.time,
            },
            "connected",
        )


def _failed(event: Event[Any], kind: str, id: UUID, thing: UUID) -> None:
    if event.data.job_id is None:
        raise Skip("no_job_to_note")
    _note(event, kind, id, thing, failed_job=str(event.data.job_id))


def _note(event: Event[Any], kind: str, id: UUID, thing: UUID, **fields: Any) -> None:
    outcome = insert(Outcome).values(tenant_id=event.tenant_id, kind=kind, id=id, thing=thing, **fields)
    with unit_of_work() as session:
        session.execute(outcome.on_conflict_do_update(index_elements=["tenant_id", "kind", "id"], set_=fields))
