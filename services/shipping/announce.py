"""Telling others what happened, in the transaction in which it does."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from pydantic import BaseModel
from sqlalchemy.orm import Session

from services.shipping.models import Label, Order
from shared.context import current
from shared.events import outbox
from shared.events.contracts import shipping as events

__all__ = ["announce", "announce_all", "recipient_of", "tell_label"]

Occasion = Literal["requested", "failed", "needs_review", "purchased", "refunded", "refund_rejected"]


class _Contract(Protocol):
    type: str


def announce(session: Session, event: BaseModel, *, subject: uuid.UUID, sequence: int | None = None) -> None:
    """Publish one event about `subject`, whose version is `sequence`."""
    announce_all(session, [(subject, sequence, event)])


def announce_all(session: Session, batch: Sequence[tuple[uuid.UUID, int | None, BaseModel]]) -> None:
    """Publish events of one type, each with its subject and sequence, in one statement."""
    if not batch:
        return
    tenant_id = current().tenant_id
    assert tenant_id is not None, "events belong to a tenant"
    session.flush()
    contract: _Contract = batch[0][2]  # type: ignore[assignment]
    outbox.append(
        session.connection(),
        tenant_id=tenant_id,
        type=contract.type,
        events=[(str(subject), sequence, event.model_dump(mode="json")) for subject, sequence, event in batch],
    )


def recipient_of(order: Order) -> events.Recipient:
    """Return to whom an order goes, as events say it."""
    return events.Recipient(name=order.recipient_name, company=order.recipient_company, email=order.recipient_email)


def tell_label(session: Session, occasion: Occasion, label: Label, order: Order) -> None:
    """Publish what became of a label."""
    facts: dict[str, Any] = {"label_id": label.id, "order_id": order.id, "order_number": order.number}
    asked = {**facts, "requested_by": label.requested_by}
    event: BaseModel
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
    announce(session, event, subject=label.id, sequence=label.version)
