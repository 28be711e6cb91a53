"""Tracking of parcels.

https://github.com/goshippo/shippo-python-sdk docs/models/components/track.md, trackingstatusenum.md
"""

import uuid
from typing import TYPE_CHECKING, Any

from shared.sandbox.web import HttpError, Request, Response, Route, reply

from .objects import Objects, account_of, checked_metadata, require
from .webhooks import Webhooks

if TYPE_CHECKING:
    from shared.sandbox.core import Core

STATUSES = ("UNKNOWN", "PRE_TRANSIT", "TRANSIT", "DELIVERED", "RETURNED", "FAILURE")
_DETAILS = {
    "UNKNOWN": "The carrier has no information about this parcel yet.",
    "PRE_TRANSIT": "The carrier has received the electronic shipment information.",
    "TRANSIT": "Your shipment has departed from the origin.",
    "DELIVERED": "Your shipment has been delivered.",
    "RETURNED": "Your shipment is being returned to the sender.",
    "FAILURE": "Your shipment could not be delivered.",
}
_PLACE = ("city", "state", "zip", "country")


class Tracks(Objects):
    kind = "track"

    def __init__(self, core: "Core", webhooks: Webhooks):
        super().__init__(core)
        self._webhooks = webhooks

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/tracks", self.create, limit=("tracks", "post")),
            Route("GET", "/tracks/{carrier}/{number}", self.read, limit=("tracks", "one")),
        ]

    def create(self, request: Request) -> Response:
        """Register a number of any carrier; 200 with what is known. Registering again changes nothing."""
        account, data = account_of(request), request.json()
        require(data, "carrier", "tracking_number")
        carrier, number = str(data["carrier"]), str(data["tracking_number"])
        track = self.core.books.get(account, self.kind, f"{carrier}/{number}")
        if track is None:
            track = self._new(account, carrier, number, metadata=checked_metadata(data))
        return reply(track)

    def read(self, request: Request, carrier: str, number: str) -> Response:
        """What is known. A number that was not registered has the status UNKNOWN; no 404.

        Carrier `shippo` has made-up numbers, SHIPPO_TRANSIT and so on, that always have that status:
        https://docs.goshippo.com/docs/tracking/tracking/
        """
        account = account_of(request)
        track = self.core.books.get(account, self.kind, f"{carrier}/{number}")
        return reply(track or self._new(account, carrier, number, save=False))

    def start(self, account: str, transaction: dict[str, Any], rate: dict[str, Any], shipment: dict[str, Any]) -> None:
        """A label bought through Shippo is tracked without asking.

        https://docs.goshippo.com/docs/tracking/webhooks
        """
        self._new(
            account,
            rate["provider"].lower(),
            transaction["tracking_number"],
            metadata=transaction["metadata"],
            status="PRE_TRANSIT",
            more={
                "transaction": transaction["object_id"],
                "servicelevel": {
                    "token": rate["servicelevel"]["token"],
                    "name": rate["servicelevel"]["name"],
                },
                "address_from": {name: shipment["address_from"][name] for name in _PLACE},
                "address_to": {name: shipment["address_to"][name] for name in _PLACE},
            },
        )

    def move(self, request: Request, carrier: str, number: str) -> Response:
        """A scan by the carrier, for every account that tracks the number; each is told by webhook.

        Body: {status, substatus?: code or {code, text, action_required}, details?: text,
        location?: {city, …}, status_date?: ISO 8601}. A status_date before the last one is put into the
        history where it belongs, but sent all the same, as carriers do.
        """
        change, moved = request.json(), []
        if change.get("status") not in STATUSES:
            raise HttpError(400, {"detail": f"status is one of {', '.join(STATUSES)}"})
        for account, track in self.core.books.find_everywhere(self.kind, carrier=carrier, tracking_number=number):
            scan = self._scan(change)
            history = sorted([*track["tracking_history"], scan], key=lambda item: item["status_date"])
            changes = {"tracking_status": history[-1], "tracking_history": history}
            now = self.core.books.change(account, self.kind, f"{carrier}/{number}", changes) or track
            if track["transaction"]:
                status = {"tracking_status": history[-1]["status"]}
                self.core.books.change(account, "transaction", track["transaction"], status)
            self._webhooks.notify(account, "track_updated", {**now, "tracking_status": scan}, track["metadata"])
            moved.append(now)
        if not moved:
            raise HttpError(404, {"detail": f"nobody tracks {carrier} {number}"})
        return reply({"tracks": moved})

    def _new(
        self,
        account: str,
        carrier: str,
        number: str,
        metadata: str = "",
        status: str = "UNKNOWN",
        more: dict[str, Any] | None = None,
        save: bool = True,
    ) -> dict[str, Any]:
        mock = number.removeprefix("SHIPPO_")
        if carrier == "shippo" and mock in STATUSES:
            status = mock
        scan = self._scan({"status": status})
        track = {
            "carrier": carrier,
            "tracking_number": number,
            "address_from": None,
            "address_to": None,
            "eta": None,
            "original_eta": None,
            "servicelevel": None,
            "metadata": metadata,
            "tracking_status": scan,
            "tracking_history": [scan],
            "transaction": None,
            "messages": [],
            "test": account.startswith("shippo_test_"),
            **(more or {}),
        }
        if save:
            self.core.books.save(account, self.kind, f"{carrier}/{number}", track)
        return track

    def _scan(self, change: dict[str, Any]) -> dict[str, Any]:
        now, substatus = self.core.clock.iso(), change.get("substatus")
        if isinstance(substatus, str):
            text = substatus.replace("_", " ").capitalize() + "."
            substatus = {"code": substatus, "text": text, "action_required": False}
        return {
            "object_id": uuid.uuid4().hex,
            "object_created": now,
            "object_updated": now,
            "status": change["status"],
            "status_details": change.get("details") or _DETAILS[change["status"]],
            "status_date": change.get("status_date") or now,
            "substatus": substatus,
            "location": change.get("location"),
        }
