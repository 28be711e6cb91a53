"""Having addresses checked."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from services.shipping.api.base import ShippoNotConnected, api, known_orders, need_connection, visible
from services.shipping.api.views import AddressView
from services.shipping.jobs import validate_address, validate_addresses
from services.shipping.models import Address, Order
from shared.db import unit_of_work
from shared.web import Answer, Identity, NotFound, Unprocessable, accepted
from shared.web.jobs_view import JobView

__all__: list[str] = []


class ManyOrders(BaseModel):
    """Which orders' addresses are to be checked."""

    order_ids: Annotated[list[UUID], Field(min_length=1, max_length=10_000)]


@api.get("/v1/addresses/<uuid:address_id>", raises=(NotFound,))
def read_address(address_id: UUID, identity: Identity) -> AddressView:
    """Read the address of an order, with what was said when it was checked."""
    with unit_of_work() as session:
        order = session.scalar(visible(identity).where(Order.address_id == address_id))
        if order is None:
            raise NotFound(f"There is no address {address_id}.")
        return AddressView.model_validate(session.get_one(Address, address_id))


@api.post("/v1/addresses/<uuid:address_id>/validate", status=202, raises=(NotFound, ShippoNotConnected))
def check_address(address_id: UUID, identity: Identity) -> Answer[JobView]:
    """Have an address checked against the carriers' directory. A check under way is answered with."""
    with unit_of_work() as session:
        order = session.scalar(visible(identity).where(Order.address_id == address_id))
        if order is None:
            raise NotFound(f"There is no address {address_id}.")
        need_connection(session)
        return accepted(validate_address.send(address_id=address_id, number=order.number))


@api.post(
    "/v1/addresses/validate",
    role=("owner", "manager", "fulfillment"),
    status=202,
    raises=(ShippoNotConnected, Unprocessable),
)
def check_addresses(body: ManyOrders, identity: Identity) -> Answer[JobView]:
    """Have the addresses of many orders checked: one job, whose progress counts them."""
    with unit_of_work() as session:
        need_connection(session)
        wanted = known_orders(session, body.order_ids, identity)
        return accepted(validate_addresses.send(order_ids=wanted, count=len(wanted)))
