"""What others tell that members are told: who hears of what is said in `audience.py`.

What failed for good is told by alerts, so that a thousand failures of one cause are told once: see `library.py`.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.notifications.audience import told
from services.notifications.models import Order
from services.notifications.notices import tell
from shared.context import current
from shared.db import unit_of_work
from shared.events.contracts.imports import ImportCompleted, ImportFailed, SamplesCreated, SamplesUpdated
from shared.events.contracts.shipping import (
    DeliveryFailed,
    MilestoneReached,
    OrderCreated,
    OrderTransitioned,
)
from shared.jobs import Event, handler

__all__ = [
    "tell_of_changed_samples",
    "tell_of_completed_import",
    "tell_of_failed_delivery",
    "tell_of_failed_import",
    "tell_of_milestone",
    "tell_of_moved_order",
    "tell_of_new_order",
    "tell_of_new_samples",
]

_MILESTONES = {
    "label_created": "Order {} has a label.",
    "in_transit": "Order {} is on its way.",
    "delivered": "Order {} was delivered.",
}

_DELIVERIES = {
    "returned": "The parcel of order {} comes back.",
    "failure": "The parcel of order {} could not be delivered.",
}


@handler(OrderCreated)
def tell_of_new_order(event: Event[OrderCreated]) -> None:
    """Tell of an order that was entered."""
    order = event.data
    who = " of ".join(part for part in (order.recipient.name, order.recipient.company) if part)
    with unit_of_work() as session:
        tell(
            session,
            "order_created",
            told("order_created", owner=order.created_by, doer=order.created_by),
            f"Order {order.number} is new.",
            f"It goes to {who}.",
            link=f"/orders/{order.order_id}",
            dedupe_key=f"order:{order.order_id}:created",
        )


@handler(OrderTransitioned)
def tell_of_moved_order(event: Event[OrderTransitioned]) -> None:
    """Tell of an order that somebody moved on."""
    order = event.data
    with unit_of_work() as session:
        tell(
            session,
            "order_moved",
            told("order_moved", owner=order.created_by, doer=order.by),
            f"Order {order.number} is {order.to_state}.",
            order.reason or f"It was {order.from_state} before.",
            link=f"/orders/{order.order_id}",
            dedupe_key=f"order:{order.order_id}:{event.sequence or event.id}",
        )


@handler(MilestoneReached)
def tell_of_milestone(event: Event[MilestoneReached]) -> None:
    """Tell that an order has a tracking number, or where its parcel is."""
    order = event.data
    with unit_of_work() as session:
        tell(
            session,
            "tracking",
            told("tracking", owner=order.created_by),
            _MILESTONES[order.milestone].format(order.order_number),
            f"{order.carrier}, tracking number {order.tracking_number}.",
            link=f"/orders/{order.order_id}",
            dedupe_key=f"order:{order.order_id}:{order.milestone}",
        )


@handler(DeliveryFailed)
def tell_of_failed_delivery(event: Event[DeliveryFailed]) -> None:
    """Tell of a parcel that does not arrive."""
    order = event.data
    with unit_of_work() as session:
        owner = session.scalar(
            select(Order.created_by).where(Order.tenant_id == event.tenant_id, Order.id == order.order_id)
        )
        tell(
            session,
            "delivery_failed",
            told("delivery_failed", owner=owner),
            _DELIVERIES[order.reason].format(order.order_number),
            order.details or f"{order.carrier}, tracking number {order.tracking_number}.",
            link=f"/orders/{order.order_id}",
            dedupe_key=f"order:{order.order_id}:{order.reason}",
        )


@handler(SamplesCreated)
def tell_of_new_samples(event: Event[SamplesCreated]) -> None:
    """Tell of samples that are new in the catalog: those of one import are one notice."""
    _tell_of_samples(event, "samples_created", "Samples are new in the catalog.")


@handler(SamplesUpdated)
def tell_of_changed_samples(event: Event[SamplesUpdated]) -> None:
    """Tell of samples that have changed: those of one import are one notice."""
    _tell_of_samples(event, "samples_updated", "Samples of the catalog have changed.")


def _tell_of_samples(event: Event[Any], kind: str, title: str) -> None:
    import_id: UUID | None = event.data.import_id
    with unit_of_work() as session:
        tell(
            session,
            kind,
            told(kind, doer=current().principal),
            title,
            "They came with a file." if import_id else "They were entered one by one.",
            link=f"/imports/{import_id}" if import_id else "/samples",
            dedupe_key=f"{kind}:{import_id or event.id}",
            count=len(event.data.sample_ids),
            more=import_id is not None,
        )


@handler(ImportCompleted)
def tell_of_completed_import(event: Event[ImportCompleted]) -> None:
    """Tell whoever imported a file that it is done."""
    done = event.data
    numbers = {"created": done.created, "changed": done.updated, "skipped": done.skipped, "to mend": done.failed}
    with unit_of_work() as session:
        _tell_of_import(
            session,
            "import_completed",
            done,
            f"The import of {done.file_name} is done.",
            ", ".join(f"{number} {word}" for word, number in numbers.items() if number) or "There was nothing in it.",
        )


@handler(ImportFailed)
def tell_of_failed_import(event: Event[ImportFailed]) -> None:
    """Tell whoever imported a file that it stopped. Others who can act are told by the alert of its job."""
    failed = event.data
    of = "" if failed.rows is None else f" of {failed.rows}"
    with unit_of_work() as session:
        _tell_of_import(
            session,
            "import_failed",
            failed,
            f"The import of {failed.file_name} stopped.",
            f"{failed.processed}{of} rows were dealt with before that; they stay.",
            attempt=event.id,
        )


def _tell_of_import(
    session: Session, kind: str, done: ImportCompleted | ImportFailed, title: str, text: str, attempt: str = ""
) -> None:
    tell(
        session,
        kind,
        told(kind, owner=done.requested_by),
        title,
        text,
        link=f"/imports/{done.import_id}",
        dedupe_key=f"import:{done.import_id}:{kind}{attempt and ':'}{attempt}",
    )
