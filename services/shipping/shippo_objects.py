"""What Shippo's objects mean, in our words: pure, so that jobs and webhooks read them alike.

Shapes after https://github.com/goshippo/shippo-python-sdk, docs/models/components (transaction.md,
rate.md, track.md, address.md, refund.md). Unknown fields are ignored; what is missing and needed raises
KeyError, TypeError or ValueError, as the parsers of the standard library would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self, get_args

from services.shipping.money import Money

__all__ = [
    "LABEL_FILE_TYPES",
    "Address",
    "AddressCheck",
    "Label",
    "LabelFormat",
    "LabelStatus",
    "Message",
    "Parcel",
    "Rate",
    "Refund",
    "Scan",
    "Shipment",
    "Tracking",
    "TrackingStatus",
    "moment",
]

LabelFormat = Literal["pdf", "png", "zpl"]
LABEL_FILE_TYPES: Final[Mapping[LabelFormat, str]] = {"pdf": "PDF_4x6", "png": "PNG", "zpl": "ZPLII"}
"""Shippo's name of each format; PDF in the size of label printers rather than the account's default."""

LabelStatus = Literal["purchased", "waiting", "failed", "refund_pending", "refunded", "refund_rejected"]
_LABEL_STATUS: Final[Mapping[str, LabelStatus]] = {
    "SUCCESS": "purchased",
    "QUEUED": "waiting",
    "WAITING": "waiting",
    "ERROR": "failed",
    "REFUNDPENDING": "refund_pending",
    "REFUNDED": "refunded",
    "REFUNDREJECTED": "refund_rejected",
}

RefundStatus = Literal["pending", "refunded", "rejected"]
_REFUND_STATUS: Final[Mapping[str, RefundStatus]] = {
    "QUEUED": "pending",
    "PENDING": "pending",
    "SUCCESS": "refunded",
    "ERROR": "rejected",
}

TrackingStatus = Literal["unknown", "pre_transit", "transit", "delivered", "returned", "failure"]


@dataclass(frozen=True, slots=True)
class Message:
    """What Shippo or a carrier had to say: `source` such as `UPS`, `code` such as `carrier_timeout`."""

    source: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address. Lines have at most 35 characters; the state is needed in US, CA and AU."""

    name: str
    street1: str
    city: str
    zip: str
    country: str
    state: str = ""
    street2: str = ""
    company: str = ""
    phone: str = ""
    email: str = ""

    def as_shippo(self) -> dict[str, str]:
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class Parcel:
    """Measures as decimal text, with units: `in`, `cm`; `lb`, `oz`, `kg`, `g`."""

    length: str
    width: str
    height: str
    distance_unit: str
    weight: str
    mass_unit: str

    def as_shippo(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AddressCheck:
    """The result of a validation. Not `complete`: can be rated, but no label can be bought for it."""

    id: str
    complete: bool
    valid: bool
    messages: tuple[Message, ...]

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        results = data.get("validation_results") or {}
        return cls(
            id=_text(data, "object_id"),
            complete=bool(data.get("is_complete")),
            valid=bool(results.get("is_valid")),
            messages=_messages(results.get("messages")),
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """What a carrier would take for a parcel. Cannot be bought once it is older than 7 days."""

    id: str
    shipment_id: str
    carrier: str
    service: str
    service_token: str
    price: Money
    days: int | None
    attributes: tuple[str, ...]
    created_at: datetime

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        service = data.get("servicelevel") or {}
        days = data.get("estimated_days")
        return cls(
            id=_text(data, "object_id"),
            shipment_id=str(data.get("shipment") or ""),
            carrier=_text(data, "provider"),
            service=str(service.get("name") or ""),
            service_token=str(service.get("token") or ""),
            price=Money.parse(data["amount"], data["currency"]),
            days=None if days is None else int(days),
            attributes=tuple(str(one).lower() for one in data.get("attributes") or ()),
            created_at=moment(data["object_created"]),
        )


@dataclass(frozen=True, slots=True)
class Shipment:
    """A shipment with its rates; without any, the messages say why."""

    id: str
    rates: tuple[Rate, ...]
    messages: tuple[Message, ...]

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=_text(data, "object_id"),
            rates=tuple(Rate.parse(rate) for rate in data.get("rates") or ()),
            messages=_messages(data.get("messages")),
        )


@dataclass(frozen=True, slots=True)
class Label:
    """A purchase of a label: Shippo's transaction. `reference` is ours; `url` expires within a day or so."""

    id: str
    status: LabelStatus
    rate_id: str
    reference: str
    tracking_number: str
    tracking_url: str
    url: str
    eta: datetime | None
    messages: tuple[Message, ...]
    test: bool
    updated_at: datetime

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        rate = data.get("rate")
        if isinstance(rate, Mapping):  # webhooks may carry the rate itself
            rate = rate.get("object_id")
        return cls(
            id=_text(data, "object_id"),
            status=_LABEL_STATUS[str(data["status"]).upper()],
            rate_id=str(rate or ""),
            reference=str(data.get("metadata") or ""),
            tracking_number=str(data.get("tracking_number") or ""),
            tracking_url=str(data.get("tracking_url_provider") or ""),
            url=str(data.get("label_url") or ""),
            eta=_moment_or_none(data.get("eta")),
            messages=_messages(data.get("messages")),
            test=bool(data.get("test")),
            updated_at=moment(data["object_updated"]),
        )

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` makes the same label of, for the effect journal."""
        return {
            **asdict(self),
            "eta": self.eta and self.eta.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            **{
                **data,
                "eta": _moment_or_none(data["eta"]),
                "messages": tuple(Message(**one) for one in data["messages"]),
                "updated_at": moment(data["updated_at"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Refund:
    """A request for the money back; decided within up to 14 business days."""

    id: str
    label_id: str
    status: RefundStatus

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        status = _REFUND_STATUS[str(data["status"]).upper()]
        return cls(_text(data, "object_id"), str(data.get("transaction") or ""), status)


@dataclass(frozen=True, slots=True)
class Scan:
    """One entry of a parcel's history. `substatus` is a code such as `delivery_attempted`."""

    status: TrackingStatus
    substatus: str
    details: str
    at: datetime | None
    place: str

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        status = str(data["status"]).lower()
        if status not in get_args(TrackingStatus):
            raise ValueError(f"no status of a parcel: {status[:40]}")
        substatus, location = data.get("substatus") or {}, data.get("location") or {}
        place = [str(location[name]) for name in ("city", "state", "country") if location.get(name)]
        return cls(
            status=status,  # type: ignore[arg-type]
            substatus=str(substatus.get("code") or "") if isinstance(substatus, Mapping) else str(substatus),
            details=str(data.get("status_details") or ""),
            at=_moment_or_none(data.get("status_date")),
            place=", ".join(place),
        )


@dataclass(frozen=True, slots=True)
class Tracking:
    """Where a parcel is: the latest scan, None when nothing is known yet, and all of them, oldest first."""

    carrier: str
    tracking_number: str
    label_id: str
    reference: str
    latest: Scan | None
    history: tuple[Scan, ...]
    eta: datetime | None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        latest = data.get("tracking_status")
        return cls(
            carrier=_text(data, "carrier").lower(),
            tracking_number=_text(data, "tracking_number"),
            label_id=str(data.get("transaction") or ""),
            reference=str(data.get("metadata") or ""),
            latest=Scan.parse(latest) if isinstance(latest, Mapping) else None,
            history=tuple(Scan.parse(scan) for scan in data.get("tracking_history") or ()),
            eta=_moment_or_none(data.get("eta")),
        )


def moment(text: str) -> datetime:
    """Return an ISO 8601 time as an aware datetime in UTC; one without a zone is UTC. Raises ValueError."""
    parsed = datetime.fromisoformat(text)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def _moment_or_none(text: Any) -> datetime | None:
    return moment(text) if text else None


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is no text")
    return value


def _messages(items: Any) -> tuple[Message, ...]:
    """Of messages nothing may fail: they are read when something failed already."""
    found = []
    for item in items if isinstance(items, list) else ():
        if isinstance(item, Mapping):
            found.append(Message(*(str(item.get(name) or "") for name in ("source", "code", "text"))))
        else:
            found.append(Message("", "", str(item)))
    return tuple(found)
