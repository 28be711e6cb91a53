"""Transactions: the purchase of a label. This is where money is spent and the ledger is written.

https://github.com/goshippo/shippo-python-sdk docs/models/components/transaction.md,
transactioncreaterequest.md, docs/models/operations/listtransactionsrequest.md

Shippo knows no idempotency key: the same request twice buys twice, here too.
"""

import uuid
from typing import TYPE_CHECKING, Any

from shared.sandbox.clock import seconds_of
from shared.sandbox.web import HttpError, Request, Response, Route, reply

from .addresses import missing_for_purchase
from .labels import DEFAULT_TYPE, LABEL_TYPES, Labels
from .objects import Objects, account_of, checked_metadata, paginate, require
from .shipments import Shipments
from .tracks import Tracks
from .webhooks import Webhooks

if TYPE_CHECKING:
    from shared.sandbox.core import Core

#: "Rates older than 7 days cannot be purchased": transaction.md
RATE_SECONDS = 7 * 24 * 3600

OUTCOMES = frozenset({"queued_then_success", "queued_then_error", "error_messages", "expired_rate"})


class Transactions(Objects):
    kind = "transaction"

    def __init__(self, core: "Core", shipments: Shipments, tracks: Tracks, labels: Labels, webhooks: Webhooks):
        super().__init__(core)
        self._shipments = shipments
        self._tracks = tracks
        self._labels = labels
        self._webhooks = webhooks

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/transactions", self.create, OUTCOMES, ("transactions", "post")),
            Route("GET", "/transactions", self.index, limit=("transactions", "list")),
            Route("GET", "/transactions/{id}", self.read, limit=("transactions", "one")),
        ]

    def create(self, request: Request) -> Response:
        """Buy a label. 201 also when the status is ERROR.

        `async` defaults to true: QUEUED now, SUCCESS after `settle_seconds`, when it is charged. An expired
        rate is refused with 400; its wording is not public.
        """
        account, data, fault = account_of(request), request.json(), request.fault
        rate = self._rate(account, data)
        file_type = str(data.get("label_file_type") or DEFAULT_TYPE)
        if file_type not in LABEL_TYPES:
            raise HttpError(400, {"label_file_type": [f'"{file_type}" is not a valid choice.']})
        metadata = checked_metadata(data)
        age = self.core.clock.now() - seconds_of(rate["object_created"])
        if age > RATE_SECONDS or (fault and fault.kind == "expired_rate"):
            raise HttpError(400, {"rate": ["Rate has expired: rates older than 7 days cannot be purchased."]})

        transaction = {
            **self.header(account),
            "object_state": "VALID",
            "status": "QUEUED",
            "rate": rate["object_id"],
            "parcel": self._shipment(account, rate)["parcels"][0]["object_id"],
            "label_file_type": file_type,
            "metadata": metadata,
            "order": data.get("order"),
            "tracking_number": "",
            "tracking_status": "UNKNOWN",
            "tracking_url_provider": "",
            "eta": None,
            "label_url": "",
            "commercial_invoice_url": None,
            "qr_code_url": None,
            "messages": [],
        }
        self.core.books.save(account, self.kind, transaction["object_id"], transaction)
        error, late, seconds = self._objection(account, rate), None, None
        if fault and fault.kind == "error_messages":
            error = [_message(fault.params)]
        elif fault and fault.kind.startswith("queued_then"):
            seconds = fault.params["seconds"]
            late = [_message(fault.params)] if fault.kind == "queued_then_error" else None
        elif data.get("async", True) is not False:
            seconds = self.core.options.settle_seconds
        if error or seconds is None:
            transaction = self._settle(account, transaction["object_id"], error) or transaction
        self._webhooks.notify(account, "transaction_created", self.shown(account, transaction), metadata)
        if transaction["status"] == "QUEUED":
            # After the webhook, so that "updated" cannot come before "created" unless a fault wants it.
            self._settle_later(account, transaction["object_id"], seconds or 0.0, late)
        return reply(self.shown(account, transaction, request.base_url), 201)

    def index(self, request: Request) -> Response:
        """Newest first. Filters: rate, object_status, tracking_status. There is none by metadata."""
        account, names = account_of(request), {"object_status": "status"}
        equal = {
            names.get(name, name): request.query[name]
            for name in ("rate", "object_status", "tracking_status")
            if name in request.query
        }
        found = self.core.books.find(account, self.kind, **equal)[::-1]
        return paginate(request, [self.shown(account, item, request.base_url) for item in found])

    def read(self, request: Request, id: str) -> Response:
        return reply(self.shown(account_of(request), self.owned(request, id), request.base_url))

    def shown(self, account: str, transaction: dict[str, Any], base_url: str | None = None) -> dict[str, Any]:
        """The transaction as it is sent: with a freshly signed link to its label."""
        if not transaction["tracking_number"]:
            return transaction
        link = self._labels.link(base_url or self.core.base_url, transaction)
        return {**transaction, "label_url": link}

    def find_anywhere(self, id: str) -> dict[str, Any] | None:
        """The transaction of any account: for the label files, whose link is the permission."""
        found = self.core.books.find_everywhere(self.kind, object_id=id)
        return found[0][1] if found else None

    def set_status(
        self, account: str, id: str, status: str, expect: str, entry_kind: str | None = None
    ) -> dict[str, Any] | None:
        """From status `expect` to another, with a ledger entry, told by webhook. None if not in `expect`."""
        now = self.core.books.get(account, self.kind, id)
        entry = self._entry(entry_kind, account, now) if entry_kind and now else None
        changes = {"status": status, "object_updated": self.core.clock.iso()}
        changed = self.core.books.change(account, self.kind, id, changes, entry, {"status": expect})
        if changed:
            self._webhooks.notify(account, "transaction_updated", self.shown(account, changed), changed["metadata"])
        return changed

    def resume(self) -> None:
        for account, transaction in self.core.books.find_everywhere(self.kind, status="QUEUED"):
            self._settle_later(account, transaction["object_id"], self.core.options.settle_seconds)

    def _rate(self, account: str, data: dict[str, Any]) -> dict[str, Any]:
        if data.get("shipment") and not data.get("rate"):
            # The "instant" form: a shipment, an account with a carrier and a service instead of a rate.
            require(data, "carrier_account", "servicelevel_token")
            shipment = self._shipments.add(account, data["shipment"])
            for rate in shipment["rates"]:
                if (rate["carrier_account"], rate["servicelevel"]["token"]) == (
                    data["carrier_account"],
                    data["servicelevel_token"],
                ):
                    return dict(rate)
            raise HttpError(400, {"servicelevel_token": ["No rate for this carrier account and service."]})
        require(data, "rate")
        found = self.core.books.get(account, "rate", str(data["rate"]))
        if found is None:
            raise HttpError(400, {"rate": [f"Rate with supplied object_id {data['rate']} not found."]})
        return found

    def _shipment(self, account: str, rate: dict[str, Any]) -> dict[str, Any]:
        shipment = self.core.books.get(account, "shipment", rate["shipment"])
        if shipment is None:
            raise HttpError(400, {"rate": ["The shipment of this rate was not found."]})
        return shipment

    def _objection(self, account: str, rate: dict[str, Any]) -> list[dict[str, str]] | None:
        """Messages that say why this cannot be bought although it could be rated.

        The trap of a missing name: https://github.com/goshippo/shippo-node-client/issues/66
        """
        shipment = self._shipment(account, rate)
        sides = {"sender": shipment["address_from"], "recipient": shipment["address_to"]}
        messages = [
            {
                "source": rate["provider"],
                "code": "invalid_address",
                "text": f"The {side}'s {field} is required.",
            }
            for side, address in sides.items()
            for field in missing_for_purchase(address)
        ]
        return messages or None

    def _settle_later(self, account: str, id: str, seconds: float, error: list[dict[str, Any]] | None = None) -> None:
        def settle() -> None:
            done = self._settle(account, id, error)
            if done:
                self._webhooks.notify(account, "transaction_updated", self.shown(account, done), done["metadata"])

        self.core.scheduler.later(seconds, settle)

    def _settle(self, account: str, id: str, error: list[dict[str, Any]] | None) -> dict[str, Any] | None:
        """From QUEUED to SUCCESS, charged, or to ERROR, not charged. None if it was not QUEUED any more."""
        now = self.core.books.get(account, self.kind, id)
        if now is None:
            return None
        changes: dict[str, Any] = {"object_updated": self.core.clock.iso()}
        if error is not None:
            changes |= {"status": "ERROR", "messages": error}
            return self.core.books.change(account, self.kind, id, changes, expect={"status": "QUEUED"})
        rate = self.core.books.get(account, "rate", now["rate"]) or {}
        number = tracking_number(rate["provider"])
        changes |= {
            "status": "SUCCESS",
            "tracking_number": number,
            "tracking_status": "PRE_TRANSIT",
            "tracking_url_provider": f"https://tracking.invalid/{rate['provider'].lower()}/{number}",
        }
        entry = self._entry("charge", account, now | changes)
        done = self.core.books.change(account, self.kind, id, changes, entry, {"status": "QUEUED"})
        if done:
            self._tracks.start(account, done, rate, self._shipment(account, rate))
        return done

    def _entry(self, kind: str, account: str, transaction: dict[str, Any]) -> dict[str, Any]:
        rate = self.core.books.get(account, "rate", transaction["rate"]) or {}
        return {
            "kind": kind,
            "provider": "shippo",
            "transaction": transaction["object_id"],
            "rate": transaction["rate"],
            "metadata": transaction["metadata"],
            "amount": rate.get("amount"),
            "currency": rate.get("currency"),
            "tracking_number": transaction["tracking_number"],
            "time": self.core.clock.iso(),
        }


def _message(params: dict[str, Any]) -> dict[str, Any]:
    return {name: params[name] for name in ("source", "code", "text")}


def tracking_number(provider: str) -> str:
    """A new number in the shape of the carrier's own."""
    digits = f"{uuid.uuid4().int % 10**12:012d}"
    return {"USPS": f"9205590164{digits}", "UPS": f"1Z999AA1{digits[:10]}"}.get(provider, digits)
