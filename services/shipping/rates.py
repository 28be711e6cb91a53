"""Rates in our own books: kept as they were quoted, and chosen from."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.shipping.models import Rate, Shipment
from services.shipping.settings import settings
from services.shipping.shippo_objects import Address, Parcel
from services.shipping.shippo_objects import Shipment as Quoted
from shared.db import new_id

__all__ = ["best", "expired", "fingerprint", "keep", "latest", "same_service"]


def keep(session: Session, order_id: uuid.UUID, parcel_id: uuid.UUID, quoted: Quoted, fingerprint: str) -> list[Rate]:
    """Store a shipment with its rates; return them."""
    now = datetime.now(UTC)
    shipment = Shipment(
        id=new_id(),
        order_id=order_id,
        parcel_id=parcel_id,
        provider_id=quoted.id,
        fingerprint=fingerprint,
        messages=[asdict(message) for message in quoted.messages],
        rated_at=min((rate.created_at for rate in quoted.rates), default=now),
    )
    session.add(shipment)
    session.flush()
    found = [
        Rate(
            id=new_id(),
            shipment_id=shipment.id,
            order_id=order_id,
            parcel_id=parcel_id,
            provider_id=rate.id,
            carrier=rate.carrier,
            service=rate.service,
            service_token=rate.service_token,
            amount=rate.price.amount,
            currency=rate.price.currency,
            days=rate.days,
            attributes=list(rate.attributes),
            rated_at=rate.created_at,
        )
        for rate in quoted.rates
    ]
    session.add_all(found)
    session.flush()
    return found


def fingerprint(sender: Address, recipient: Address, box: Parcel) -> str:
    """Return a mark of what rates are asked for; another address or box has another one."""
    facts = json.dumps([asdict(sender), asdict(recipient), asdict(box)], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()


def latest(session: Session, parcel_id: uuid.UUID) -> tuple[Shipment, list[Rate]] | None:
    """Return the newest shipment of a parcel with its rates, cheapest first; None before any was asked for."""
    shipment = session.scalar(
        select(Shipment)
        .where(Shipment.parcel_id == parcel_id)
        .order_by(Shipment.rated_at.desc(), Shipment.id.desc())
        .limit(1)
    )
    if shipment is None:
        return None
    found = session.scalars(
        select(Rate).where(Rate.shipment_id == shipment.id).order_by(Rate.amount, Rate.days, Rate.id)
    ).all()
    return shipment, list(found)


def best(rates: Sequence[Rate]) -> Rate | None:
    """Return the cheapest rate; among equals the faster one. None without any."""
    return min(rates, key=lambda rate: (rate.amount, rate.days or 99, rate.provider_id), default=None)


def same_service(rates: Sequence[Rate], old: Rate) -> Rate | None:
    """Return the rate of the same carrier and service in the same currency."""
    return next(
        (
            rate
            for rate in rates
            if (rate.carrier, rate.service_token, rate.currency) == (old.carrier, old.service_token, old.currency)
        ),
        None,
    )


def expired(rate: Rate, now: datetime | None = None) -> bool:
    """Whether Shippo would refuse the rate for its age; a minute early, since its clock is not ours."""
    limit = timedelta(days=settings().rate_days) - timedelta(minutes=1)
    return (now or datetime.now(UTC)) - rate.rated_at >= limit
