"""Labels in our own books: asked for, bought, failed, given back. Nothing here asks anybody outside.

Each function takes a session of an open unit of work; what it writes stands or falls with it. Locks are
taken in one order, the order before its label, so that none waits for another in a circle.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.shipping.announce import recipient_of, tell_label
from services.shipping.models import LIVE_LABEL, Label, Milestone, Order, Rate, Tracking
from services.shipping.shippo_objects import Label as Bought
from shared.context import current
from shared.db import new_id
from shared.events import publish
from shared.events.contracts.shipping import DeliveryFailed, MilestoneReached

__all__ = [
    "fail",
    "give_back",
    "live_label",
    "lock",
    "milestone",
    "purchased",
    "reference",
    "refund_ended",
    "request",
    "start_refund",
    "touch",
]


def reference(label: Label) -> str:
    """Return what stands in Shippo's metadata for this label, and is how we find it again."""
    return f"t{label.tenant_id}|l{label.id}"[:100] if len(label.tenant_id) <= 58 else f"l{label.id}"


def lock(session: Session, label_id: uuid.UUID) -> tuple[Label, Order] | None:
    """Return a label with its order, both held until the transaction ends, or None."""
    order_id = session.scalar(select(Label.order_id).where(Label.id == label_id))
    if order_id is None:
        return None
    fresh: dict[str, Any] = {"populate_existing": True}
    order = session.scalars(
        select(Order).where(Order.id == order_id).with_for_update(key_share=True).execution_options(**fresh)
    ).one()
    label = session.scalars(
        select(Label).where(Label.id == label_id).with_for_update(key_share=True).execution_options(**fresh)
    ).one()
    return label, order


def live_label(session: Session, order_id: uuid.UUID, parcel_id: uuid.UUID) -> Label | None:
    """Return the one label of a parcel that is bought, or may yet turn out to be."""
    return session.scalar(
        select(Label).where(Label.order_id == order_id, Label.parcel_id == parcel_id, Label.status.in_(LIVE_LABEL))
    )


def request(
    session: Session,
    order: Order,
    parcel_id: uuid.UUID,
    *,
    rate_id: uuid.UUID | None = None,
    label_file_type: str = "pdf",
    job_id: uuid.UUID | None = None,
) -> tuple[Label, bool]:
    """Return the parcel's live label, made now if there is none, and whether it is new.

    The order must be locked, which makes the second click wait for the first one's answer.
    """
    existing = live_label(session, order.id, parcel_id)
    if existing is not None:
        return existing, False
    label = Label(
        id=new_id(),
        order_id=order.id,
        parcel_id=parcel_id,
        rate_id=rate_id,
        chosen=rate_id is not None,
        label_file_type=label_file_type,
        job_id=job_id,
        requested_by=current().principal,
    )
    session.add(label)
    return label, True


def purchased(session: Session, label: Label, order: Order, bought: Bought, rate: Rate | None) -> bool:
    """Write down that a label was bought; return False where that is known already. Both rows are locked."""
    if label.status not in LIVE_LABEL and label.status != "failed":
        return False
    if label.status == "purchased":
        return False
    label.status = "purchased"
    label.provider_id = bought.id
    label.tracking_number = bought.tracking_number
    label.tracking_url = bought.tracking_url
    label.purchased_at = datetime.now(UTC)
    label.waiting_since, label.error_code, label.error_fields = None, None, {}
    if rate is not None:
        label.carrier, label.service = rate.carrier, rate.service
        label.amount, label.currency = rate.amount, rate.currency
    touch(label)
    order.carrier, order.tracking_number, order.tracking_url = (
        label.carrier,
        bought.tracking_number,
        bought.tracking_url,
    )
    order.delivery_status = "pre_transit"
    _touch_order(order)
    session.flush()
    if bought.tracking_number:
        known = session.scalar(
            select(Tracking.id).where(
                Tracking.carrier == (label.carrier or "").lower(), Tracking.tracking_number == bought.tracking_number
            )
        )
        if known is None:
            session.add(
                Tracking(
                    order_id=order.id,
                    label_id=label.id,
                    carrier=(label.carrier or "").lower(),
                    tracking_number=bought.tracking_number,
                    eta=bought.eta,
                )
            )
    tell_label(session, "purchased", label, order)
    milestone(session, order, "label_created", label_id=label.id)
    return True


def fail(
    session: Session,
    label: Label,
    order: Order,
    code: str,
    fields: Mapping[str, Any] | None = None,
    *,
    needs_review: bool,
) -> None:
    """Write down that the purchase has ended without a label, or that nobody knows."""
    if label.status not in LIVE_LABEL or label.status == "purchased":
        return
    label.status = "needs_review" if needs_review else "failed"
    label.error_code, label.error_fields = code, dict(fields or {})
    touch(label)
    tell_label(session, "needs_review" if needs_review else "failed", label, order)


def give_back(session: Session, order: Order) -> list[uuid.UUID]:
    """Begin the refunds of a cancelled order's bought labels; return which. Those that are being bought find
    out by themselves that the order was cancelled."""
    bought = session.scalars(
        select(Label).where(Label.order_id == order.id, Label.status == "purchased").with_for_update(key_share=True)
    ).all()
    for label in bought:
        start_refund(label)
    return [label.id for label in bought]


def start_refund(label: Label) -> None:
    """Mark a locked, bought label as one whose money is being asked back."""
    label.status = "refund_pending"
    label.refund_requested_at = datetime.now(UTC)
    label.polls = 0
    touch(label)


def refund_ended(session: Session, label: Label, order: Order, *, refunded: bool) -> bool:
    """Write down how a refund was decided; return False where that is known already."""
    if label.status != "refund_pending":
        return False
    label.status = "refunded" if refunded else "refund_rejected"
    touch(label)
    if refunded and order.tracking_number == label.tracking_number:
        order.carrier = order.tracking_number = order.tracking_url = order.delivery_status = None
        _touch_order(order)
    tell_label(session, "refunded" if refunded else "refund_rejected", label, order)
    return True


def milestone(
    session: Session, order: Order, name: str, *, label_id: uuid.UUID | None = None, details: str = ""
) -> bool:
    """Tell of a milestone unless it was told before; return whether it was told. The order is locked."""
    known = session.scalar(select(Milestone.id).where(Milestone.order_id == order.id, Milestone.milestone == name))
    if known is not None:
        return False
    session.add(Milestone(order_id=order.id, milestone=name, label_id=label_id))
    parcel = {"carrier": order.carrier or "", "tracking_number": order.tracking_number or ""}
    event: MilestoneReached | DeliveryFailed
    if name in ("returned", "failure"):
        event = DeliveryFailed(
            order_id=order.id,
            order_number=order.number,
            reason=name,  # type: ignore[arg-type]
            details=details,
            **parcel,
        )
    else:
        event = MilestoneReached(
            order_id=order.id,
            order_number=order.number,
            milestone=name,  # type: ignore[arg-type]
            created_by=order.created_by,
            recipient=recipient_of(order),
            tracking_url=order.tracking_url or "",
            **parcel,
        )
    publish(session, event, subject=order.id, sequence=order.version)
    return True


def touch(label: Label) -> None:
    """Count a change of the label."""
    label.version += 1
    label.updated_at = datetime.now(UTC)


def _touch_order(order: Order) -> None:
    order.version += 1
    order.updated_at = datetime.now(UTC)
