"""Where parcels are, from webhooks and look-ups alike: only what is newer counts, and nothing is told twice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.shipping import labels
from services.shipping.models import Order, Tracking
from services.shipping.shippo_objects import Scan
from services.shipping.shippo_objects import Tracking as Seen
from shared.events import publish
from shared.events.contracts.shipping import TrackingUpdated

__all__ = ["apply", "find"]

_MILESTONES: Final = {
    "transit": "in_transit",
    "delivered": "delivered",
    "returned": "returned",
    "failure": "failure",
}
_MOST_SCANS: Final = 200


def find(session: Session, carrier: str, number: str) -> Tracking | None:
    """Return the tracking of this number, or None where it is none of ours."""
    return session.scalar(
        select(Tracking).where(Tracking.carrier == carrier.lower(), Tracking.tracking_number == number)
    )


def apply(session: Session, tracking: Tracking, seen: Seen) -> bool:
    """Take over what a carrier says; return whether it is news. The order's state is left alone.

    Scans that come late are put into the history where they belong. The status follows `status_date`; a
    milestone passed meanwhile is not told after the fact.
    """
    order = session.scalars(
        select(Order)
        .where(Order.id == tracking.order_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()
    session.refresh(tracking, with_for_update={"key_share": True})
    tracking.checked_at = datetime.now(UTC)
    tracking.history = _merged(tracking.history, [*seen.history, *([seen.latest] if seen.latest else [])])
    if seen.eta is not None:
        tracking.eta = seen.eta
    scan = seen.latest
    if scan is None or not _is_newer(scan, tracking):
        return False
    tracking.status, tracking.substatus = scan.status, scan.substatus
    tracking.details, tracking.place, tracking.status_date = scan.details, scan.place, scan.at
    tracking.version += 1
    if order.tracking_number == tracking.tracking_number:
        order.delivery_status = scan.status
        order.version += 1
        order.updated_at = datetime.now(UTC)
    publish(
        session,
        TrackingUpdated(
            order_id=order.id,
            label_id=tracking.label_id,
            carrier=tracking.carrier,
            tracking_number=tracking.tracking_number,
            status=scan.status,
            substatus=scan.substatus,
            details=scan.details,
            place=scan.place,
            status_date=scan.at,
            eta=tracking.eta,
        ),
        subject=tracking.id,
        sequence=tracking.version,
    )
    name = _MILESTONES.get(scan.status)
    if name is not None:
        labels.milestone(session, order, name, label_id=tracking.label_id, details=scan.details)
    return True


def _is_newer(scan: Scan, tracking: Tracking) -> bool:
    if tracking.status_date is None:
        # Known so far only from the purchase: anything that says more, or says it with a date.
        return scan.at is not None or scan.status != tracking.status
    return scan.at is not None and scan.at > tracking.status_date


def _merged(history: list[Any], scans: list[Scan]) -> list[Any]:
    """Return the history with these scans in it, oldest first, each once."""
    entries = {_key(entry): entry for entry in history}
    for scan in scans:
        entry = {
            "status": scan.status,
            "substatus": scan.substatus,
            "details": scan.details,
            "place": scan.place,
            "at": scan.at.isoformat() if scan.at else None,
        }
        entries.setdefault(_key(entry), entry)
    return sorted(entries.values(), key=lambda entry: entry["at"] or "")[-_MOST_SCANS:]


def _key(entry: dict[str, Any]) -> tuple[Any, ...]:
    return (entry["at"], entry["status"], entry["substatus"], entry["place"])
