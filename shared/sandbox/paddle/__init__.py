"""A stand-in for Paddle Billing: subscriptions, what changes them, and signed webhooks about it.

Fields, statuses and errors follow https://developer.paddle.com/api-reference and the fixtures of
https://github.com/PaddleHQ/paddle-python-sdk. A checkout happens in a browser there; here the control API plays
it, and whatever else customers and time do to a subscription.
"""

import hashlib
import hmac
import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from shared.sandbox.provider import Provider
from shared.sandbox.web import HttpError, Request, Response, Route, reply

if TYPE_CHECKING:
    from shared.sandbox.core import Core

STATUSES = ("active", "canceled", "past_due", "paused", "trialing")
#: Besides `subscription.updated`, which tells of every change: the event of a new status.
TOLD = {
    "active": "subscription.activated",
    "canceled": "subscription.canceled",
    "past_due": "subscription.past_due",
    "paused": "subscription.paused",
    "trialing": "subscription.trialing",
}
PERIOD = timedelta(days=30)
PER_PAGE, LARGEST_PAGE = 50, 200


class Paddle(Provider):
    """Any API key that starts with pdl_sdbx_apikey_ is a seller's account of its own, made on first use."""

    name: ClassVar[str] = "paddle"

    def __init__(self, core: "Core"):
        super().__init__(core)
        self._destinations: dict[str, tuple[str, tuple[str, ...]]] = {}

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/subscriptions", self.index),
            Route("GET", "/subscriptions/{id}", self.read),
        ]

    def authenticate(self, request: Request) -> str:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not re.fullmatch(r"pdl_sdbx_apikey_[\w.-]+", key):
            raise HttpError(403, _error("authentication_malformed", "Authentication header included, but malformed"))
        return key

    def error_body(self, status: int) -> Any:
        codes = {401: "authentication_invalid", 403: "forbidden", 404: "entity_not_found", 429: "too_many_requests"}
        return _error(codes.get(status, "internal_error"), f"HTTP {status}")

    def controls(self) -> list[Route]:
        return [
            Route("POST", "/paddle/{account}/subscriptions", self.check_out),
            Route("PATCH", "/paddle/{account}/subscriptions/{id}", self.change),
            Route("GET", "/paddle/{account}/events", self.events),
            Route("PUT", "/paddle/{account}/destination", self.set_destination),
        ]

    def reset(self) -> None:
        self._destinations.clear()

    # -- the API -----------------------------------------------------------------------------------------------

    def read(self, request: Request, id: str) -> Response:
        found = self.core.books.get(request.account or "", "paddle_subscription", id)
        if found is None:
            raise HttpError(404, _error("entity_not_found", f"Unable to find subscription with ID {id}"))
        return reply({"data": found, "meta": _meta()})

    def index(self, request: Request) -> Response:
        """Filters `id`, `customer_id` and `status`, each a list with commas; pages by `after` and `per_page`."""
        found = self.core.books.find(request.account or "", "paddle_subscription")
        for name in ("id", "customer_id", "status"):
            if wanted := request.query.get(name):
                found = [one for one in found if one[name] in wanted.split(",")]
        found = sorted(found, key=lambda one: one["id"])
        if after := request.query.get("after"):
            found = [one for one in found if one["id"] > after]
        size = _page_size(request)
        page = found[:size]
        query = "&".join(f"{name}={value}" for name, value in request.query.items() if name != "after")
        following = f"{request.base_url}/subscriptions?after={page[-1]['id'] if page else ''}&{query}"
        more = len(found) > size
        pages = {"per_page": size, "next": following, "has_more": more, "estimated_total": len(found)}
        return reply({"data": page, "meta": {**_meta(), "pagination": pages}})

    # -- what customers and time do ----------------------------------------------------------------------------

    def check_out(self, request: Request, account: str) -> Response:
        """{"custom_data"?, "customer_id"?, "plan"?, "status"?}: somebody has bought a subscription."""
        data, now = request.json(), self.core.clock.iso()
        status = _known(data.get("status", "active"))
        subscription = {
            "id": _id("sub"),
            "status": status,
            "customer_id": data.get("customer_id") or _id("ctm"),
            "currency_code": "USD",
            "created_at": now,
            "updated_at": now,
            "started_at": now,
            "next_billed_at": self._later(PERIOD),
            "paused_at": None,
            "canceled_at": None,
            "collection_mode": "automatic",
            "current_billing_period": {"starts_at": now, "ends_at": self._later(PERIOD)},
            "billing_cycle": {"frequency": 1, "interval": "month"},
            "scheduled_change": None,
            "items": [_item(data.get("plan", "team"), now)],
            "custom_data": data.get("custom_data"),
        }
        self._save(key_of(account), subscription)
        self._tell(key_of(account), "subscription.created", subscription)
        if status == "active":
            self._tell(key_of(account), "subscription.activated", subscription)
        return reply({"data": subscription}, 201)

    def change(self, request: Request, account: str, id: str) -> Response:
        """{"status"?, "plan"?, "scheduled_change"?}: something has become of a subscription.

        Status `canceled` ends it now. A scheduled change is {"action", "effective_at"} or null, which takes it back.
        """
        subscription = self.core.books.get(key_of(account), "paddle_subscription", id)
        if subscription is None:
            raise HttpError(404, {"detail": f"no subscription {id}"})
        data, now = request.json(), self.core.clock.iso()
        events = ["subscription.updated"]
        if "status" in data:
            before, status = subscription["status"], _known(data["status"])
            events.append("subscription.resumed" if (before, status) == ("paused", "active") else TOLD[status])
            subscription["status"] = status
            subscription["canceled_at"] = now if status == "canceled" else None
            subscription["paused_at"] = now if status == "paused" else None
            subscription["scheduled_change"] = None
            subscription["next_billed_at"] = None if status in ("canceled", "paused") else self._later(PERIOD)
        if "plan" in data:
            subscription["items"] = [_item(str(data["plan"]), now)]
        if "scheduled_change" in data:
            subscription["scheduled_change"] = data["scheduled_change"] and {
                "resume_at": None,
                **data["scheduled_change"],
            }
        subscription["updated_at"] = now
        self._save(key_of(account), subscription)
        for event in events:
            self._tell(key_of(account), event, subscription)
        return reply({"data": subscription})

    def events(self, request: Request, account: str) -> Response:
        """{"events": […]}: everything that was told, oldest first."""
        return reply({"events": self.core.books.find(key_of(account), "paddle_event")})

    def set_destination(self, request: Request, account: str) -> Response:
        """{"url", "secret"}: where webhooks go, and what signs them; `secret` may be a list while it is changed."""
        data = request.json()
        secret = data.get("secret") or []
        self._destinations[key_of(account)] = (
            str(data["url"]),
            (secret,) if isinstance(secret, str) else tuple(secret),
        )
        return Response(204)

    def _save(self, key: str, subscription: dict[str, Any]) -> None:
        self.core.books.save(key, "paddle_subscription", subscription["id"], subscription)

    def _tell(self, key: str, event_type: str, subscription: dict[str, Any]) -> None:
        event: dict[str, Any] = {
            "event_id": _id("evt"),
            "event_type": event_type,
            "occurred_at": self.core.clock.iso(),
            "notification_id": _id("ntf"),
            "data": subscription,
        }
        self.core.books.save(key, "paddle_event", event["event_id"], event)
        if destination := self._destinations.get(key):
            url, keys = destination
            self.core.webhooks.send(key, event_type, url, event, lambda body: signed(body, *keys))

    def _later(self, after: timedelta) -> str:
        moment = datetime.fromtimestamp(self.core.clock.now(), UTC) + after
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def key_of(account: str) -> str:
    """The API key of the seller of this name."""
    return f"pdl_sdbx_apikey_{account}"


def signed(body: bytes, *keys: str) -> dict[str, str]:
    """https://developer.paddle.com/webhooks/about/signature-verification; with two keys, as while one is changed."""
    if not keys:
        return {}
    # Real time, not the shifted clock: receivers compare it with theirs.
    at = str(int(time.time()))
    digests = [hmac.new(key.encode(), at.encode() + b":" + body, hashlib.sha256).hexdigest() for key in keys]
    return {"Paddle-Signature": ";".join([f"ts={at}", *(f"h1={digest}" for digest in digests)])}


def _known(status: Any) -> str:
    if status not in STATUSES:
        raise HttpError(400, {"detail": f"status is one of {', '.join(STATUSES)}"})
    return str(status)


def _id(prefix: str) -> str:
    """As Paddle's: they sort by time."""
    return f"{prefix}_{time.time_ns():026x}{secrets.token_hex(3)}"[:40]


def _item(plan: str, now: str) -> dict[str, Any]:
    price = {
        "id": f"pri_{plan}",
        "product_id": f"pro_{plan}",
        "name": plan.title(),
        "unit_price": {"amount": "4900", "currency_code": "USD"},
        "custom_data": {"plan": plan},
    }
    return {"status": "active", "quantity": 1, "recurring": True, "created_at": now, "updated_at": now, "price": price}


def _page_size(request: Request) -> int:
    text = request.query.get("per_page", str(PER_PAGE))
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_PAGE:
        raise HttpError(400, _error("bad_request", f"per_page is a number from 1 to {LARGEST_PAGE}"))
    return int(text)


def _meta() -> dict[str, Any]:
    return {"request_id": secrets.token_hex(16)}


def _error(code: str, detail: str) -> dict[str, Any]:
    return {
        "error": {
            "type": "request_error",
            "code": code,
            "detail": detail,
            "documentation_url": f"https://developer.paddle.com/v1/errors/shared/{code}",
        },
        "meta": _meta(),
    }


__all__ = ["Paddle"]
