"""Chaos on shipping: orders, labels bought one by one and in bulk, and the events that tell of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import psycopg

from services.shipping.service import service
from tests.chaos.targets.base import Answered, BackroomTarget, Purchase

if TYPE_CHECKING:
    from tests.chaos.clients import Caller
    from tests.chaos.world import World

__all__ = ["ShippingTarget"]

_ADDRESS = {"street1": "215 Clayton St.", "city": "San Francisco", "state": "CA", "zip": "94117", "country": "US"}
_ORDER: dict[str, Any] = {
    "recipient": {"name": "Ada Example"},
    "address": _ADDRESS,
    "lines": [{"kind": "sample", "name": "Kraft box", "sku": "KB-1", "quantity": 2}],
    "parcels": [{"length": "5", "width": "5", "height": "5", "distance_unit": "in", "weight": "2", "mass_unit": "lb"}],
}
_ENDS = {"purchased": "purchased", "failed": "failed", "needs_review": "needs_review"}


class ShippingTarget(BackroomTarget):
    """The shipping service."""

    name = "shipping"
    bulk = True
    service = service
    argument = "shipping"

    def environment(self, world: World) -> Mapping[str, str]:
        from tests.chaos.world import SETTLE, TOTAL

        return {
            "SHIPPING_SHIPPO_BASE_URL": world.sandbox_url,
            "SHIPPING_SHIPPO_OWN_LIMITS": "false",
            "SHIPPING_SHIPPO_READ_SECONDS": str(TOTAL * 0.75),
            "SHIPPING_SHIPPO_TOTAL_SECONDS": str(TOTAL),
            "SHIPPING_SETTLE_SECONDS": str(SETTLE),
            "SHIPPING_POLL_SECONDS": "[1, 2, 3]",
        }

    def enroll(self, world: World, caller: Caller) -> None:
        """Connect an account with Shippo, and wait until it is."""
        sender = {"name": "Bob Example", **_ADDRESS}
        token = world.sandbox.token(caller.tenant)
        caller.post("/v1/connections/shippo", {"token": token, "sender": sender}, None, method="PUT")
        deadline = time.monotonic() + 60
        while (caller.get("/v1/connections/shippo") or {}).get("status") != "connected":
            if time.monotonic() > deadline:
                said = world.log("worker-1")[-3000:]
                raise TimeoutError(f"{caller.tenant} was not connected; the log of a worker:\n{said}")
            time.sleep(0.1)

    def create(self, caller: Caller, number: str, key: str | None) -> str | None:
        answer = caller.post("/v1/orders", {"number": number, **_ORDER}, key)
        if answer is None:
            # Without a key a repetition is told that the number is taken: by ourselves, for nobody else has it.
            found = caller.get(f"/v1/orders?{urlencode({'number': number})}")
            answer = found["items"][0] if found and found["items"] else None
        return answer["id"] if answer else None

    def purchase(self, caller: Caller, order_id: str, key: str | None) -> Answered | None:
        answer = caller.post(f"/v1/orders/{order_id}/labels", {}, key)
        return Answered({order_id: answer["id"]}) if answer else None

    def purchase_many(self, caller: Caller, order_ids: Sequence[str], key: str | None) -> Answered | None:
        answer = caller.post("/v1/labels/bulk", {"order_ids": list(order_ids)}, key)
        return Answered(dict.fromkeys(order_ids), answer["id"]) if answer else None

    def purchases(self, connection: psycopg.Connection[Any]) -> list[Purchase]:
        return [
            Purchase(str(order), str(label), _ENDS.get(state, "open"), str(job) if job else None, transaction)
            for order, label, state, job, transaction in connection.execute(
                "SELECT order_id, id, status, job_id, provider_id FROM labels"
            )
        ]

    def reference_of(self, entry: Mapping[str, Any]) -> str:
        return str(entry["metadata"]).rpartition("|l")[2]
