"""What Shippo's webhooks lead to. Processed as a job, from the row in which the request left them.

A tracking update is taken over as it is, by its time. Of a label a webhook says only that it is worth a
look: what was bought, the purchase's own job reads from Shippo, so that nobody who learns a webhook's
address can make us believe in a label.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from services.shipping import labels, tracking
from services.shipping.jobs.recheck import recheck_label
from services.shipping.jobs.refunds import poll_refund
from services.shipping.models import Label, Order
from services.shipping.shippo_objects import Label as Bought
from services.shipping.webhooks import Unreadable, parse
from shared.jobs import actor
from shared.jobs.operations import hasten
from shared.jobs.webhooks import note_failure, process

__all__ = ["process_webhook"]


@actor(queue_name="webhooks", transactional=True, unique="event_id", subject="Message from Shippo")
def process_webhook(event_id: UUID) -> dict[str, str]:
    """Process one webhook; says in the job's result what it led to."""
    return process(event_id, _act)


process_webhook.failed(note_failure)


def _act(session: Session, body: dict[str, object]) -> str:
    try:
        event = parse(body)
    except Unreadable:
        return "unreadable"
    if event.tracking is not None:
        row = tracking.find(session, event.tracking.carrier, event.tracking.tracking_number)
        if row is None:
            return "not_ours"
        return "applied" if tracking.apply(session, row, event.tracking) else "not_newer"
    if event.label is not None:
        return _look(session, event.label)
    return "not_needed"


def _look(session: Session, bought: Bought) -> str:
    """Have somebody look at a label soon: its own job if that still goes, else one that only looks."""
    by_reference = [Label.id == found] if (found := _label_id(bought.reference)) is not None else []
    row = session.execute(
        select(Label, Order.number)
        .join(Order, Order.id == Label.order_id)
        .where(or_(Label.provider_id == bought.id, *by_reference))
        .limit(1)
    ).one_or_none()
    if row is None or labels.reference(row.Label) != bought.reference:
        return "not_ours"
    label, number = row.Label, row.number
    if label.status == "refund_pending":
        message = poll_refund.send(label_id=label.id, number=number)
        hasten(session, UUID(message.message_id))
        return "refund_looked_at"
    if label.status not in ("purchasing", "waiting", "unknown", "needs_review"):
        return "known_already"
    if label.status == "waiting" and label.job_id is not None and hasten(session, label.job_id):
        return "purchase_hastened"
    if label.status == "needs_review":
        recheck_label.send(label_id=label.id, number=number)
        return "looked_for"
    # The purchase is under way and will find out by itself, at the right moment.
    return "left_to_its_job"


def _label_id(reference: str) -> UUID | None:
    try:
        return UUID(reference.rpartition("|l")[2] or reference.removeprefix("l"))
    except ValueError:
        return None
