"""Orders: how they come about, who may move them from which state to which, and what follows.

    New ──▶ Processing ──▶ Shipped ──▶ Delivered
     │  ◀──     │
     └──▶ Cancelled ◀──┘

Only people move orders; a carrier's word changes `delivery_status` and never the state.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.shipping import labels
from services.shipping.announce import recipient_of
from services.shipping.models import Address, Order, Parcel, Transition
from shared.context import current
from shared.db import new_id
from shared.events import Occurrence, publish, publish_many
from shared.events.contracts.shipping import OrderCreated, OrderTransitioned

__all__ = ["ALLOWED", "BY_ROLE", "NotAllowed", "add_parcels", "create", "lock", "may", "transition"]

ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "New": frozenset({"Processing", "Cancelled"}),
    "Processing": frozenset({"Shipped", "Cancelled", "New"}),
    "Shipped": frozenset({"Delivered"}),
    "Delivered": frozenset(),
    "Cancelled": frozenset(),
}

_WORK: Final = frozenset(
    {("New", "Processing"), ("Processing", "New"), ("Processing", "Shipped"), ("Shipped", "Delivered")}
)
_CANCEL: Final = frozenset({("New", "Cancelled"), ("Processing", "Cancelled")})

BY_ROLE: Final[Mapping[str, frozenset[tuple[str, str]]]] = {
    "owner": _WORK | _CANCEL,
    "manager": _WORK | _CANCEL,
    # Packing and shipping is theirs; that an order is dropped is for those who answer for it.
    "fulfillment": _WORK,
    # Their own orders, and only until somebody has begun to pack.
    "sales": frozenset({("New", "Cancelled")}),
}


class NotAllowed(Exception):
    """The order's state does not allow the step; `allowed` lists the states that it does."""

    def __init__(self, state: str, wanted: str) -> None:
        self.state = state
        self.wanted = wanted
        self.allowed = sorted(ALLOWED[state])
        super().__init__(f"from {state} to {wanted}")


def may(role: str, from_state: str, to_state: str) -> bool:
    """Whether a role may make this step, which the order's state allows."""
    return (from_state, to_state) in BY_ROLE.get(role, frozenset())


def create(session: Session, drafts: Sequence[Mapping[str, Any]]) -> list[Order]:
    """Write orders, each with its address and parcels, and say so. A draft has the fields of `Order`, an
    `address` with those of `Address`, and `parcels` with those of `Parcel`.

    Four rows each, the event included. The database refuses a number that is taken (`uq_orders_number`).
    """
    principal = current().principal or "unknown"
    made: list[Order] = []
    for draft in drafts:
        address = Address(id=new_id(), **draft["address"])
        fields = {name: value for name, value in draft.items() if name not in ("address", "parcels")}
        order = Order(id=new_id(), address_id=address.id, created_by=principal, **fields)
        # There is no relationship by which SQLAlchemy would know that the address has to be there first.
        session.add(address)
        made.append(order)
    session.flush()
    session.add_all(made)
    session.flush()
    for order, draft in zip(made, drafts, strict=True):
        add_parcels(session, order, draft["parcels"])
    publish_many(session, [Occurrence(_created(order), order.id, order.version) for order in made])
    return made


def add_parcels(session: Session, order: Order, parcels: Sequence[Mapping[str, Any]]) -> None:
    """Write the parcels of an order that has none; each has the fields of `Parcel`."""
    session.add_all(
        Parcel(order_id=order.id, position=position, **parcel) for position, parcel in enumerate(parcels, start=1)
    )


def _created(order: Order) -> OrderCreated:
    return OrderCreated(
        order_id=order.id, number=order.number, created_by=order.created_by, recipient=recipient_of(order)
    )


def lock(session: Session, order_id: uuid.UUID) -> Order | None:
    """Return the order, held until the transaction ends, or None. Orders are locked before their labels."""
    return session.scalar(
        select(Order)
        .where(Order.id == order_id)
        # Not against rows that merely refer to it.
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


def transition(session: Session, order: Order, to_state: str, reason: str = "") -> list[uuid.UUID]:
    """Move a locked order; return the labels for which money is to be asked back.

    Moving it where it is already does nothing. Raises NotAllowed.
    """
    from_state = order.state
    if to_state == from_state:
        return []
    if to_state not in ALLOWED[from_state]:
        raise NotAllowed(from_state, to_state)
    order.state = to_state
    touch(order)
    step = Transition(
        order_id=order.id, from_state=from_state, to_state=to_state, principal=current().principal, reason=reason
    )
    session.add(step)
    publish(
        session,
        OrderTransitioned(
            order_id=order.id,
            number=order.number,
            created_by=order.created_by,
            from_state=from_state,  # type: ignore[arg-type]
            to_state=to_state,  # type: ignore[arg-type]
            by=current().principal,
            reason=reason,
        ),
        subject=order.id,
        sequence=order.version,
    )
    return labels.give_back(session, order) if to_state == "Cancelled" else []


def touch(order: Order) -> None:
    """Count a change of the order."""
    order.version += 1
    order.updated_at = datetime.now(UTC)
