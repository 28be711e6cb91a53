"""What shipping tells the others. Versions never change in meaning: what breaks a reader is a new version.

An event's subject is the id of what it is about, its sequence that thing's version. Times are aware and in
UTC, money is a whole number of the currency's smallest unit.
"""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.events.contracts.contract import EventContract, example

__all__ = [
    "AddressValidated",
    "ConnectionChanged",
    "DeliveryFailed",
    "LabelFailed",
    "LabelNeedsReview",
    "LabelPurchased",
    "LabelRefundRejected",
    "LabelRefunded",
    "LabelRequested",
    "MilestoneReached",
    "OrderCreated",
    "OrderTransitioned",
    "ShippingSummaryCounted",
    "TrackingUpdated",
]

OrderState = Literal["New", "Processing", "Shipped", "Delivered", "Cancelled"]
TrackingStatus = Literal["unknown", "pre_transit", "transit", "delivered", "returned", "failure"]

_ORDER = "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b"
_LABEL = "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a2c"
_JOB = "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a3d"


class Recipient(BaseModel):
    """To whom an order goes."""

    model_config = ConfigDict(frozen=True)

    name: str
    company: str = ""
    email: str = Field("", description="Empty where the recipient is not to be written to.")


class OrderCreated(EventContract):
    """An order was entered."""

    type: ClassVar[str] = "backroom.shipping.order.created.v1"
    model_config = example(
        order_id=_ORDER,
        number="1042",
        created_by="user:ada",
        recipient={"name": "Bob Example", "company": "Example Labels", "email": "bob@example.com"},
    )

    order_id: UUID
    number: str = Field(description="What people call it.")
    created_by: str = Field(description="The principal.")
    recipient: Recipient


class OrderTransitioned(EventContract):
    """Somebody moved an order to another state. Carriers never do."""

    type: ClassVar[str] = "backroom.shipping.order.transitioned.v1"
    model_config = example(
        order_id=_ORDER,
        number="1042",
        created_by="user:ada",
        from_state="Processing",
        to_state="Shipped",
        by="user:eve",
        reason="",
    )

    order_id: UUID
    number: str
    created_by: str
    from_state: OrderState
    to_state: OrderState
    by: str | None = Field(description="The principal who did it.")
    reason: str = ""


class AddressValidated(EventContract):
    """The carrier's directory was asked about the address of an order."""

    type: ClassVar[str] = "backroom.shipping.address.validated.v1"
    model_config = example(address_id=_LABEL, valid=False, complete=True, messages=["The postal code was not found."])

    address_id: UUID
    valid: bool
    complete: bool = Field(description="Whether it has all that a label needs.")
    messages: list[str]


class LabelRequested(EventContract):
    """Somebody asked for a label. Whether it is bought, other events tell."""

    type: ClassVar[str] = "backroom.shipping.label.requested.v1"
    model_config = example(label_id=_LABEL, order_id=_ORDER, order_number="1042", requested_by="user:eve", job_id=_JOB)

    label_id: UUID
    order_id: UUID
    order_number: str
    requested_by: str | None
    job_id: UUID | None = None


class LabelPurchased(EventContract):
    """A label was bought, and paid for."""

    type: ClassVar[str] = "backroom.shipping.label.purchased.v1"
    model_config = example(
        label_id=_LABEL,
        order_id=_ORDER,
        order_number="1042",
        requested_by="user:eve",
        carrier="USPS",
        service="Ground Advantage",
        amount=790,
        currency="USD",
        tracking_number="9205590164917312751089",
        tracking_url="https://tracking.example/9205590164917312751089",
        purchased_at="2026-03-01T12:00:00Z",
    )

    label_id: UUID
    order_id: UUID
    order_number: str
    requested_by: str | None
    carrier: str
    service: str
    amount: int
    currency: str
    tracking_number: str
    tracking_url: str
    purchased_at: AwareDatetime


class LabelFailed(EventContract):
    """No label was bought, and nothing is tried any more."""

    type: ClassVar[str] = "backroom.shipping.label.failed.v1"
    model_config = example(
        label_id=_LABEL,
        order_id=_ORDER,
        order_number="1042",
        requested_by="user:eve",
        code="address_rejected",
        job_id=_JOB,
    )

    label_id: UUID
    order_id: UUID
    order_number: str
    requested_by: str | None
    code: str = Field(description="A key of shipping's failure texts.")
    job_id: UUID | None = Field(None, description="The job that can be retried.")


class LabelNeedsReview(EventContract):
    """Whether a label was bought cannot be known yet; nobody buys another one without a person's word."""

    type: ClassVar[str] = "backroom.shipping.label.needs_review.v1"
    model_config = example(
        label_id=_LABEL,
        order_id=_ORDER,
        order_number="1042",
        requested_by="user:eve",
        code="provider_unknown_outcome",
        job_id=_JOB,
    )

    label_id: UUID
    order_id: UUID
    order_number: str
    requested_by: str | None
    code: str
    job_id: UUID | None = None


class LabelRefunded(EventContract):
    """The money for a label came back."""

    type: ClassVar[str] = "backroom.shipping.label.refunded.v1"
    model_config = example(label_id=_LABEL, order_id=_ORDER, order_number="1042", amount=790, currency="USD")

    label_id: UUID
    order_id: UUID
    order_number: str
    amount: int | None
    currency: str | None


class LabelRefundRejected(EventContract):
    """The money for a label does not come back: it was used, or it was too late."""

    type: ClassVar[str] = "backroom.shipping.label.refund_rejected.v1"
    model_config = example(label_id=_LABEL, order_id=_ORDER, order_number="1042", amount=790, currency="USD")

    label_id: UUID
    order_id: UUID
    order_number: str
    amount: int | None
    currency: str | None


class TrackingUpdated(EventContract):
    """The carrier says something newer about a parcel. The order's state stays as people set it."""

    type: ClassVar[str] = "backroom.shipping.tracking.updated.v1"
    model_config = example(
        order_id=_ORDER,
        label_id=_LABEL,
        carrier="usps",
        tracking_number="9205590164917312751089",
        status="transit",
        substatus="out_for_delivery",
        details="Out for delivery.",
        place="Reno, NV, US",
        status_date="2026-03-03T08:12:00Z",
        eta=None,
    )

    order_id: UUID
    label_id: UUID
    carrier: str
    tracking_number: str
    status: TrackingStatus
    substatus: str = ""
    details: str = ""
    place: str = ""
    status_date: AwareDatetime | None = None
    eta: AwareDatetime | None = None


class MilestoneReached(EventContract):
    """An order came a good step further; once per order and milestone, for those who are told of it."""

    type: ClassVar[str] = "backroom.shipping.milestone.reached.v1"
    model_config = example(
        order_id=_ORDER,
        order_number="1042",
        milestone="in_transit",
        created_by="user:ada",
        recipient={"name": "Bob Example", "company": "Example Labels", "email": "bob@example.com"},
        carrier="USPS",
        tracking_number="9205590164917312751089",
        tracking_url="https://tracking.example/9205590164917312751089",
    )

    order_id: UUID
    order_number: str
    milestone: Literal["label_created", "in_transit", "delivered"]
    created_by: str
    recipient: Recipient
    carrier: str
    tracking_number: str
    tracking_url: str


class DeliveryFailed(EventContract):
    """An alert: the parcel comes back, or could not be delivered; once per order and reason."""

    type: ClassVar[str] = "backroom.shipping.delivery.failed.v1"
    model_config = example(
        order_id=_ORDER,
        order_number="1042",
        reason="returned",
        details="Your shipment is being returned to the sender.",
        carrier="USPS",
        tracking_number="9205590164917312751089",
    )

    order_id: UUID
    order_number: str
    reason: Literal["returned", "failure"]
    details: str
    carrier: str
    tracking_number: str


class ConnectionChanged(EventContract):
    """The account with Shippo works, or does not any more."""

    type: ClassVar[str] = "backroom.shipping.connection.changed.v1"
    model_config = example(provider="shippo", status="needs_reauthorization")

    provider: Literal["shippo"]
    status: Literal["checking", "connected", "needs_reauthorization"]


class Spend(BaseModel):
    """What was bought in one currency."""

    model_config = ConfigDict(frozen=True)

    labels: int
    amount: int = Field(description="In the currency's smallest unit.")


class CreatorOrders(BaseModel):
    """Orders of one principal."""

    model_config = ConfigDict(frozen=True)

    open: int = Field(description="New or in Processing.")
    last_30_days: int = Field(description="Entered in the last thirty days.")


class ShippingSummaryCounted(EventContract):
    """The figures of a workspace were counted. The event's sequence grows with `counted_at`."""

    type: ClassVar[str] = "backroom.shipping.summary.counted.v1"
    model_config = example(
        counted_at="2026-03-01T12:20:00Z",
        orders_by_state={"New": 3, "Processing": 2, "Shipped": 40},
        stuck_orders=1,
        orders_30_days=25,
        orders_previous_30_days=20,
        spend_30_days={"USD": {"labels": 24, "amount": 18960}},
        by_creator={"user:ada": {"open": 4, "last_30_days": 21}},
        last_activity_at="2026-03-01T12:01:07Z",
        shippo="connected",
    )

    counted_at: AwareDatetime
    orders_by_state: dict[str, int] = Field(description="States that no order is in are not there.")
    stuck_orders: int = Field(description="New or in Processing, and not moved for days.")
    orders_30_days: int = Field(description="Entered in the last thirty days.")
    orders_previous_30_days: int = Field(description="Entered in the thirty days before those.")
    spend_30_days: dict[str, Spend] = Field(description="Labels bought and not given back, by currency.")
    by_creator: dict[str, CreatorOrders] = Field(description="By the principal who entered them.")
    last_activity_at: AwareDatetime | None = Field(description="When an order was last entered or changed.")
    shippo: Literal["not_connected", "checking", "connected", "needs_reauthorization"]
