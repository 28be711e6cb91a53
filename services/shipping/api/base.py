"""What the operations of shipping share: the api itself, who may see what, and its own problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from services.shipping.models import Label, Order, Parcel, ShippoAccount
from shared.web import Api, Conflict, Identity, NotFound, Unprocessable

__all__ = [
    "PACKERS",
    "WRITERS",
    "LabelStateForbids",
    "OrderStateForbids",
    "ShippoNotConnected",
    "api",
    "find_label",
    "find_order",
    "find_parcel",
    "known_orders",
    "need_connection",
    "visible",
]

api = Api("shipping", description="Orders, addresses, rates, labels and tracking.")

WRITERS: Final = ("owner", "manager", "sales")
"""Who enters orders."""

PACKERS: Final = ("owner", "manager", "fulfillment")
"""Who packs, buys labels and follows parcels."""


class OrderStateForbids(Conflict):
    """The state of the order does not allow it. `allowed` lists the states to which it can go."""

    slug, title = "order-state-forbids", "The state of the order does not allow it"


class LabelStateForbids(Conflict):
    """The state of the label does not allow it: only a bought label can be given back."""

    slug, title = "label-state-forbids", "The state of the label does not allow it"


class ShippoNotConnected(Conflict):
    """No account with Shippo is connected, or it has to be connected again. The owner of the workspace can."""

    slug, title = "shippo-not-connected", "Shippo is not connected"


def visible(identity: Identity) -> Select[Any]:
    """Return the orders that somebody may see: the role `sales` its own, the others all."""
    statement = select(Order)
    return statement.where(Order.created_by == identity.principal) if identity.role == "sales" else statement


def find_order(session: Session, order_id: UUID, identity: Identity, *, lock: bool = False) -> Order:
    """Return an order that the caller may see. Raises NotFound."""
    statement = visible(identity).where(Order.id == order_id)
    if lock:
        # Not against rows that merely refer to it.
        statement = statement.with_for_update(key_share=True, of=Order)
    order: Order | None = session.scalar(statement.execution_options(populate_existing=True))
    if order is None:
        raise NotFound(f"There is no order {order_id}.")
    return order


def find_label(session: Session, label_id: UUID, identity: Identity) -> tuple[Label, Order]:
    """Return a label, with its order, that the caller may see. Raises NotFound."""
    row = session.execute(
        visible(identity).add_columns(Label).join(Label, Label.order_id == Order.id).where(Label.id == label_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no label {label_id}.")
    return row.Label, row.Order


def find_parcel(session: Session, order: Order, parcel_id: UUID | None) -> Parcel:
    """Return a parcel of the order, the first one unless another is named. Raises Unprocessable."""
    statement = select(Parcel).where(Parcel.order_id == order.id).order_by(Parcel.position).limit(1)
    if parcel_id is not None:
        statement = statement.where(Parcel.id == parcel_id)
    parcel = session.scalar(statement)
    if parcel is None:
        raise Unprocessable("The order has no such parcel." if parcel_id else "The order has no parcel yet.")
    return parcel


def known_orders(session: Session, order_ids: Sequence[UUID], identity: Identity) -> list[str]:
    """Return the ids, each once and as text. Raises Unprocessable for orders that the caller does not see."""
    wanted = list(dict.fromkeys(order_ids))
    known = set(session.scalars(visible(identity).with_only_columns(Order.id).where(Order.id.in_(wanted))))
    unknown = [str(one) for one in wanted if one not in known]
    if unknown:
        raise Unprocessable(f"{len(unknown)} of the orders do not exist.", order_ids=unknown[:20])
    return [str(one) for one in wanted]


def need_connection(session: Session) -> None:
    """Go on only when Shippo is connected. Raises ShippoNotConnected."""
    status = session.scalar(select(ShippoAccount.status))
    if status is None:
        raise ShippoNotConnected("Connect an account with Shippo first.")
    if status == "needs_reauthorization":
        raise ShippoNotConnected("Shippo no longer accepts our access; the owner has to connect it again.")
