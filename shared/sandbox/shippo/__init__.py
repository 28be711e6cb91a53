"""A stand-in for Shippo's API: addresses, rates, labels, refunds, tracking, webhooks.

Paths, statuses, fields and limits follow https://docs.goshippo.com and the models of
https://github.com/goshippo/shippo-python-sdk (commit 47df6c4). Where Shippo says nothing in public, the
docstring of the operation says what was chosen.
"""

import re
from typing import TYPE_CHECKING, Any, ClassVar

from shared.sandbox.provider import Provider
from shared.sandbox.web import HttpError, Request, Route

from .addresses import Addresses
from .labels import Labels
from .refunds import Refunds
from .shipments import Shipments
from .tracks import Tracks
from .transactions import Transactions
from .webhooks import Webhooks

if TYPE_CHECKING:
    from shared.sandbox.core import Core

#: Calls per minute, live and test, by operation: https://docs.goshippo.com/docs/API_Concepts/RateLimits
LIMITS = {"post": (500, 50), "one": (4000, 400), "list": (50, 10)}
TRACKING_LIMITS = {"post": (750, 50), "one": (500, 50)}


class Shippo(Provider):
    """Any token that starts with shippo_test_ or shippo_live_ is an account of its own, made on first use."""

    name: ClassVar[str] = "shippo"

    def __init__(self, core: "Core"):
        super().__init__(core)
        self.webhooks = Webhooks(core)
        self.labels = Labels(core)
        self.addresses = Addresses(core)
        self.shipments = Shipments(core, self.addresses)
        self.tracks = Tracks(core, self.webhooks)
        self.transactions = Transactions(core, self.shipments, self.tracks, self.labels, self.webhooks)
        self.refunds = Refunds(core, self.transactions)

    def routes(self) -> list[Route]:
        parts = (self.addresses, self.shipments, self.transactions, self.refunds, self.tracks, self.webhooks)
        return [route for part in parts for route in part.routes()] + self.labels.routes(self.transactions)

    def authenticate(self, request: Request) -> str:
        """https://docs.goshippo.com/docs/guides_general/authentication/"""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "ShippoToken" or not token:
            raise HttpError(401, {"detail": "Authentication credentials were not provided."})
        if not re.fullmatch(r"shippo_(test|live)_[\w.-]+", token):
            raise HttpError(401, {"detail": "Token does not exist"})
        return token

    def allowance(self, account: str, limit: tuple[str, str]) -> int | None:
        resource, operation = limit
        limits = TRACKING_LIMITS if resource == "tracks" else LIMITS
        live, test = limits[operation]
        return live if account.startswith("shippo_live_") else test

    def error_body(self, status: int) -> Any:
        texts = {
            401: "Token does not exist",
            404: "Not found.",
            429: "Request was throttled.",
            500: "Internal server error.",
            502: "Bad gateway.",
            503: "Service temporarily unavailable.",
            504: "Gateway timeout.",
        }
        return {"detail": texts.get(status, f"HTTP {status}")}

    def resume(self) -> None:
        self.transactions.resume()
        self.refunds.resume()

    def controls(self) -> list[Route]:
        return [Route("POST", "/tracking/{carrier}/{number}", self.tracks.move)]


__all__ = ["Shippo"]
