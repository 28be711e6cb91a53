"""Labels: buying one or many, the file, giving one back."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import flask
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.shipping import labels
from services.shipping.announce import tell_label
from services.shipping.api.base import (
    PACKERS,
    LabelStateForbids,
    OrderStateForbids,
    ShippoNotConnected,
    api,
    find_label,
    find_order,
    find_parcel,
    known_orders,
    need_connection,
)
from services.shipping.api.views import LabelAccepted, LabelFileType, LabelView
from services.shipping.jobs import buy_labels, purchase_label, refund_label
from services.shipping.models import Label, Order, Rate
from shared import blobs
from shared.db import unit_of_work
from shared.jobs.models import Job
from shared.web import Answer, Conflict, Identity, NotFound, Problem, Unprocessable, accepted, etag
from shared.web.jobs_view import JobView

__all__: list[str] = []

MOST_LABELS: Final = 10_000
_ADDRESS_SECONDS: Final = 300


class LabelFileNotReady(Conflict):
    """The label is bought, or will be, but its file is not here yet. Repeat it in a few seconds."""

    slug, title, retryable = "label-file-not-ready", "The label file is not here yet", True


class LabelFileGone(Problem):
    """The file was removed after the time for which label files are kept."""

    slug, title, status = "label-file-gone", "The label file was removed", 410


class LabelWanted(BaseModel):
    """How to buy. Without a rate the cheapest one is taken, after asking for rates if need be."""

    rate_id: UUID | None = Field(None, description="A rate of this order. It is never replaced by a dearer one.")
    label_file_type: LabelFileType = "pdf"
    parcel_id: UUID | None = Field(None, description="A parcel of the order; without it the rate's, or the first.")


class LabelsWanted(BaseModel):
    """Orders for which labels are to be bought, each at its cheapest rate."""

    order_ids: Annotated[list[UUID], Field(min_length=1, max_length=MOST_LABELS)]
    label_file_type: LabelFileType = "pdf"


class Labels(BaseModel):
    """The labels of an order, the newest first."""

    items: list[LabelView]


@api.post(
    "/v1/orders/<uuid:order_id>/labels",
    role=PACKERS,
    status=202,
    raises=(NotFound, LabelStateForbids, OrderStateForbids, ShippoNotConnected, Unprocessable),
    examples={"body": {"label_file_type": "pdf"}},
)
def buy_label(order_id: UUID, body: LabelWanted, identity: Identity) -> Answer[LabelAccepted]:
    """Buy a label. Asking again is answered with the same label and job, with and without an Idempotency-Key."""
    with unit_of_work() as session:
        order = find_order(session, order_id, identity, lock=True)
        rate = _rate_of(session, order, body.rate_id)
        parcel = find_parcel(session, order, body.parcel_id or (rate.parcel_id if rate else None))
        if rate is not None and rate.parcel_id != parcel.id:
            raise Unprocessable("The rate is for another parcel of the order.")
        label = labels.live_label(session, order.id, parcel.id)
        if label is None:
            if order.state not in ("New", "Processing"):
                raise OrderStateForbids(f"Order {order.number} is {order.state}; no label can be bought for it.")
            need_connection(session)
            label, _ = labels.request(
                session,
                order,
                parcel.id,
                rate_id=rate.id if rate is not None else None,
                label_file_type=body.label_file_type,
            )
            label.job_id = UUID(purchase_label.send(label_id=label.id, number=order.number).message_id)
            session.flush()
            tell_label(session, "requested", label, order)
        return _accepted(session, label)


@api.post(
    "/v1/labels/bulk",
    role=PACKERS,
    status=202,
    raises=(ShippoNotConnected, Unprocessable),
)
def buy_many_labels(body: LabelsWanted, identity: Identity) -> Answer[JobView]:
    """Buy a label for each of many orders: one job, whose progress counts them, with one child job per order."""
    with unit_of_work() as session:
        need_connection(session)
        wanted = known_orders(session, body.order_ids, identity)
        return accepted(buy_labels.send(order_ids=wanted, count=len(wanted), label_file_type=body.label_file_type))


@api.get("/v1/orders/<uuid:order_id>/labels", raises=(NotFound,))
def list_labels(order_id: UUID, identity: Identity) -> Labels:
    """List the labels of an order, also those that failed or were given back."""
    with unit_of_work() as session:
        find_order(session, order_id, identity)
        found = session.scalars(select(Label).where(Label.order_id == order_id).order_by(Label.id.desc()).limit(200))
        return Labels(items=[LabelView.of(label) for label in found])


@api.get("/v1/labels/<uuid:label_id>", raises=(NotFound,))
def read_label(label_id: UUID, identity: Identity) -> Answer[LabelView]:
    """Read a label."""
    with unit_of_work() as session:
        label, _ = find_label(session, label_id, identity)
        return Answer(LabelView.of(label), etag=etag(label.id, label.version))


@api.get(
    "/v1/labels/<uuid:label_id>/file",
    raises=(NotFound, LabelFileNotReady, LabelFileGone),
    answer_type="*/*",  # PDF, PNG or ZPL, as it was bought
    redirect="The file itself, for five minutes and without a token: where files are kept in a bucket.",
)
def read_label_file(label_id: UUID, identity: Identity) -> flask.Response:
    """Read the label's file from our own store, for printing.

    The file itself, or a 303 to where it is. That address bears its own signature: follow it without the
    `Authorization` header, as browsers and most clients do on the way to another host.
    """
    with unit_of_work() as session:
        label, order = find_label(session, label_id, identity)
    if label.file_deleted_at is not None:
        raise LabelFileGone()
    if label.file_key is None:
        raise LabelFileNotReady(headers={"Retry-After": "2"})
    plain = "".join(char for char in order.number if (char.isascii() and char.isalnum()) or char in "-_")
    name = f"label-{plain[:100]}.{label.label_file_type}"
    store = blobs.store()
    address = store.url_for(label.file_key, _ADDRESS_SECONDS, filename=name, media_type=label.file_media_type)
    if address is not None:
        # A bucket is a third party, which no request may read from; to sign an address asks nobody.
        return flask.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
    try:
        content = store.get(label.file_key)
    except blobs.NoSuchBlob:
        raise LabelFileGone("The file is not in the store any more.") from None
    return flask.Response(
        content,
        content_type=label.file_media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@api.post(
    "/v1/labels/<uuid:label_id>/refund",
    role=PACKERS,
    status=202,
    raises=(NotFound, LabelStateForbids),
)
def give_label_back(label_id: UUID, identity: Identity) -> Answer[LabelAccepted]:
    """Ask for the money back for a label that was bought and is not used. Carriers take up to two weeks."""
    with unit_of_work() as session:
        find_label(session, label_id, identity)
        found = labels.lock(session, label_id)
        assert found is not None, "it was found a moment ago, and labels are never removed"
        label, order = found
        if label.status not in ("purchased", "refund_pending"):
            raise LabelStateForbids(
                f"The label is {label.status.replace('_', ' ')}; only a bought one can be given back."
            )
        if label.status == "purchased":
            labels.start_refund(label)
            session.flush()
        message = refund_label.send(label_id=label.id, number=order.number)
        return _with_label(accepted(message), label)


def _rate_of(session: Session, order: Order, rate_id: UUID | None) -> Rate | None:
    if rate_id is None:
        return None
    rate = session.scalar(select(Rate).where(Rate.id == rate_id, Rate.order_id == order.id))
    if rate is None:
        raise Unprocessable("The order has no such rate.")
    return rate


def _accepted(session: Session, label: Label) -> Answer[LabelAccepted]:
    job = session.get(Job, label.job_id) if label.job_id is not None else None
    if job is None:
        # It ended so long ago that its record was cleaned up; what it brought is the label.
        raise LabelStateForbids(f"The label is {label.status.replace('_', ' ')} already.", label_id=str(label.id))
    return _with_label(accepted(job), label)


def _with_label(answer: Answer[JobView], label: Label) -> Answer[LabelAccepted]:
    body = LabelAccepted(**dict(answer.body), label=LabelView.of(label))
    return Answer(body, status=answer.status, headers=answer.headers)
