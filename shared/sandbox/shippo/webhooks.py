"""Registered webhooks, and what is sent to them.

https://docs.goshippo.com/docs/tracking/webhooks and /webhooksecurity. The signature is
`Shippo-Auth-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">`.
"""

import hashlib
import hmac
import time
from typing import Any

from shared.sandbox.web import HttpError, Request, Response, Route, reply

from .objects import Objects, account_of, paginate, require

EVENTS = (
    "transaction_created",
    "transaction_updated",
    "track_updated",
    "batch_created",
    "batch_purchased",
    "all",
)
#: "url < 200 characters": https://docs.goshippo.com/docs/tracking/webhooks
URL_LENGTH = 200


class Webhooks(Objects):
    kind = "webhook"

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/webhooks", self.create, limit=("webhooks", "post")),
            Route("GET", "/webhooks", self.index, limit=("webhooks", "list")),
            Route("GET", "/webhooks/{id}", self.read, limit=("webhooks", "one")),
            Route("PUT", "/webhooks/{id}", self.update, limit=("webhooks", "post")),
            Route("DELETE", "/webhooks/{id}", self.delete, limit=("webhooks", "post")),
        ]

    def create(self, request: Request) -> Response:
        account = account_of(request)
        webhook = {**self.header(account), "active": True, "is_test": account.startswith("shippo_test_")}
        webhook |= self._checked(request.json())
        del webhook["test"]
        self.core.books.save(account, self.kind, webhook["object_id"], webhook)
        return reply(webhook, 201)

    def index(self, request: Request) -> Response:
        return paginate(request, self.core.books.find(account_of(request), self.kind))

    def read(self, request: Request, id: str) -> Response:
        return reply(self.owned(request, id))

    def update(self, request: Request, id: str) -> Response:
        self.owned(request, id)
        changes = {**self._checked(request.json()), "object_updated": self.core.clock.iso()}
        return reply(self.core.books.change(account_of(request), self.kind, id, changes))

    def delete(self, request: Request, id: str) -> Response:
        if not self.core.books.remove(account_of(request), self.kind, id):
            raise HttpError(404, {"detail": "Not found."})
        return Response(204)

    def notify(self, account: str, event: str, data: dict[str, Any], metadata: str = "") -> None:
        """Send {event, test, data} to the account's active webhooks that want it. There is no event id."""
        payload = {"event": event, "test": account.startswith("shippo_test_"), "data": data}
        for webhook in self.core.books.find(account, self.kind, active=True):
            if webhook["event"] in (event, "all"):
                self.core.webhooks.send(account, event, webhook["url"], payload, self._sign, metadata)

    def _checked(self, data: dict[str, Any]) -> dict[str, Any]:
        require(data, "event", "url")
        if data["event"] not in EVENTS:
            raise HttpError(400, {"event": [f'"{data["event"]}" is not a valid choice.']})
        if not str(data["url"]).startswith(("http://", "https://")) or len(str(data["url"])) >= URL_LENGTH:
            raise HttpError(400, {"url": [f"Enter a valid URL of less than {URL_LENGTH} characters."]})
        flags: dict[str, Any] = {name: bool(data[name]) for name in ("active", "is_test") if name in data}
        return {"event": data["event"], "url": data["url"], **flags}

    def _sign(self, body: bytes) -> dict[str, str]:
        secret = self.core.webhook_secret
        if not secret:
            return {}
        # Real time, not the shifted clock: receivers compare it with theirs.
        at = str(int(time.time()))
        digest = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
        return {"Shippo-Auth-Signature": f"t={at},v1={digest}"}
