"""Webhooks go out over real HTTP: in order, signed, again when refused, and wrong on request."""

import hashlib
import hmac
import json
import time
from typing import Any

import pytest

from shared.sandbox import Sandbox


def events(receiver: Any, count: int) -> list[dict[str, Any]]:
    return [json.loads(receiver.next()[1]) for _ in range(count)]


def test_a_purchase_is_told_as_it_goes_on(sandbox: Sandbox, customer: Any, receiver: Any) -> None:
    customer.hook(receiver.url)
    bought = customer.post("/transactions", {"rate": customer.rate(), "metadata": "label-3"}).json()
    sandbox.settle()
    sandbox.move("usps", sandbox.ledger()[0]["tracking_number"], "TRANSIT")
    created, updated, moved = events(receiver, 3)
    assert created == {"event": "transaction_created", "test": True, "data": bought}
    assert (updated["event"], updated["data"]["status"]) == ("transaction_updated", "SUCCESS")
    assert updated["data"]["label_url"].startswith(sandbox.url)
    assert (moved["event"], moved["data"]["tracking_status"]["status"]) == ("track_updated", "TRANSIT")
    assert moved["data"]["transaction"] == bought["object_id"]


def test_only_wanted_events_of_the_own_account_are_sent(sandbox: Sandbox, customer: Any, receiver: Any) -> None:
    other = type(customer)(sandbox, "other")
    customer.hook(receiver.url, "track_updated")
    other.buy(other.rate())
    number = customer.buy(customer.rate()).json()["tracking_number"]
    sandbox.move("usps", number, "FAILURE")
    [only] = events(receiver, 1)
    assert (only["event"], only["data"]["tracking_status"]["status"]) == ("track_updated", "FAILURE")
    assert len(sandbox.webhooks()) <= 1


def signature_is_right(received: tuple[dict[str, str], bytes], secret: str) -> bool:
    headers, body = received
    stamp, given = (part.split("=", 1)[1] for part in headers["Shippo-Auth-Signature"].split(","))
    assert abs(time.time() - int(stamp)) < 300
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest() == given


def test_webhooks_are_signed_when_there_is_a_secret(sandbox: Sandbox, customer: Any, receiver: Any) -> None:
    customer.hook(receiver.url)
    rate = customer.rate()
    customer.buy(rate)
    assert "Shippo-Auth-Signature" not in receiver.next()[0]
    sandbox.sign_webhooks("s3cret")
    customer.buy(rate)
    assert signature_is_right(receiver.next(), "s3cret")
    sandbox.faults.add("webhook_forged")
    customer.buy(rate)
    assert not signature_is_right(receiver.next(), "s3cret")


def test_what_is_refused_with_5xx_is_sent_again_and_what_is_refused_with_4xx_is_not(
    sandbox: Sandbox, customer: Any, receiver: Any
) -> None:
    customer.hook(receiver.url)
    receiver.answers = [500, 503, 200]
    customer.buy(customer.rate())
    first = receiver.next()[1]
    for _ in range(2):
        # The next attempt is scheduled only once the answer was read.
        sandbox.wait(sandbox.settle)
        assert receiver.next()[1] == first
    sandbox.wait(lambda: len(sandbox.webhooks()) == 3)
    assert [(item["attempt"], item["status"]) for item in sandbox.webhooks()] == [
        (1, 500),
        (2, 503),
        (3, 200),
    ]
    receiver.answers = [404]
    customer.buy(customer.rate())
    sandbox.wait(lambda: len(sandbox.webhooks()) == 4)
    assert sandbox.settle() == 0


def test_a_receiver_that_is_away_is_tried_four_times(sandbox: Sandbox, customer: Any) -> None:
    customer.hook("http://127.0.0.1:1/")
    customer.buy(customer.rate())
    for _ in range(3):
        sandbox.wait(sandbox.settle)
    sandbox.wait(lambda: len(sandbox.webhooks()) == 4)
    assert sandbox.settle() == 0
    assert {item["status"] for item in sandbox.webhooks()} == {None}


def test_a_webhook_can_be_duplicated(sandbox: Sandbox, customer: Any, receiver: Any) -> None:
    customer.hook(receiver.url)
    sandbox.faults.add("webhook_duplicate", path="/transaction_created", copies=3)
    customer.buy(customer.rate())
    bodies = [receiver.next()[1] for _ in range(3)]
    assert len(set(bodies)) == 1


def test_webhooks_can_overtake_each_other(sandbox: Sandbox, customer: Any, receiver: Any) -> None:
    customer.hook(receiver.url, "track_updated")
    number = customer.buy(customer.rate()).json()["tracking_number"]
    sandbox.faults.add("webhook_reorder", method="WEBHOOK", path="/track_updated", times=1, seconds=60)
    sandbox.move("usps", number, "TRANSIT")
    sandbox.move("usps", number, "DELIVERED")
    statuses = [event["data"]["tracking_status"]["status"] for event in events(receiver, 2)]
    assert statuses == ["DELIVERED", "TRANSIT"]


@pytest.mark.parametrize("kind", ["webhook_delay", "webhook_reorder"])
def test_a_webhook_can_be_late(sandbox: Sandbox, customer: Any, receiver: Any, kind: str) -> None:
    customer.hook(receiver.url)
    sandbox.faults.add(kind, seconds=60)
    customer.buy(customer.rate())
    assert sandbox.webhooks() == []
    sandbox.settle()
    assert events(receiver, 1)[0]["event"] == "transaction_created"


def test_a_webhook_can_be_lost(sandbox: Sandbox, customer: Any, receiver: Any) -> None:
    customer.hook(receiver.url)
    sandbox.faults.add("webhook_drop", times=1)
    key = customer.post("/transactions", {"rate": customer.rate()}).json()["object_id"]
    sandbox.settle()
    [arrived] = events(receiver, 1)
    assert (arrived["event"], arrived["data"]["object_id"]) == ("transaction_updated", key)
    assert sandbox.webhooks()[0]["fault"] == "webhook_drop"
