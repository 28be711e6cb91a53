"""Asking the carriers' directory about addresses. An address that is wrong is an answer, not a failure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from services.shipping.jobs.account import as_address, shippo_account
from services.shipping.jobs.said import given_up
from services.shipping.models import Address, Order
from shared.db import unit_of_work
from shared.events import publish
from shared.events.contracts.shipping import AddressValidated
from shared.jobs import Priority, Skip, actor, completion, current_job, fan_out
from shared.outbound import Refused

__all__ = ["validate_address", "validate_addresses"]


@actor(queue_name="shippo", unique="address_id", subject="Address of order {number}", time_limit=120)
def validate_address(address_id: UUID, number: str) -> None:
    """Have one address checked, and keep what was said about it."""
    with unit_of_work() as session:
        address = session.get(Address, address_id)
    if address is None:
        raise Skip("address_gone")
    with shippo_account() as account:
        try:
            check = account.shippo.validate_address(as_address(address))
        except Refused as error:
            raise given_up(error, number) from error
    with completion({"valid": check.valid, "complete": check.complete}) as session:
        fresh = session.get(Address, address_id, with_for_update={"key_share": True}, populate_existing=True)
        if fresh is None or fresh.version != address.version:
            return  # it was changed meanwhile: what was said is about another address
        fresh.validation = "valid" if check.valid else "invalid"
        fresh.validation_messages = [{"code": one.code, "text": one.text} for one in check.messages]
        fresh.complete = check.complete
        fresh.validated_at = datetime.now(UTC)
        session.execute(
            update(Order)
            .where(Order.address_id == address_id)
            .values(version=Order.version + 1, updated_at=datetime.now(UTC))
        )
        publish(
            session,
            AddressValidated(
                address_id=address_id,
                valid=check.valid,
                complete=check.complete,
                messages=[one.text for one in check.messages],
            ),
            subject=address_id,
            sequence=fresh.version,
        )


@actor(queue_name="default", subject="Check {count} addresses")
def validate_addresses(order_ids: list[str], count: int) -> dict[str, Any]:
    """Have the addresses of many orders checked; one child job each."""
    items: list[dict[str, Any]] = [{}] * len(order_ids)
    if int(current_job().checkpoint.get("made", 0)) < len(order_ids):
        with unit_of_work() as session:
            rows = session.execute(
                select(Order.id, Order.address_id, Order.number).where(Order.id.in_([UUID(one) for one in order_ids]))
            ).all()
        known = {str(row.id): row for row in rows}
        items = [
            {"address_id": known[one].address_id, "number": known[one].number} for one in order_ids if one in known
        ]
    return fan_out(validate_address, items, unit="addresses", priority=Priority.BULK)
