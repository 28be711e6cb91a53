"""Rates: asking for them, and what they were."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel, Field

from services.shipping import rates
from services.shipping.api.base import (
    PACKERS,
    OrderStateForbids,
    ShippoNotConnected,
    api,
    find_order,
    find_parcel,
    need_connection,
)
from services.shipping.api.views import RateView
from services.shipping.jobs import shop_rates
from services.shipping.models import Rate
from services.shipping.settings import settings
from shared.db import unit_of_work
from shared.web import Answer, Identity, NotFound, Unprocessable, accepted
from shared.web.jobs_view import JobView

__all__: list[str] = []


class RatesWanted(BaseModel):
    """For which parcel; without one for the first."""

    parcel_id: UUID | None = None


class RateMessage(BaseModel):
    source: str
    code: str
    text: str


class Rates(BaseModel):
    """The latest rates of a parcel, cheapest first; empty before any were asked for."""

    items: list[RateView]
    messages: list[RateMessage] = Field(description="What carriers said that gave no rate.")


class ParcelQuery(BaseModel):
    parcel_id: UUID | None = Field(None, description="A parcel of the order; without it the first.")


@api.post(
    "/v1/orders/<uuid:order_id>/rates",
    role=PACKERS,
    status=202,
    raises=(NotFound, OrderStateForbids, ShippoNotConnected, Unprocessable),
)
def ask_for_rates(order_id: UUID, body: RatesWanted, identity: Identity) -> Answer[JobView]:
    """Ask what carriers would take for a parcel. It costs nothing."""
    with unit_of_work() as session:
        order = find_order(session, order_id, identity)
        if order.state not in ("New", "Processing"):
            raise OrderStateForbids(f"Order {order.number} is {order.state}; it is not shipped any more.")
        need_connection(session)
        parcel = find_parcel(session, order, body.parcel_id)
        return accepted(shop_rates.send(parcel_id=parcel.id, number=order.number))


@api.get("/v1/orders/<uuid:order_id>/rates", raises=(NotFound, Unprocessable))
def read_rates(order_id: UUID, query: ParcelQuery, identity: Identity) -> Rates:
    """Read the latest rates of a parcel."""
    with unit_of_work() as session:
        parcel = find_parcel(session, find_order(session, order_id, identity), query.parcel_id)
        found = rates.latest(session, parcel.id)
        if found is None:
            return Rates(items=[], messages=[])
        shipment, quoted = found
        return Rates(
            items=[_view(rate) for rate in quoted],
            messages=[RateMessage(**message) for message in shipment.messages],
        )


def _view(rate: Rate) -> RateView:
    more = {
        "expires_at": rate.rated_at + timedelta(days=settings().rate_days),
        "expired": rates.expired(rate),
    }
    own = {name: getattr(rate, name) for name in RateView.model_fields if name not in more}
    return RateView.model_validate(own | more)
