"""Asking what carriers would take for a parcel. It costs nothing, so that it may be asked again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.shipping import rates
from services.shipping.jobs.account import Account, as_address, shippo_account
from services.shipping.jobs.said import given_up
from services.shipping.models import Address as AddressRow
from services.shipping.models import Order, Parcel
from services.shipping.shippo_objects import Address
from services.shipping.shippo_objects import Parcel as Box
from services.shipping.shippo_objects import Shipment as Quoted
from shared.db import unit_of_work
from shared.jobs import GiveUp, Skip, actor, completion
from shared.outbound import Refused

__all__ = ["Wanted", "ask", "shop_rates", "wanted_for"]


@actor(queue_name="shippo", unique="parcel_id", subject="Rates for order {number}", time_limit=180)
def shop_rates(parcel_id: UUID, number: str) -> None:
    """Get rates for a parcel and keep them. Ends as failed when no carrier takes it."""
    with shippo_account() as account:
        wanted = wanted_for(account, parcel_id)
        quoted = ask(account, wanted, number)
    with completion({"rates": len(quoted.rates)}) as session:
        rates.keep(session, wanted.order_id, parcel_id, quoted, wanted.fingerprint)


@dataclass(frozen=True)
class Wanted:
    """What rates are asked for, as our books have it now."""

    order_id: UUID
    sender: Address
    recipient: Address
    box: Box

    @property
    def fingerprint(self) -> str:
        return rates.fingerprint(self.sender, self.recipient, self.box)


def wanted_for(account: Account, parcel_id: UUID) -> Wanted:
    """Read what a parcel's rates are to be asked for. Raises Skip when it is gone."""
    with unit_of_work() as session:
        row: Any = session.execute(
            select(Parcel, AddressRow)
            .join(Order, Order.id == Parcel.order_id)
            .join(AddressRow, AddressRow.id == Order.address_id)
            .where(Parcel.id == parcel_id)
        ).one_or_none()
    if row is None:
        raise Skip("parcel_gone")
    parcel, address = row
    box = Box(parcel.length, parcel.width, parcel.height, parcel.distance_unit, parcel.weight, parcel.mass_unit)
    return Wanted(parcel.order_id, account.sender, as_address(address), box)


def ask(account: Account, wanted: Wanted, number: str) -> Quoted:
    """Return what carriers would take. Raises GiveUp when none takes it."""
    try:
        quoted = account.shippo.create_shipment(wanted.sender, wanted.recipient, [wanted.box], reference=number[:100])
    except Refused as error:
        raise given_up(error, number) from error
    if not quoted.rates:
        words = "; ".join(message.text.rstrip(".") for message in quoted.messages)[:200]
        raise GiveUp("no_rates", words, number=number, carrier_says=words or "They gave no reason")
    return quoted
