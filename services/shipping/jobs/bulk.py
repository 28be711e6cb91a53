"""Labels for many orders at once: one parent job, and under it one job per order that can be seen and retried."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.shipping import labels, orders
from services.shipping.announce import tell_label
from services.shipping.jobs.purchase import buy, ended
from services.shipping.models import Label, Order, Parcel
from shared.context import current
from shared.db import unit_of_work
from shared.jobs import GiveUp, Priority, Skip, actor, current_job, fan_out
from shared.jobs.verdict import Verdict

__all__ = ["buy_labels", "buy_order_label"]


@actor(queue_name="default", subject="Labels for {count} orders")
def buy_labels(order_ids: list[str], count: int, label_file_type: str = "pdf") -> dict[str, Any]:
    """Buy a label for each of these orders. Succeeds when every order's job has ended, whichever way."""
    items: list[dict[str, Any]] = [{}] * len(order_ids)
    if int(current_job().checkpoint.get("made", 0)) < len(order_ids):
        with unit_of_work() as session:
            rows = session.execute(
                select(Order.id, Order.number).where(Order.id.in_([UUID(one) for one in order_ids]))
            ).all()
        numbers = {str(row.id): row.number for row in rows}
        items = [
            {"order_id": one, "number": numbers.get(one, "?"), "label_file_type": label_file_type} for one in order_ids
        ]
    return fan_out(buy_order_label, items, unit="labels", priority=Priority.BULK)


@actor(queue_name="labels", unique="order_id", subject="Label for order {number}", time_limit=300)
def buy_order_label(order_id: UUID, number: str, label_file_type: str = "pdf") -> None:
    """Buy a label for the first parcel of one order, at the best rate; rates are asked for if there are none."""
    buy(_label_for(order_id, number, label_file_type), number)


def _label_for(order_id: UUID, number: str, label_file_type: str) -> UUID:
    """Return the order's label, made now if need be. Skips where another job buys it."""
    job_id = current_job().id
    with unit_of_work() as session:
        order = orders.lock(session, order_id)
        if order is None:
            raise Skip("order_gone")
        mine = session.scalar(select(Label.id).where(Label.order_id == order_id, Label.job_id == job_id))
        if mine is not None:
            return mine
        parcel_id = session.scalar(
            select(Parcel.id).where(Parcel.order_id == order_id).order_by(Parcel.position).limit(1)
        )
        if parcel_id is None:
            raise GiveUp("order_without_parcel", number=number)
        if order.state not in ("New", "Processing"):
            raise GiveUp("order_not_open", number=number)
        label, new = labels.request(session, order, parcel_id, label_file_type=label_file_type, job_id=job_id)
        if not new:
            raise Skip("already_purchased" if label.status == "purchased" else "already_under_way")
        session.flush()
        tell_label(session, "requested", label, order)
        return label.id


@buy_order_label.failed
def _ended(verdict: Verdict, order_id: UUID, number: str, label_file_type: str = "pdf") -> None:
    with unit_of_work() as session:
        label_id = session.scalar(
            select(Label.id)
            .where(Label.order_id == order_id, Label.job_id == UUID(current().job_id or ""))
            .order_by(Label.id.desc())
            .limit(1)
        )
    if label_id is not None:
        ended(verdict, label_id)
