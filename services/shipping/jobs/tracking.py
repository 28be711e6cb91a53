"""Asking where a parcel is, when no webhook has told for long, or somebody wants to know now."""

from __future__ import annotations

from uuid import UUID

from services.shipping import tracking
from services.shipping.jobs.account import shippo_account
from services.shipping.jobs.said import given_up
from services.shipping.models import Tracking
from shared.db import unit_of_work
from shared.jobs import Skip, actor, completion
from shared.outbound import Refused

__all__ = ["look_up_tracking"]


@actor(queue_name="shippo", unique="tracking_id", subject="Tracking of order {number}", time_limit=120)
def look_up_tracking(tracking_id: UUID, number: str) -> None:
    """Ask for one parcel and take over what is newer than what we know."""
    with unit_of_work() as session:
        row = session.get(Tracking, tracking_id)
    if row is None:
        raise Skip("tracking_gone")
    with shippo_account() as account:
        try:
            seen = account.shippo.get_tracking(row.carrier, row.tracking_number)
        except Refused as error:
            raise given_up(error, number) from error
    with completion({"status": seen.latest.status if seen.latest else None}) as session:
        tracking.apply(session, session.get_one(Tracking, tracking_id), seen)
