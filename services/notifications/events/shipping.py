"""What shipping tells: where orders are, and when their people are to hear of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import or_, update
from sqlalchemy.dialects.postgresql import insert

from services.notifications import mail
from services.notifications.models import Member, Order, member_of
from shared.db import unit_of_work
from shared.events.contracts.shipping import MilestoneReached, OrderCreated, OrderTransitioned, TrackingUpdated
from shared.jobs import Event, handler

__all__ = ["mail_milestone", "note_created_order", "note_moved_order", "note_tracking"]


@handler(OrderCreated)
def note_created_order(event: Event[OrderCreated]) -> None:
    """Keep a new order; where its first step came faster, only to whom it goes."""
    order = event.data
    recipient = {"recipient_name": order.recipient.name, "recipient_company": order.recipient.company}
    _keep(
        event,
        {"number": order.number, "created_by": order.created_by, "state": "New", "since": event.time, **recipient},
        always={**recipient, "ordered_at": event.time},
    )


@handler(OrderTransitioned)
def note_moved_order(event: Event[OrderTransitioned]) -> None:
    """Keep where an order is now."""
    order = event.data
    _keep(
        event,
        {"number": order.number, "created_by": order.created_by, "state": order.to_state, "since": event.time},
        always={},
    )


@handler(MilestoneReached)
def mail_milestone(event: Event[MilestoneReached]) -> None:
    """Tell the recipient, where he has an address, and who entered the order: each once per order and milestone."""
    reached = event.data
    values = {
        "order_id": str(reached.order_id),
        "number": reached.order_number,
        "to": reached.recipient.company or reached.recipient.name,
        "carrier": reached.carrier,
        "tracking_number": reached.tracking_number,
        "tracking_url": reached.tracking_url,
    }
    with unit_of_work() as session:
        told: dict[str, mail.Address | Member] = {}
        if reached.recipient.email:
            told["recipient"] = mail.Address(reached.recipient.email, reached.recipient.name)
        if (rep := member_of(session, reached.created_by)) is not None:
            told["rep"] = rep
        mail.queue_many(
            session,
            reached.milestone,
            [
                mail.NewMail(to, values, f"ship:{reached.order_id}:{reached.milestone}:{who}")
                for who, to in told.items()
            ],
            kind="shipping",
        )


@handler(TrackingUpdated)
def note_tracking(event: Event[TrackingUpdated]) -> None:
    """Keep what a carrier says about the parcel of an order, unless something newer is known."""
    said, at = event.data, event.data.status_date or event.time
    with unit_of_work() as session:
        session.execute(
            update(Order)
            .where(Order.id == said.order_id, or_(Order.delivery_at.is_(None), Order.delivery_at < at))
            .values(delivery_status=said.status, delivery_at=at)
        )


def _keep(event: Event[Any], fields: dict[str, Any], *, always: dict[str, Any]) -> None:
    blank = {"recipient_name": "", "recipient_company": "", "ordered_at": event.time}
    values = {**blank, **fields, **always, "sequence": event.sequence or 0}
    statement = insert(Order).values(tenant_id=event.tenant_id, id=event.data.order_id, **values)
    changed = {name: statement.excluded[name] for name in (*fields, "sequence")}
    with unit_of_work() as session:
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["tenant_id", "id"], set_=changed, where=Order.sequence < statement.excluded.sequence
            )
        )
        if always:
            known = session.get_one(Order, (event.tenant_id, event.data.order_id))
            for name, value in always.items():
                setattr(known, name, value)
