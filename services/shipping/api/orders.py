"""Orders: enter them, find them, change them, move them on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from services.shipping import orders
from services.shipping.api.base import PACKERS, WRITERS, OrderStateForbids, api, find_order, visible
from services.shipping.api.views import (
    AddressIn,
    Line,
    OrderState,
    OrderView,
    ParcelIn,
    Recipient,
    Text,
    address_fields,
)
from services.shipping.jobs import refund_label
from services.shipping.models import Address, Order, Parcel, Transition
from shared.db import unit_of_work
from shared.web import (
    Answer,
    Conflict,
    FieldError,
    Forbidden,
    Identity,
    NotFound,
    Page,
    PageQuery,
    created,
    etag,
    paginate,
    require_match,
)
from shared.web.problems import PreconditionFailed

__all__ = ["view_of"]

MOST_ORDERS = 40
"""In one request: an order is four rows with its event, and a request may write two hundred."""

_FULL = (selectinload(Order.address), selectinload(Order.parcels))

_EXAMPLE: dict[str, Any] = {
    "number": "1042",
    "recipient": {"name": "Bob Example", "company": "Example Labels", "email": "bob@example.com"},
    "address": {"street1": "1 Broadway", "city": "New York", "state": "NY", "zip": "10004", "country": "US"},
    "lines": [{"kind": "sample", "name": "Kraft box", "sku": "KB-1", "quantity": 2}],
    "parcels": [{"length": "5", "width": "5", "height": "5", "distance_unit": "in", "weight": "2", "mass_unit": "lb"}],
}


class OrderNumberTaken(Conflict):
    """Another order has this number already. `numbers` lists those that are taken."""

    slug, title = "order-number-taken", "The order number is taken"


class OrderHasParcels(Conflict):
    """The parcels of an order are given once: rates and labels are of those."""

    slug, title = "order-has-parcels", "The order has its parcels already"


class NewOrder(BaseModel):
    """An order to be entered."""

    number: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)] = Field(
        description="Unique within the workspace."
    )
    recipient: Recipient
    address: AddressIn
    lines: list[Line] = Field(default_factory=list, max_length=100)
    parcels: list[ParcelIn] = Field(min_length=1, max_length=10)
    note: Annotated[str, StringConstraints(max_length=2000)] = ""

    def draft(self) -> dict[str, Any]:
        """Return the rows that it becomes, for `orders.create`."""
        return {
            "number": self.number,
            "recipient_name": self.recipient.name,
            "recipient_company": self.recipient.company,
            "recipient_email": self.recipient.email,
            "address": address_fields(self.address, self.recipient),
            "lines": [line.model_dump() for line in self.lines],
            "parcels": [parcel.model_dump() for parcel in self.parcels],
            "note": self.note,
        }


class NewOrders(BaseModel):
    """Several orders to be entered, all or none."""

    orders: list[NewOrder] = Field(min_length=1, max_length=MOST_ORDERS)


class Created(BaseModel):
    """What was entered, in the order in which it was sent."""

    items: list[OrderView]


class OrderChange(BaseModel):
    """What is to be changed; what is left out stays. A new address has to be checked anew."""

    recipient: Recipient | None = None
    address: AddressIn | None = None
    lines: list[Line] | None = Field(None, max_length=100)
    note: Annotated[str, StringConstraints(max_length=2000)] | None = None


class NewParcels(BaseModel):
    """The boxes of an order that has none yet, as one that was imported."""

    parcels: list[ParcelIn] = Field(min_length=1, max_length=10)


class OrderQuery(PageQuery):
    """Filters of the list; all that are given must hold."""

    state: OrderState | None = None
    number: str | None = Field(None, max_length=64, description="Exactly this number.")
    created_by: str | None = Field(None, max_length=200, description="Orders of this principal.")
    delivery_status: str | None = Field(None, max_length=40)


class NewTransition(BaseModel):
    """A step to another state."""

    to: OrderState
    reason: Text = ""


class TransitionView(BaseModel):
    """One step of an order's timeline."""

    model_config = ConfigDict(title="Transition", from_attributes=True)

    from_state: OrderState
    to_state: OrderState
    principal: str | None
    reason: str
    created_at: datetime


class Timeline(BaseModel):
    """All steps of an order, oldest first. It begins as `New` when it is created."""

    items: list[TransitionView]


@api.post("/v1/orders", role=WRITERS, status=201, raises=(OrderNumberTaken,), examples={"body": _EXAMPLE})
def create_order(body: NewOrder) -> Answer[OrderView]:
    """Enter an order."""
    with unit_of_work() as session:
        view = _create(session, [body])[0]
    return created(view, f"/v1/orders/{view.id}")


@api.post("/v1/orders/bulk", role=WRITERS, status=201, raises=(OrderNumberTaken,))
def create_orders(body: NewOrders) -> Created:
    """Enter several orders, all or none. More than fit into one request are an import."""
    with unit_of_work() as session:
        return Created(items=_create(session, body.orders))


@api.get("/v1/orders")
def list_orders(query: OrderQuery, identity: Identity) -> Page[OrderView]:
    """List orders, the newest first. The role `sales` sees its own."""
    statement = visible(identity).options(*_FULL)
    for column, value in (
        (Order.state, query.state),
        (Order.number, query.number),
        (Order.created_by, query.created_by),
        (Order.delivery_status, query.delivery_status),
    ):
        if value is not None:
            statement = statement.where(column == value)
    with unit_of_work() as session:
        return paginate(session, statement, (Order.id,), query, view=OrderView.of)


@api.get("/v1/orders/<uuid:order_id>", raises=(NotFound,))
def read_order(order_id: UUID, identity: Identity) -> Answer[OrderView]:
    """Read an order."""
    with unit_of_work() as session:
        order = find_order(session, order_id, identity)
        return Answer(view_of(session, order), etag=etag(order.id, order.version))


@api.patch(
    "/v1/orders/<uuid:order_id>",
    role=WRITERS,
    raises=(NotFound, OrderStateForbids, PreconditionFailed),
)
def change_order(order_id: UUID, body: OrderChange, identity: Identity) -> Answer[OrderView]:
    """Change an order while it is New or Processing; the role `sales` only while it is New."""
    with unit_of_work() as session:
        order = find_order(session, order_id, identity, lock=True)
        require_match(etag(order.id, order.version))
        open_states = ("New",) if identity.role == "sales" else ("New", "Processing")
        if order.state not in open_states:
            raise OrderStateForbids(f"Order {order.number} is {order.state}; it cannot be changed any more.")
        _apply(session, order, body)
        orders.touch(order)
        session.flush()
        return Answer(view_of(session, order), etag=etag(order.id, order.version))


@api.post(
    "/v1/orders/<uuid:order_id>/parcels",
    role=PACKERS,
    raises=(NotFound, OrderHasParcels, OrderStateForbids, PreconditionFailed),
    examples={"body": {"parcels": _EXAMPLE["parcels"]}},
)
def add_parcels(order_id: UUID, body: NewParcels, identity: Identity) -> Answer[OrderView]:
    """Say what the boxes of an order are, as an imported one has none. They are said once, before any label."""
    with unit_of_work() as session:
        order = find_order(session, order_id, identity, lock=True)
        require_match(etag(order.id, order.version))
        if order.state not in ("New", "Processing"):
            raise OrderStateForbids(f"Order {order.number} is {order.state}; it cannot be changed any more.")
        if session.scalar(select(Parcel.id).where(Parcel.order_id == order.id).limit(1)) is not None:
            raise OrderHasParcels(f"Order {order.number} has its parcels already.")
        orders.add_parcels(session, order, [parcel.model_dump() for parcel in body.parcels])
        orders.touch(order)
        session.flush()
        return Answer(view_of(session, order), etag=etag(order.id, order.version))


@api.post(
    "/v1/orders/<uuid:order_id>/transitions",
    raises=(NotFound, OrderStateForbids, PreconditionFailed),
    examples={"body": {"to": "Processing"}},
)
def move_order(order_id: UUID, body: NewTransition, identity: Identity) -> Answer[OrderView]:
    """Move an order to another state. Cancelling asks the money for its labels back.

    Moving it to where it is already does nothing.
    """
    with unit_of_work() as session:
        order = find_order(session, order_id, identity, lock=True)
        require_match(etag(order.id, order.version))
        if body.to in orders.ALLOWED[order.state] and not orders.may(identity.role, order.state, body.to):
            raise Forbidden(f"Your role may not move an order from {order.state} to {body.to}.")
        try:
            unwanted = orders.transition(session, order, body.to, body.reason)
        except orders.NotAllowed as refused:
            raise OrderStateForbids(
                f"Order {order.number} is {order.state}; from there it cannot become {body.to}.",
                allowed=refused.allowed,
            ) from None
        session.flush()
        for label_id in unwanted:
            refund_label.send(label_id=label_id, number=order.number)
        return Answer(view_of(session, order), etag=etag(order.id, order.version))


@api.get("/v1/orders/<uuid:order_id>/transitions", raises=(NotFound,))
def list_transitions(order_id: UUID, identity: Identity) -> Timeline:
    """List the steps of an order, oldest first."""
    with unit_of_work() as session:
        find_order(session, order_id, identity)
        steps = session.scalars(
            select(Transition).where(Transition.order_id == order_id).order_by(Transition.id).limit(1000)
        )
        return Timeline(items=[TransitionView.model_validate(step) for step in steps])


def view_of(session: Session, order: Order) -> OrderView:
    """Return what clients see of an order, with its address and parcels read."""
    loaded = session.scalars(
        select(Order).where(Order.id == order.id).options(*_FULL).execution_options(populate_existing=True)
    ).one()
    return OrderView.of(loaded)


def _create(session: Session, new: list[NewOrder]) -> list[OrderView]:
    numbers = [order.number for order in new]
    twice = {number for number in numbers if numbers.count(number) > 1}
    taken = twice | set(session.scalars(select(Order.number).where(Order.number.in_(numbers))))
    if taken:
        raise OrderNumberTaken(
            "An order number is taken already.",
            numbers=sorted(taken),
            errors=[
                FieldError(
                    pointer="/number" if len(new) == 1 else f"/orders/{index}/number",
                    detail=f"The number {number} is taken.",
                )
                for index, number in enumerate(numbers)
                if number in taken
            ],
        )
    made = orders.create(session, [order.draft() for order in new])
    session.flush()
    full = session.scalars(
        select(Order)
        .where(Order.id.in_([order.id for order in made]))
        .options(*_FULL)
        .execution_options(populate_existing=True)
    ).all()
    views = {order.id: OrderView.of(order) for order in full}
    return [views[order.id] for order in made]


def _apply(session: Session, order: Order, body: OrderChange) -> None:
    if body.recipient is not None:
        order.recipient_name = body.recipient.name
        order.recipient_company = body.recipient.company
        order.recipient_email = body.recipient.email
    if body.lines is not None:
        order.lines = [line.model_dump() for line in body.lines]
    if body.note is not None:
        order.note = body.note
    if body.address is not None:
        recipient = Recipient(name=order.recipient_name, company=order.recipient_company, email=order.recipient_email)
        address = session.get_one(Address, order.address_id, with_for_update={"key_share": True})
        for name, value in address_fields(body.address, recipient).items():
            setattr(address, name, value)
        address.validation, address.validation_messages = "unchecked", []
        address.complete, address.validated_at = None, None
        address.version += 1
