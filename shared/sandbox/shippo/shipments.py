"""Shipments and their rates.

https://github.com/goshippo/shippo-python-sdk docs/models/components/shipmentcreaterequest.md, rate.md

Prices are invented but deterministic: by carrier and service, the parcels' weight, and how far the first
digits of the two zips lie apart.
"""

import uuid
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from shared.sandbox.web import HttpError, Request, Response, Route, reply

from .addresses import Addresses, validation
from .objects import Objects, account_of, checked_metadata, paginate, require

if TYPE_CHECKING:
    from shared.sandbox.core import Core

#: provider, token, name, base price, price per pound, days
SERVICES = (
    ("USPS", "usps_ground_advantage", "Ground Advantage", "4.35", "0.62", 4),
    ("USPS", "usps_priority", "Priority Mail", "7.90", "0.95", 2),
    ("UPS", "ups_ground", "Ground", "9.10", "0.48", 3),
    ("UPS", "ups_next_day_air_saver", "Next Day Air Saver®", "31.40", "1.90", 1),
    ("FedEx", "fedex_ground", "Ground", "8.85", "0.51", 3),
    ("FedEx", "fedex_2_day", "2Day®", "18.20", "1.25", 2),
)
_POUNDS = {"lb": Decimal(1), "oz": Decimal(1) / 16, "kg": Decimal("2.20462"), "g": Decimal("0.00220462")}
_PARCEL_FIELDS = ("length", "width", "height", "distance_unit", "weight", "mass_unit")


class Shipments(Objects):
    kind = "shipment"

    def __init__(self, core: "Core", addresses: Addresses):
        super().__init__(core)
        self._addresses = addresses

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/shipments", self.create, limit=("shipments", "post")),
            Route("GET", "/shipments", self.index, limit=("shipments", "list")),
            Route("GET", "/shipments/{id}", self.read, limit=("shipments", "one")),
            Route("GET", "/shipments/{id}/rates", self.rates, limit=("rates", "list")),
            Route("GET", "/rates/{id}", self.rate, limit=("rates", "one")),
        ]

    def create(self, request: Request) -> Response:
        """A shipment with its rates; with async=true they are there only when it is read again."""
        data = request.json()
        shipment = self.add(account_of(request), data)
        if data.get("async") is True:
            shipment = {**shipment, "status": "QUEUED", "rates": []}
        return reply(shipment, 201)

    def index(self, request: Request) -> Response:
        return paginate(request, self.core.books.find(account_of(request), self.kind)[::-1])

    def read(self, request: Request, id: str) -> Response:
        return reply(self.owned(request, id))

    def rates(self, request: Request, id: str) -> Response:
        return paginate(request, self.owned(request, id)["rates"])

    def rate(self, request: Request, id: str) -> Response:
        rate = self.core.books.get(account_of(request), "rate", id)
        if rate is None:
            raise HttpError(404, {"detail": "Not found."})
        return reply(rate)

    def add(self, account: str, data: dict[str, Any]) -> dict[str, Any]:
        """A new shipment of the account. Raises HttpError 400.

        An undeliverable address gives no rates but a message, as carriers that refuse do.
        """
        require(data, "address_from", "address_to", "parcels")
        sender = self._addresses.resolve(account, "address_from", data["address_from"])
        recipient = self._addresses.resolve(account, "address_to", data["address_to"])
        parcels = [self._parcel(account, parcel) for parcel in _as_list(data["parcels"])]
        shipment = {
            **self.header(account),
            "status": "SUCCESS",
            "address_from": sender,
            "address_to": recipient,
            "address_return": sender,
            "parcels": parcels,
            "shipment_date": data.get("shipment_date") or self.core.clock.iso(),
            "carrier_accounts": data.get("carrier_accounts") or [],
            "customs_declaration": None,
            "extra": data.get("extra") or {},
            "metadata": checked_metadata(data),
            "messages": [],
            "rates": [],
        }
        bad = [word for word in validation(recipient)["messages"] if word["code"] != "missing_field"]
        if bad:
            shipment["messages"] = [{"source": "USPS", "code": word["code"], "text": word["text"]} for word in bad]
        else:
            shipment["rates"] = self._rates(account, shipment)
        for rate in shipment["rates"]:
            self.core.books.save(account, "rate", rate["object_id"], rate)
        self.core.books.save(account, self.kind, shipment["object_id"], shipment)
        return shipment

    def _parcel(self, account: str, parcel: Any) -> dict[str, Any]:
        if not isinstance(parcel, dict):
            raise HttpError(400, {"parcels": ["A parcel is an object with its measures."]})
        try:
            require(parcel, *_PARCEL_FIELDS)
            weight = Decimal(str(parcel["weight"]))
        except HttpError as refusal:
            raise HttpError(400, {"parcels": [refusal.body]}) from refusal
        except ArithmeticError as error:
            raise HttpError(400, {"parcels": [{"weight": ["A valid number is required."]}]}) from error
        if not weight.is_finite() or weight <= 0 or parcel["mass_unit"] not in _POUNDS:
            raise HttpError(400, {"parcels": [{"weight": ["A weight above zero in lb, oz, kg or g is required."]}]})
        measures = {name: str(parcel[name]) for name in _PARCEL_FIELDS}
        return {**self.header(account), **measures, "metadata": checked_metadata(parcel)}

    def _rates(self, account: str, shipment: dict[str, Any]) -> list[dict[str, Any]]:
        pounds = sum((Decimal(p["weight"]) * _POUNDS[p["mass_unit"]] for p in shipment["parcels"]), Decimal())
        zone = _zone(shipment["address_from"]["zip"], shipment["address_to"]["zip"])
        rates: list[dict[str, Any]] = []
        for provider, token, name, base, per_pound, days in SERVICES:
            amount = Decimal(base) + Decimal(per_pound) * pounds + Decimal("0.35") * (zone - 1)
            price = str(amount.quantize(Decimal("0.01"), ROUND_HALF_UP))
            rates.append(
                {
                    **self.header(account),
                    "shipment": shipment["object_id"],
                    "attributes": [],
                    "amount": price,
                    "currency": "USD",
                    "amount_local": price,
                    "currency_local": "USD",
                    "provider": provider,
                    "servicelevel": {"name": name, "token": token, "terms": "", "extended_token": token},
                    "estimated_days": days,
                    "duration_terms": f"Delivery in {days} to {days + 1} business days.",
                    "arrives_by": None,
                    "carrier_account": carrier_account(account, provider),
                    "zone": str(zone),
                    "messages": [],
                }
            )
        chosen = set(shipment["carrier_accounts"])
        rates = [rate for rate in rates if not chosen or rate["carrier_account"] in chosen]
        if rates:
            cheapest = min(rates, key=lambda rate: Decimal(rate["amount"]))
            cheapest["attributes"] += ["CHEAPEST", "BESTVALUE"]
            min(rates, key=lambda rate: rate["estimated_days"])["attributes"].append("FASTEST")
        return rates


def carrier_account(account: str, provider: str) -> str:
    """The id of the account's account with a carrier: always the same one."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{account}/{provider}").hex


def _zone(sender: str, recipient: str) -> int:
    """A carrier's zone, 1 (near) to 8 (far)."""
    first, last = (int(text[0]) if text[:1].isdecimal() else 9 for text in (sender, recipient))
    return 1 + min(7, abs(first - last))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
