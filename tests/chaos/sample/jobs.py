"""One job: buy what an order wants from the carrier, exactly once."""

from __future__ import annotations

import os
import uuid
from functools import lru_cache
from typing import Any

from shared.context import current
from shared.db import unit_of_work
from shared.jobs import actor, completion
from shared.jobs.verdict import Verdict
from shared.outbound.circuit import breaker
from shared.outbound.client import Client, Timeouts
from shared.outbound.effects import find, once
from shared.outbound.errors import Refused, Unavailable
from tests.chaos.sample.models import Order

ADDRESS = {
    "name": "Ada Example",
    "street1": "215 Clayton St.",
    "city": "San Francisco",
    "state": "CA",
    "zip": "94117",
    "country": "US",
}
PARCEL = {"length": 5, "width": 5, "height": 5, "distance_unit": "in", "weight": 2, "mass_unit": "lb"}


@lru_cache(maxsize=1)
def carrier() -> Client:
    total = float(os.environ["CHAOS_TOTAL_SECONDS"])
    return Client(
        "carrier",
        os.environ["CHAOS_CARRIER_URL"],
        timeouts=Timeouts(connect=1.0, read=total * 0.75, total=total),
        breaker=breaker,
    )


@actor(queue_name="purchases", unique="order_id", subject="Purchase for order {order_id}")
def purchase(order_id: uuid.UUID) -> None:
    with unit_of_work() as session:
        order = session.get_one(Order, order_id)
        rate = order.rate
    client, reference = carrier(), f"order:{order_id}"
    headers = {"Authorization": f"ShippoToken shippo_test_{current().tenant_id}"}
    if rate is None:
        shipment = {"address_from": ADDRESS, "address_to": ADDRESS, "parcels": [PARCEL], "async": False}
        rate = client.post("shipment", "/shipments", json=shipment, headers=headers).data["rates"][0]["object_id"]
        # Kept before anything is bought at it: the look-up is by rate.
        with unit_of_work() as session:
            session.get_one(Order, order_id).rate = rate

    def call() -> Any:
        body = {"rate": rate, "async": False, "metadata": reference, "label_file_type": "PDF"}
        answer = client.post("buy", "/transactions", json=body, headers=headers, effect=True).data
        if answer["status"] == "ERROR":
            code = answer["messages"][0]["code"]
            kind = Unavailable if code in ("carrier_timeout", "carrier_unavailable") else Refused
            raise kind(answer["messages"][0]["text"], provider="carrier", code=code)
        return {"transaction": answer["object_id"], "status": answer["status"]}

    def look_up() -> Any:
        found = client.get("find", "/transactions", params={"rate": rate or "", "results": 100}, headers=headers)
        bought = [one for one in found.data["results"] if one["metadata"] == reference and one["status"] != "ERROR"]
        return {"transaction": bought[0]["object_id"], "status": bought[0]["status"]} if bought else None

    answer = once(reference, call=call, look_up=look_up, settle=float(os.environ["CHAOS_SETTLE_SECONDS"]))
    with completion({"transaction": answer["transaction"]}) as session:
        order = session.get_one(Order, order_id)
        order.transaction, order.state = answer["transaction"], "purchased"


@purchase.failed
def note_failure(verdict: Verdict, order_id: uuid.UUID) -> None:
    effect = find(f"order:{order_id}")
    # Whatever may have been bought is for a person to look at.
    unclear = effect is not None and effect.state != "refused"
    with unit_of_work() as session:
        session.get_one(Order, order_id).state = "needs_review" if unclear else "failed"
