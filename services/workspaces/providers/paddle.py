"""Paddle Billing (https://developer.paddle.com/api-reference), as much of it as tells who pays. It only reads.

Code of its own: `subscription_unreadable` (Unavailable) for an answer that is not as documented.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from services.workspaces.lifecycle.paddle_objects import SubscriptionObject, Unreadable
from shared.outbound import Unavailable
from shared.outbound.circuit import CircuitBreaker, breaker
from shared.outbound.client import Client, Timeouts

__all__ = ["Paddle", "make_client"]

_PAGE: Final = 200
_MOST_PAGES: Final = 20


@lru_cache(maxsize=4)
def make_client(base_url: str, *, total: float = 20.0, circuit: CircuitBreaker | None = breaker) -> Client:
    """Return the client that all workspaces share, with its connections and circuit."""
    timeouts = Timeouts(connect=min(3.0, total), read=min(15.0, total), total=total)
    return Client("paddle", base_url, timeouts=timeouts, headers={"Paddle-Version": "1"}, breaker=circuit)


class Paddle:
    """Our account with Paddle. Methods raise the errors of `shared.outbound`."""

    def __init__(self, api_key: str, client: Client) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {api_key}"}

    def subscriptions_of(self, *customer_ids: str) -> list[SubscriptionObject]:
        """Return all subscriptions of these customers, ended ones included."""
        found: list[SubscriptionObject] = []
        path, params = "/subscriptions", {"customer_id": ",".join(customer_ids), "per_page": _PAGE}
        for _ in range(_MOST_PAGES):
            data = self._get(path, params)
            try:
                found += [SubscriptionObject.parse(one) for one in data["data"]]
                pages = data["meta"]["pagination"]
                if not pages["has_more"]:
                    return found
                path, params = str(pages["next"]), {}
            except (Unreadable, KeyError, TypeError) as error:
                raise Unavailable(
                    f"{type(error).__name__}: {error}",
                    provider="paddle",
                    code="subscription_unreadable",
                    unanswered=True,
                ) from error
        raise Unavailable(f"more than {_MOST_PAGES * _PAGE} subscriptions", provider="paddle")

    def _get(self, path: str, params: dict[str, Any]) -> Any:
        return self._client.get("list_subscriptions", path, params=params, headers=self._headers).data
