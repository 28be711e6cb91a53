"""What goes in and out: the documents of shipping's API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from services.shipping.models import Label, Order
from shared.web.jobs_view import JobView

__all__ = [
    "AddressIn",
    "AddressView",
    "LabelAccepted",
    "LabelFileType",
    "LabelView",
    "OrderView",
    "ParcelIn",
    "ParcelView",
    "RateView",
    "Text",
    "address_fields",
]

OrderState = Literal["New", "Processing", "Shipped", "Delivered", "Cancelled"]
LabelFileType = Literal["pdf", "png", "zpl"]

Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
_Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=35)]
_Measure = Annotated[str, StringConstraints(pattern=r"^\d{1,5}(\.\d{1,4})?$")]


class AddressIn(BaseModel):
    """A postal address. What is missing can be rated, but no label can be bought for it."""

    model_config = ConfigDict(title="NewAddress")

    name: Text = Field("", description="The recipient's name, where it is not to be the order's recipient.")
    company: Text = ""
    street1: _Line = Field(description="Carriers print at most 35 characters.")
    street2: _Line = ""
    city: Text = ""
    state: Text = Field("", description="Needed in US, CA and AU.")
    zip: Text = ""
    country: Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")] = Field(description="ISO 3166, as `US`.")
    phone: Text = ""
    email: Text = ""


class AddressMessage(BaseModel):
    code: str
    text: str


class AddressView(AddressIn):
    model_config = ConfigDict(title="Address", from_attributes=True)

    id: UUID
    validation: Literal["unchecked", "valid", "invalid"]
    validation_messages: list[AddressMessage] = Field(description="What the carrier's directory says about it.")
    complete: bool | None = Field(description="Whether a label can be bought for it; null before it was checked.")
    validated_at: datetime | None


class ParcelIn(BaseModel):
    """A box. Measures are decimal text, so that nothing is rounded."""

    model_config = ConfigDict(title="NewParcel")

    length: _Measure
    width: _Measure
    height: _Measure
    distance_unit: Literal["in", "cm"]
    weight: _Measure
    mass_unit: Literal["lb", "oz", "kg", "g"]

    @field_validator("length", "width", "height", "weight")
    @classmethod
    def _is_something(cls, value: str) -> str:
        if not value.strip("0."):
            raise ValueError("must be above zero")
        return value


class ParcelView(ParcelIn):
    model_config = ConfigDict(title="Parcel", from_attributes=True)

    id: UUID
    position: int


class Line(BaseModel):
    """What is in the order."""

    kind: Literal["sample", "collateral"] = "sample"
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    sku: Text = ""
    quantity: int = Field(1, ge=1, le=10_000)
    image_url: Annotated[str, StringConstraints(max_length=2000)] = ""


class Recipient(BaseModel):
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    company: Text = ""
    email: Text = ""


class OrderView(BaseModel):
    """An order, with where it goes and what the carrier says about it."""

    model_config = ConfigDict(title="Order")

    id: UUID
    number: str
    state: OrderState
    created_by: str
    recipient: Recipient
    address: AddressView
    lines: list[Line]
    parcels: list[ParcelView]
    note: str
    carrier: str | None
    tracking_number: str | None
    tracking_url: str | None
    delivery_status: str | None = Field(description="What the carrier says; it never changes `state`.")
    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, order: Order) -> OrderView:
        """From a row whose address and parcels are loaded."""
        recipient = {
            "name": order.recipient_name,
            "company": order.recipient_company,
            "email": order.recipient_email,
        }
        own = (name for name in cls.model_fields if name not in ("recipient", "address", "parcels"))
        return cls.model_validate(
            {name: getattr(order, name) for name in own}
            | {
                "recipient": recipient,
                "address": AddressView.model_validate(order.address),
                "parcels": [ParcelView.model_validate(parcel) for parcel in order.parcels],
            }
        )


class RateView(BaseModel):
    """What a carrier would take. `amount` counts the currency's smallest unit."""

    model_config = ConfigDict(title="Rate", from_attributes=True)

    id: UUID
    parcel_id: UUID
    carrier: str
    service: str
    amount: int = Field(examples=[790])
    currency: str
    days: int | None
    attributes: list[str] = Field(description="`cheapest`, `fastest`, `bestvalue`")
    rated_at: datetime
    expires_at: datetime = Field(description="After this it cannot be bought any more.")
    expired: bool


class LabelView(BaseModel):
    """A label. `amount` counts the currency's smallest unit; it is the price agreed to, paid once `purchased`."""

    model_config = ConfigDict(title="Label", from_attributes=True)

    id: UUID
    order_id: UUID
    parcel_id: UUID
    job_id: UUID | None = Field(description="The job that buys it.")
    status: Literal[
        "requested",
        "purchasing",
        "waiting",
        "unknown",
        "needs_review",
        "purchased",
        "failed",
        "refund_pending",
        "refunded",
        "refund_rejected",
    ]
    rate_id: UUID | None
    label_file_type: LabelFileType
    carrier: str | None
    service: str | None
    amount: int | None
    currency: str | None
    tracking_number: str | None
    tracking_url: str | None
    file_ready: bool = Field(description="Whether `/file` has it already.")
    error_code: str | None
    requested_by: str | None
    purchased_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, label: Label) -> LabelView:
        own = (name for name in cls.model_fields if name != "file_ready")
        return cls.model_validate(
            {name: getattr(label, name) for name in own} | {"file_ready": label.file_key is not None}
        )


class LabelAccepted(JobView):
    """The job that buys a label, and the label."""

    model_config = ConfigDict(title="LabelJob")

    label: LabelView


def address_fields(address: AddressIn, recipient: Recipient) -> dict[str, Any]:
    """Return the fields of an `Address` row; the recipient's name stands in for one that is not given."""
    fields = address.model_dump()
    return {
        **fields,
        "name": address.name or recipient.name,
        "company": address.company or recipient.company,
        "email": address.email or recipient.email,
    }
