"""Webhooks and tracking: genuine ones count once, in the order of what happened, and never move an order."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.shipping.settings import settings
from services.shipping.webhooks import SIGNATURE_HEADER
from shared.web.serve import serve
from tests.services.shipping.world import World

DAY = "2030-03-{:02}T10:00:00Z"


class Shipped:
    """An order whose parcel is on its way, and Shippo's webhooks about it."""

    def __init__(self, world: World, url: str) -> None:
        self.world = world
        self.url = url
        self.order = world.order()
        self.label = world.bought(self.order)

    def scan(self, status: str, day: int, **changes: Any) -> bytes:
        """Return the webhook of a scan on that day."""
        track = {
            "carrier": "usps",
            "tracking_number": self.label["tracking_number"],
            "metadata": f"t{self.world.tenant}|l{self.label['id']}",
            "transaction": None,
            "eta": None,
            "tracking_history": [],
            "tracking_status": {
                "status": status,
                "status_date": DAY.format(day),
                "status_details": f"It is {status.lower()}.",
                "substatus": None,
                "location": {"city": "Reno", "state": "NV", "country": "US"},
            },
        }
        return json.dumps({"event": "track_updated", "test": True, "data": {**track, **changes}}).encode()

    def send(self, body: bytes, *, url: str | None = None, signature: str | None = None) -> int:
        headers = {"Content-Type": "application/json"}
        if signature is not None:
            headers[SIGNATURE_HEADER] = signature
        return self.world.client().stranger().post(url or self.url, body, headers=headers).status_code

    def tracking(self) -> dict[str, Any]:
        self.world.idle()
        return dict(self.world.get(f"/v1/orders/{self.order['id']}/tracking")["items"][0])

    def milestones(self) -> list[str]:
        self.world.idle()
        told = self.world.events("milestone.reached", "delivery.failed")
        return [event.get("milestone") or event["reason"] for event in told]


@pytest.fixture
def shipped(bare: World) -> Shipped:
    return Shipped(bare, bare.connect()["webhook_url"])


def test_scans_are_taken_over_and_the_order_stays(shipped: Shipped) -> None:
    before = shipped.world.get(f"/v1/orders/{shipped.order['id']}")
    for status, day in (("TRANSIT", 1), ("TRANSIT", 2), ("DELIVERED", 3)):
        assert shipped.send(shipped.scan(status, day)) == 200
        shipped.world.idle()
    seen = shipped.tracking()
    assert (seen["status"], seen["place"], seen["status_date"]) == ("delivered", "Reno, NV, US", DAY.format(3))
    assert [scan["status"] for scan in seen["history"]] == ["transit", "transit", "delivered"]
    assert shipped.milestones() == ["label_created", "in_transit", "delivered"]
    assert len(shipped.world.events("tracking.updated")) == 3
    after = shipped.world.get(f"/v1/orders/{shipped.order['id']}")
    assert (after["state"], after["delivery_status"]) == (before["state"], "delivered")
    assert before["state"] == "New"


def test_repetitions_count_once(shipped: Shipped) -> None:
    body = shipped.scan("TRANSIT", 1)
    assert [shipped.send(body) for _ in range(5)] == [200] * 5
    assert shipped.milestones() == ["label_created", "in_transit"]
    assert shipped.world.sql("SELECT count(*) FROM webhook_events")[0][0] == 1
    assert shipped.world.sql("SELECT count(*) FROM jobs WHERE actor = 'process_webhook'")[0][0] == 1


def test_what_comes_late_changes_nothing_but_the_history(shipped: Shipped) -> None:
    shipped.send(shipped.scan("DELIVERED", 3))
    shipped.world.idle()
    shipped.send(shipped.scan("TRANSIT", 1))
    seen = shipped.tracking()
    assert seen["status"] == "delivered"
    assert [scan["status"] for scan in seen["history"]] == ["transit", "delivered"]
    assert shipped.milestones() == ["label_created", "delivered"], "nobody is told now that it is on its way"


@pytest.mark.parametrize(("status", "reason"), [("RETURNED", "returned"), ("FAILURE", "failure")])
def test_bad_ends_are_alerts(shipped: Shipped, status: str, reason: str) -> None:
    for day in (4, 5):
        shipped.send(shipped.scan(status, day))
        shipped.world.idle()
    assert shipped.milestones() == ["label_created", reason]
    assert shipped.world.events("delivery.failed")[0]["details"] == f"It is {status.lower()}."


def test_the_wrong_ones_are_turned_away_without_a_word(shipped: Shipped) -> None:
    body = shipped.scan("DELIVERED", 3)
    parts = urlsplit(shipped.url)
    token = parse_qs(parts.query)["token"][0]
    wrong = [
        parts.path,
        f"{parts.path}?token=",
        f"{parts.path}?token={token[:-1]}",
        f"/v1/webhooks/shippo/nobody?token={token}",
        f"/v1/webhooks/shippo/system?token={token}",
        f"{parts.path}?token=%FF%FE",
    ]
    statuses = [shipped.send(body, url=url) for url in wrong]
    assert statuses == [401] * len(wrong)
    json_type = {"Content-Type": "application/json"}
    refused = [shipped.world.client().stranger().post(url, body, headers=json_type) for url in wrong]
    documents = [{**answer.json, "instance": "", "request_id": ""} for answer in refused]  # type: ignore[dict-item]
    assert all(document == documents[0] for document in documents)
    assert shipped.send(b"no json") == 400
    assert shipped.send(b'{"event": "track_updated", "data": {}}') == 400
    assert shipped.world.sql("SELECT count(*) FROM webhook_events")[0][0] == 0


def test_a_signature_is_asked_for_once_it_was_arranged(bare: World) -> None:
    shipped = Shipped(bare, bare.connect(hmac_secret="open sesame")["webhook_url"])
    body = shipped.scan("TRANSIT", 1)

    def sign(secret: str, at: int) -> str:
        digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return f"t={at},v1={digest}"

    now = int(time.time())
    assert shipped.send(body) == 401
    assert shipped.send(body, signature=sign("guessed it", now)) == 401
    assert shipped.send(body, signature=sign("open sesame", now - 600)) == 401
    assert shipped.send(body, signature=sign("open sesame", now)) == 200
    assert shipped.milestones() == ["label_created", "in_transit"]


def test_a_new_webhook_token_replaces_the_old_one(shipped: Shipped) -> None:
    body = shipped.scan("TRANSIT", 1)
    assert shipped.world.connect()["webhook_url"] is None, "a known token is not shown again"
    assert shipped.send(body) == 200
    renewed = shipped.world.connect(renew_webhook_token=True)["webhook_url"]
    assert shipped.send(shipped.scan("DELIVERED", 2)) == 401
    assert shipped.send(shipped.scan("DELIVERED", 2), url=renewed) == 200


def test_a_webhook_that_failed_is_processed_when_its_job_is_retried(shipped: Shipped) -> None:
    assert shipped.send(shipped.scan("TRANSIT", 1, tracking_number="nobody-knows")) == 200
    shipped.world.idle()
    shipped.world.sql("UPDATE webhook_events SET state = 'failed', outcome = 'unexpected'")
    shipped.world.sql("UPDATE jobs SET state = 'failed' WHERE actor = 'process_webhook'")
    (job_id,) = shipped.world.sql("SELECT id FROM jobs WHERE actor = 'process_webhook'")[0]
    assert shipped.world.client().post(f"/v1/jobs/{job_id}/retry").status_code in (200, 202)
    shipped.world.idle()
    assert shipped.world.sql("SELECT state, outcome FROM webhook_events") == [("processed", "not_ours")]


def test_parcels_of_others_are_passed_over(shipped: Shipped) -> None:
    assert shipped.send(shipped.scan("TRANSIT", 1, tracking_number="nobody-knows")) == 200
    assert shipped.tracking()["status"] == "pre_transit"
    assert shipped.world.sql("SELECT state, outcome FROM webhook_events") == [("processed", "not_ours")]


def test_a_webhook_cannot_make_us_believe_in_a_label(world: World) -> None:
    url = world.connect(renew_webhook_token=True)["webhook_url"]
    world.sandbox.faults.add("queued_then_success", method="POST", path="/transactions", seconds=3600)
    accepted = world.buy(world.order())
    label_id = accepted["label"]["id"]
    world.wait(lambda: world.label(label_id)["status"] == "waiting")
    provider_id = world.sql("SELECT provider_id FROM labels")[0][0]
    world.sql("UPDATE jobs SET run_at = run_at + interval '1 hour' WHERE state = 'scheduled'")
    forged = {
        "object_id": provider_id,
        "status": "SUCCESS",
        "rate": "r",
        "metadata": f"t{world.tenant}|l{label_id}",
        "tracking_number": "forged",
        "object_updated": DAY.format(1),
    }
    body = json.dumps({"event": "transaction_updated", "test": True, "data": forged}).encode()
    sent = world.client().stranger().post(url, body, headers={"Content-Type": "application/json"})
    assert sent.status_code == 200
    world.wait(lambda: world.sql("SELECT outcome FROM webhook_events WHERE state = 'processed'"))
    assert world.sql("SELECT outcome FROM webhook_events") == [("purchase_hastened",)]
    world.wait(lambda: world.sandbox.count("GET /transactions/{id}"))
    assert world.label(label_id)["status"] == "waiting"


def test_the_carrier_is_asked_on_demand(shipped: Shipped) -> None:
    world = shipped.world
    world.sandbox.move("usps", shipped.label["tracking_number"], "TRANSIT")
    answer = world.client("fulfillment").post(f"/v1/orders/{shipped.order['id']}/tracking/refresh")
    assert answer.status_code == 202
    assert world.ended(answer.json["id"])["state"] == "succeeded"  # type: ignore[index]
    assert shipped.tracking()["status"] == "transit"
    assert shipped.milestones() == ["label_created", "in_transit"]
    nothing = world.client().post(f"/v1/orders/{world.order()['id']}/tracking/refresh")
    assert (nothing.status_code, nothing.json["code"]) == (409, "nothing_to_track")  # type: ignore[index]


@pytest.fixture
def public(bare: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The API over real HTTP, under an address at which the carrier reaches it."""
    web = bare.app.web()
    server = serve(web, "127.0.0.1", 0, threads=4)
    monkeypatch.setenv("SHIPPING_PUBLIC_URL", server.url)
    settings.cache_clear()
    yield bare
    server.stop()
    web.extensions["backroom"].close()
    monkeypatch.undo()
    settings.cache_clear()


def test_the_carrier_sends_its_own_webhooks(public: World) -> None:
    public.connect()
    assert public.get("/v1/connections/shippo")["webhooks_registered"] is True
    public.sandbox.faults.add("webhook_duplicate", method="WEBHOOK", copies=3)
    public.sandbox.faults.add("queued_then_success", method="POST", path="/transactions", seconds=3600)
    accepted = public.buy(public.order())
    label_id = accepted["label"]["id"]
    public.wait(lambda: public.label(label_id)["status"] == "waiting")
    # The next look is an hour away; the webhook brings it forward.
    public.wait(lambda: public.sql("SELECT count(*) FROM jobs WHERE waiting_for = 'label_waiting'")[0][0])
    public.sql("UPDATE jobs SET run_at = run_at + interval '1 hour' WHERE waiting_for = 'label_waiting'")
    public.sandbox.settle()
    assert public.ended(accepted["id"])["state"] == "succeeded"
    label = public.label(label_id)
    for status in ("TRANSIT", "DELIVERED"):
        public.sandbox.move("usps", label["tracking_number"], status)

    def told() -> list[str]:
        return [event["milestone"] for event in public.events("milestone.reached")]

    public.wait(lambda: "delivered" in told())
    assert told() == ["label_created", "in_transit", "delivered"]
