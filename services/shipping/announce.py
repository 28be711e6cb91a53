"""Telling others what happened, in the transaction in which it does."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy.orm import Session

from services.shipping.models import Label, Order
from shared.events import EventContract, publish
from shared.events.contracts import shipping as events

__all__ = ["recipient_of", "tell_label"]

Occasion = Literal["requested", "failed", "needs_review", "purchased", "refunded", "refund_rejected"]


def recipient_of(order: Order) -> events.Recipient:
    """Return to whom an order goes, as events say it."""
    return events.Recipient(name=order.recipient_name, company=order.recipient_company, email=order.recipient_email)


def tell_label(session: Session, occasion: Occasion, label: Label, order: Order) -> None:
    """Publish what became of a label."""
    facts: dict[str, Any] = {"label_id": label.id, "order_id": order.id, "order_number": order.number}
    asked = {**facts, "requested_by": label.requested_by}
    event: EventContract
    match occasion:
        case "requested":
            event = events.LabelRequested(**asked, job_id=label.job_id)
        case "failed":
            event = events.LabelFailed(**asked, code=label.error_code or "unexpected", job_id=label.job_id)
        case "needs_review":
            event = events.LabelNeedsReview(**asked, code=label.error_code or "unexpected", job_id=label.job_id)
        case "refunded":
            event = events.LabelRefunded(**facts, amount=label.amount, currency=label.currency)
        case "refund_rejected":
            event = events.LabelRefundRejected(**facts, amount=label.amount, currency=label.currency)
        case "purchased":
            assert label.purchased_at is not None, "a bought label has its time"
            event = events.LabelPurchased(
                **asked,
                carrier=label.carrier or "",
                service=label.service or "",
                amount=label.amount or 0,
                currency=label.currency or "",
                tracking_number=label.tracking_number or "",
                tracking_url=label.tracking_url or "",
                purchased_at=label.purchased_at,
            )
    publish(session, event, subject=label.id, sequence=label.version)
