"""Where an order's parcels are."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from services.shipping.api.base import PACKERS, Conflict, ShippoNotConnected, api, find_order, need_connection
from services.shipping.jobs import look_up_tracking
from services.shipping.models import Tracking
from shared.db import unit_of_work
from shared.web import Answer, Identity, NotFound, accepted
from shared.web.jobs_view import JobView

__all__: list[str] = []


class NothingToTrack(Conflict):
    """No label of the order was bought yet, so there is no parcel to follow."""

    slug, title = "nothing-to-track", "There is nothing to track yet"


class ScanView(BaseModel):
    """One entry of a parcel's history."""

    status: str
    substatus: str
    details: str
    place: str
    at: datetime | None


class TrackingView(BaseModel):
    """Where a parcel is, as its carrier says."""

    model_config = ConfigDict(title="Tracking", from_attributes=True)

    id: UUID
    label_id: UUID
    carrier: str
    tracking_number: str
    status: str = Field(description="`unknown`, `pre_transit`, `transit`, `delivered`, `returned` or `failure`.")
    substatus: str
    details: str
    place: str
    status_date: datetime | None = Field(description="When the carrier says it happened.")
    eta: datetime | None
    history: list[ScanView] = Field(description="Oldest first.")
    checked_at: datetime


class Trackings(BaseModel):
    """The parcels of an order, the newest first."""

    items: list[TrackingView]


@api.get("/v1/orders/<uuid:order_id>/tracking", raises=(NotFound,))
def read_tracking(order_id: UUID, identity: Identity) -> Trackings:
    """Read where an order's parcels are."""
    with unit_of_work() as session:
        find_order(session, order_id, identity)
        rows = session.scalars(select(Tracking).where(Tracking.order_id == order_id).order_by(Tracking.id.desc()))
        return Trackings(items=[TrackingView.model_validate(row) for row in rows])


@api.post(
    "/v1/orders/<uuid:order_id>/tracking/refresh",
    role=PACKERS,
    status=202,
    raises=(NotFound, NothingToTrack, ShippoNotConnected),
)
def refresh_tracking(order_id: UUID, identity: Identity) -> Answer[JobView]:
    """Ask the carrier now where the order's latest parcel is."""
    with unit_of_work() as session:
        order = find_order(session, order_id, identity)
        row = session.scalar(
            select(Tracking).where(Tracking.order_id == order_id).order_by(Tracking.id.desc()).limit(1)
        )
        if row is None:
            raise NothingToTrack(f"No label was bought for order {order.number} yet.")
        need_connection(session)
        return accepted(look_up_tracking.send(tracking_id=row.id, number=order.number))
