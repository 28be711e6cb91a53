"""The tables of shipping. Every row belongs to one tenant, and row-level security keeps it there.

Money is a whole number of the currency's smallest unit. `version` grows with each change that is told
to others; events carry it, so that who receives them late can tell.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Boolean, Integer, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from services.shipping.credentials import HMAC_SECRET, TOKEN, WEBHOOK_TOKEN
from shared.db import TYPES, TenantRecord, metadata, sealed

__all__ = [
    "LIVE_LABEL",
    "ORDER_STATES",
    "Address",
    "Base",
    "Label",
    "Milestone",
    "Order",
    "Parcel",
    "Rate",
    "Shipment",
    "ShippoAccount",
    "Tracking",
    "Transition",
]

ORDER_STATES: Final = ("New", "Processing", "Shipped", "Delivered", "Cancelled")

LIVE_LABEL: Final = ("requested", "purchasing", "waiting", "unknown", "needs_review", "purchased")
"""States of which a parcel may have one label at most: it is bought, or may yet turn out to be."""


class Base(DeclarativeBase):
    """Base of the tables of shipping."""

    metadata = metadata()
    type_annotation_map = TYPES


class Address(TenantRecord, Base):
    """Where an order goes: a copy of its own, so that no later change elsewhere redirects a parcel."""

    __tablename__ = "addresses"

    name: Mapped[str] = mapped_column(default="")
    company: Mapped[str] = mapped_column(default="")
    street1: Mapped[str]
    street2: Mapped[str] = mapped_column(default="")
    city: Mapped[str] = mapped_column(default="")
    state: Mapped[str] = mapped_column(default="")
    zip: Mapped[str] = mapped_column(default="")
    country: Mapped[str]
    phone: Mapped[str] = mapped_column(default="")
    email: Mapped[str] = mapped_column(default="")
    validation: Mapped[str] = mapped_column(default="unchecked")
    """`unchecked`, `valid` or `invalid`; a change of the address sets it back."""
    validation_messages: Mapped[list[Any]] = mapped_column(default=list)
    """[{code, text}], in Shippo's words."""
    complete: Mapped[bool | None] = mapped_column(Boolean, default=None)
    """Whether Shippo has all that a label needs; None before it was asked."""
    validated_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(Integer, default=1)


class Order(TenantRecord, Base):
    """A request to send something to one recipient."""

    __tablename__ = "orders"

    number: Mapped[str]
    """Unique within the tenant."""
    state: Mapped[str] = mapped_column(default="New")
    created_by: Mapped[str]
    """The principal; the role `sales` sees its own orders only."""
    recipient_name: Mapped[str]
    recipient_company: Mapped[str] = mapped_column(default="")
    recipient_email: Mapped[str] = mapped_column(default="")
    address_id: Mapped[uuid.UUID]
    lines: Mapped[list[Any]] = mapped_column(default=list)
    """[{kind: sample|collateral, name, sku, quantity, image_url}]"""
    note: Mapped[str] = mapped_column(default="")
    carrier: Mapped[str | None] = mapped_column(default=None)
    tracking_number: Mapped[str | None] = mapped_column(default=None)
    tracking_url: Mapped[str | None] = mapped_column(default=None)
    delivery_status: Mapped[str | None] = mapped_column(default=None)
    """What the carrier says; the order's own state is for people to set."""
    version: Mapped[int] = mapped_column(Integer, default=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    address: Mapped[Address] = relationship(
        primaryjoin="foreign(Order.address_id) == Address.id", viewonly=True, lazy="raise"
    )
    parcels: Mapped[list[Parcel]] = relationship(
        primaryjoin="Order.id == foreign(Parcel.order_id)", viewonly=True, lazy="raise", order_by="Parcel.position"
    )


class Transition(TenantRecord, Base):
    """One step of an order's timeline: who set which state when."""

    __tablename__ = "order_transitions"

    order_id: Mapped[uuid.UUID]
    from_state: Mapped[str]
    to_state: Mapped[str]
    principal: Mapped[str | None]
    reason: Mapped[str] = mapped_column(default="")


class Parcel(TenantRecord, Base):
    """A box of an order. Measures are decimal text, as they were given: 5.5 must not become 5.4999."""

    __tablename__ = "parcels"

    order_id: Mapped[uuid.UUID]
    position: Mapped[int] = mapped_column(Integer, default=1)
    length: Mapped[str]
    width: Mapped[str]
    height: Mapped[str]
    distance_unit: Mapped[str]
    weight: Mapped[str]
    mass_unit: Mapped[str]


class Shipment(TenantRecord, Base):
    """A parcel as Shippo knows it, with what it said when we asked for rates."""

    __tablename__ = "shipments"

    order_id: Mapped[uuid.UUID]
    parcel_id: Mapped[uuid.UUID]
    provider_id: Mapped[str]
    fingerprint: Mapped[str]
    """Of all that the rates were quoted for: when it is another now, they no longer hold."""
    messages: Mapped[list[Any]] = mapped_column(default=list)
    rated_at: Mapped[datetime]


class Rate(TenantRecord, Base):
    """What a carrier would take. Cannot be bought any more seven days after `rated_at`."""

    __tablename__ = "rates"

    shipment_id: Mapped[uuid.UUID]
    order_id: Mapped[uuid.UUID]
    parcel_id: Mapped[uuid.UUID]
    provider_id: Mapped[str]
    carrier: Mapped[str]
    service: Mapped[str]
    service_token: Mapped[str]
    amount: Mapped[int] = mapped_column(Integer)
    currency: Mapped[str]
    days: Mapped[int | None] = mapped_column(Integer)
    attributes: Mapped[list[Any]] = mapped_column(default=list)
    """`cheapest`, `fastest`, `bestvalue`"""
    rated_at: Mapped[datetime]


class Label(TenantRecord, Base):
    """A label for one parcel. The states and their arrows are in services/shipping/README.md."""

    __tablename__ = "labels"

    order_id: Mapped[uuid.UUID]
    parcel_id: Mapped[uuid.UUID]
    job_id: Mapped[uuid.UUID | None] = mapped_column(default=None)
    """The job that buys it."""
    rate_id: Mapped[uuid.UUID | None] = mapped_column(default=None)
    """None until the job has chosen one. Changes only while nothing can have been bought at the old one."""
    chosen: Mapped[bool] = mapped_column(Boolean, default=False)
    """Whether a person chose the rate."""
    label_file_type: Mapped[str] = mapped_column(default="pdf")
    status: Mapped[str] = mapped_column(default="requested")
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    carrier: Mapped[str | None] = mapped_column(default=None)
    service: Mapped[str | None] = mapped_column(default=None)
    amount: Mapped[int | None] = mapped_column(Integer, default=None)
    currency: Mapped[str | None] = mapped_column(default=None)
    provider_id: Mapped[str | None] = mapped_column(default=None)
    """Shippo's id of the transaction."""
    tracking_number: Mapped[str | None] = mapped_column(default=None)
    tracking_url: Mapped[str | None] = mapped_column(default=None)
    file_key: Mapped[str | None] = mapped_column(default=None)
    file_media_type: Mapped[str | None] = mapped_column(default=None)
    file_deleted_at: Mapped[datetime | None] = mapped_column(default=None)
    error_code: Mapped[str | None] = mapped_column(default=None)
    error_fields: Mapped[dict[str, Any]] = mapped_column(default=dict)
    requested_by: Mapped[str | None] = mapped_column(default=None)
    waiting_since: Mapped[datetime | None] = mapped_column(default=None)
    polls: Mapped[int] = mapped_column(Integer, default=0)
    """How often we looked at a purchase that Shippo had queued, or at a refund."""
    purchased_at: Mapped[datetime | None] = mapped_column(default=None)
    refund_requested_at: Mapped[datetime | None] = mapped_column(default=None)
    refund_provider_id: Mapped[str | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(Integer, default=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Tracking(TenantRecord, Base):
    """Where a parcel is. An update counts only when its `status_date` is newer than what is known."""

    __tablename__ = "trackings"

    order_id: Mapped[uuid.UUID]
    label_id: Mapped[uuid.UUID]
    carrier: Mapped[str]
    """As tracking knows it, in lower case."""
    tracking_number: Mapped[str]
    status: Mapped[str] = mapped_column(default="pre_transit")
    substatus: Mapped[str] = mapped_column(default="")
    details: Mapped[str] = mapped_column(default="")
    place: Mapped[str] = mapped_column(default="")
    status_date: Mapped[datetime | None] = mapped_column(default=None)
    eta: Mapped[datetime | None] = mapped_column(default=None)
    history: Mapped[list[Any]] = mapped_column(default=list)
    """[{status, substatus, details, place, at}], oldest first."""
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    version: Mapped[int] = mapped_column(Integer, default=1)


class Milestone(TenantRecord, Base):
    """What was told about an order once, and is not told again."""

    __tablename__ = "milestones"

    order_id: Mapped[uuid.UUID]
    milestone: Mapped[str]
    label_id: Mapped[uuid.UUID | None] = mapped_column(default=None)


class ShippoAccount(TenantRecord, Base):
    """A tenant's account with Shippo; at most one."""

    __tablename__ = "shippo_accounts"

    status: Mapped[str] = mapped_column(default="checking")
    """`checking`, `connected` or `needs_reauthorization`."""
    token_sealed: Mapped[str] = sealed(TOKEN)
    token_hint: Mapped[str]
    """The last characters, so that people can tell which token it is."""
    test: Mapped[bool] = mapped_column(Boolean)
    webhook_token_hash: Mapped[str]
    webhook_token_sealed: Mapped[str] = sealed(WEBHOOK_TOKEN)
    webhook_id: Mapped[str | None] = mapped_column(default=None)
    hmac_secret_sealed: Mapped[str | None] = sealed(HMAC_SECRET, default=None)
    sender: Mapped[dict[str, Any]]
    """The address from which the tenant ships: the fields of an address."""
    connected_by: Mapped[str | None] = mapped_column(default=None)
    checked_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(Integer, default=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
