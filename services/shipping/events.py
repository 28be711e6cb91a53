"""What shipping does about the events of others: it enters the orders that a file asked for."""

from __future__ import annotations

from sqlalchemy import select

from services.shipping import orders
from services.shipping.models import Order
from shared.context import use
from shared.db import unit_of_work
from shared.events.contracts.imports import OrderRequested
from shared.jobs import Event, Skip, handler

__all__ = ["enter_order"]


@handler(OrderRequested)
def enter_order(event: Event[OrderRequested]) -> None:
    """Enter an order as the one who imported the file; one whose number is taken stays as it is.

    A file knows no boxes, so that the order has none yet: whoever packs it says what they are.
    """
    wanted = event.data
    with use(principal=wanted.requested_by), unit_of_work() as session:
        if session.scalar(select(Order.id).where(Order.number == wanted.number)) is not None:
            raise Skip("order_number_taken")
        address = wanted.model_dump(include={"street1", "street2", "city", "state", "zip", "country", "phone"})
        recipient = {name: getattr(wanted, f"recipient_{name}") for name in ("name", "company", "email")}
        draft = {
            "number": wanted.number,
            **{f"recipient_{name}": value for name, value in recipient.items()},
            "address": {**address, **recipient},
            "lines": [
                {"kind": "sample", "name": line.sku, "sku": line.sku, "quantity": line.quantity, "image_url": ""}
                for line in wanted.lines
            ],
            "parcels": [],
            "note": wanted.note,
        }
        orders.create(session, [draft])
