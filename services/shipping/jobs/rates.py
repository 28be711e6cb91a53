"""Asking what carriers would take for a parcel. It costs nothing, so that it may be asked again."""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.shipping import rates
from services.shipping.jobs.account import Account, as_address, shippo_account
from services.shipping.jobs.said import given_up
from services.shipping.models import Address, Order, Parcel
from services.shipping.shippo_objects import Parcel as Box
from services.shipping.shippo_objects import Shipment as Quoted
from shared.db import unit_of_work
from shared.jobs import GiveUp, Skip, actor, completion
from shared.outbound import Refused

__all__ = ["ask", "shop_rates"]


@actor(queue_name="shippo", unique="parcel_id", subject="Rates for order {number}", time_limit=180)
def shop_rates(parcel_id: UUID, number: str) -> None:
    """Get rates for a parcel and keep them. Ends as failed when no carrier takes it."""
    with shippo_account() as account:
        order_id, quoted = ask(account, parcel_id, number)
    with completion({"rates": len(quoted.rates)}) as session:
        rates.keep(session, order_id, parcel_id, quoted)


def ask(account: Account, parcel_id: UUID, number: str) -> tuple[uuid.UUID, Quoted]:
    """Return the parcel's order and what carriers would take. Raises GiveUp when none takes it."""
    with unit_of_work() as session:
        found = _facts(session, parcel_id)
    if found is None:
        raise Skip("parcel_gone")
    parcel, order, address = found
    try:
        quoted = account.shippo.create_shipment(
            account.sender, as_address(address), [_box(parcel)], reference=number[:100]
        )
    except Refused as error:
        raise given_up(error, number) from error
    if not quoted.rates:
        words = "; ".join(message.text.rstrip(".") for message in quoted.messages)[:200]
        raise GiveUp("no_rates", words, number=number, carrier_says=words or "They gave no reason")
    return order.id, quoted


def _facts(session: Session, parcel_id: UUID) -> tuple[Parcel, Order, Address] | None:
    row: Any = session.execute(
        select(Parcel, Order, Address)
        .join(Order, Order.id == Parcel.order_id)
        .join(Address, Address.id == Order.address_id)
        .where(Parcel.id == parcel_id)
    ).one_or_none()
    return None if row is None else (row[0], row[1], row[2])


def _box(parcel: Parcel) -> Box:
    return Box(parcel.length, parcel.width, parcel.height, parcel.distance_unit, parcel.weight, parcel.mass_unit)
