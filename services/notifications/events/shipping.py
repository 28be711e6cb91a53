"""What shipping tells: where orders are."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects.postgresql import insert

from services.notifications.models import Order
from shared.db import unit_of_work
from shared.events.contracts.shipping import OrderCreated, OrderTransitioned
from shared.jobs import Event, handler

__all__ = ["note_created_order", "note_moved_order"]


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
