"""Two operations: make an order, and have it bought in the back room."""

from __future__ import annotations

import uuid
from typing import Any

from pydantic import BaseModel
from sqlalchemy import select

from shared.db import unit_of_work
from shared.web import Answer, Api, NotFound, accepted
from shared.web.jobs_view import JobView
from tests.chaos.sample.jobs import purchase
from tests.chaos.sample.models import Order

api = Api("sample")


class NewOrder(BaseModel):
    number: str


class OrderView(BaseModel):
    id: uuid.UUID
    number: str
    state: str


@api.post("/v1/orders", status=201)
def create_order(body: NewOrder) -> Answer[OrderView]:
    """Make an order; the same number again is the same order."""
    with unit_of_work() as session:
        order = session.scalars(select(Order).where(Order.number == body.number)).first()
        if order is None:
            order = Order(number=body.number)
            session.add(order)
            session.flush()
        return Answer(OrderView.model_validate(order, from_attributes=True))


@api.post("/v1/orders/<uuid:order_id>/purchase", status=202)
def buy(order_id: uuid.UUID) -> Answer[JobView]:
    """Have an order bought; a second click is answered with the first one's job."""
    with unit_of_work() as session:
        order: Any = session.get(Order, order_id, with_for_update=True)
        if order is None:
            raise NotFound()
        if order.job_id is None:
            order.state = "requested"
            order.job_id = uuid.UUID(purchase.send(order_id=order.id).message_id)
            session.flush()
        return accepted(order.job_id)
