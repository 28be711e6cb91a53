"""Buying one label: once, and told truly, whatever the carrier's API does. The carrier's books are the judge."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from shared import blobs
from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.jobs import operations
from tests.services.shipping.world import World


def pause(world: World, queue: str = "labels") -> None:
    with use(tenant_id=SYSTEM), unit_of_work(system=True, database=world.app.database) as session:
        operations.pause(session, queue)


def resume(world: World, queue: str = "labels") -> None:
    with use(tenant_id=SYSTEM), unit_of_work(system=True, database=world.app.database) as session:
        operations.resume(session, queue)


def only_charge(world: World) -> dict[str, Any]:
    charges = world.charges()
    assert len(charges) == 1, charges
    return charges[0]


def test_a_label_is_bought_at_the_cheapest_rate(world: World) -> None:
    order = world.order()
    accepted = world.buy(order)
    assert accepted["label"]["status"] == "requested"
    assert accepted["subject"] == f"Label for order {order['number']}"
    job = world.ended(accepted["id"])
    assert job["state"] == "succeeded", job
    label = world.label(accepted["label"]["id"])
    assert (label["status"], label["carrier"], label["currency"]) == ("purchased", "USPS", "USD")
    charge = only_charge(world)
    assert (charge["tracking_number"], charge["amount"]) == (label["tracking_number"], f"{label['amount'] / 100:.2f}")
    assert charge["metadata"] == f"t{world.tenant}|l{label['id']}"
    seen = world.get(f"/v1/orders/{order['id']}")
    assert (seen["state"], seen["carrier"], seen["tracking_number"]) == ("New", "USPS", label["tracking_number"])
    world.idle()
    assert [event["label_id"] for event in world.events("label.requested", "label.purchased")] == [label["id"]] * 2
    assert [event["milestone"] for event in world.events("milestone.reached")] == ["label_created"]


def test_a_chosen_rate_is_the_one_that_is_paid(world: World) -> None:
    order = world.order()
    rates = world.rates(order)
    assert rates[0]["amount"] < rates[3]["amount"]
    label = world.bought(order, rate_id=rates[3]["id"], label_file_type="png")
    assert (label["amount"], label["service"]) == (rates[3]["amount"], rates[3]["service"])
    assert only_charge(world)["amount"] == f"{rates[3]['amount'] / 100:.2f}"
    foreign = world.client().post(f"/v1/orders/{world.order()['id']}/labels", {"rate_id": rates[0]["id"]})
    assert foreign.status_code == 422


@pytest.mark.parametrize("keys", ["none", "one", "many"])
def test_fifty_clicks_buy_one_label(world: World, keys: str) -> None:
    order = world.order()
    start = threading.Barrier(50)
    same = uuid.uuid4()

    def click(_: int) -> tuple[int, Any]:
        client = world.client("fulfillment")
        key = {"none": None, "one": same, "many": uuid.uuid4()}[keys]
        start.wait()
        answer = client.post(f"/v1/orders/{order['id']}/labels", {}, key=key)
        return answer.status_code, answer.json

    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(click, range(50)))
    accepted = [body for status, body in answers if status == 202]
    # With one key a twin may be told that the first is still being answered, and to come back.
    assert all(status == 202 or (keys == "one" and status == 409) for status, _ in answers), answers
    assert len({body["id"] for body in accepted}) == len({body["label"]["id"] for body in accepted}) == 1
    world.ended(accepted[0]["id"])
    only_charge(world)
    assert world.sql("SELECT count(*) FROM labels")[0][0] == 1
    later = world.buy(order)
    assert (later["id"], later["label"]["status"]) == (accepted[0]["id"], "purchased")
    assert world.sql("SELECT count(*) FROM jobs WHERE actor = 'purchase_label'")[0][0] == 1


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("reset_after", {}),
        ("timeout_after", {"seconds": 5}),
        ("status_after", {"status": 500}),
        ("status_after", {"status": 504}),
        ("truncated_body", {}),
        ("garbage_json", {}),
        ("reset_before", {}),
        ("status", {"status": 503}),
        ("hang", {"seconds": 5}),
    ],
)
def test_what_is_lost_on_the_way_is_not_paid_twice(world: World, kind: str, params: dict[str, Any]) -> None:
    world.sandbox.faults.add(kind, method="POST", path="/transactions", times=1, **params)
    label = world.bought(world.order())
    assert label["status"] == "purchased"
    assert only_charge(world)["tracking_number"] == label["tracking_number"]


def test_while_nobody_knows_the_label_says_so(world: World) -> None:
    world.sandbox.faults.add("reset_after", method="POST", path="/transactions", times=1)
    world.sandbox.faults.add("status", method="GET", path="/transactions", times=1, status=503)
    accepted = world.buy(world.order())
    world.wait(lambda: world.label(accepted["label"]["id"])["status"] == "unknown")
    world.ended(accepted["id"])
    assert world.label(accepted["label"]["id"])["status"] == "purchased"
    only_charge(world)


def test_too_many_requests_wait_and_burn_no_attempt(world: World) -> None:
    world.sandbox.faults.add("rate_limited", method="POST", path="/transactions", times=2, retry_after=1)
    accepted = world.buy(world.order())
    job = world.ended(accepted["id"])
    assert (job["state"], job["attempts"]) == ("succeeded", 1)
    only_charge(world)


def test_a_queued_purchase_is_looked_at_until_it_is_done(world: World) -> None:
    world.sandbox.faults.add("queued_then_success", method="POST", path="/transactions", seconds=3600)
    accepted = world.buy(world.order())
    label_id = accepted["label"]["id"]
    world.wait(lambda: world.label(label_id)["status"] == "waiting")
    assert world.charges() == []
    world.sandbox.settle()
    job = world.ended(accepted["id"])
    assert (job["state"], job["attempts"]) == ("succeeded", 1)
    assert world.label(label_id)["status"] == "purchased"
    only_charge(world)


def test_a_queued_purchase_that_fails_bought_nothing(world: World) -> None:
    said = {"code": "bad_street", "text": "The street is unknown."}
    world.sandbox.faults.add("queued_then_error", method="POST", path="/transactions", times=1, seconds=3600, **said)
    order = world.order()
    accepted = world.buy(order)
    world.wait(lambda: world.label(accepted["label"]["id"])["status"] == "waiting")
    world.sandbox.settle()
    job = world.ended(accepted["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "address_rejected")
    assert world.label(accepted["label"]["id"])["status"] == "failed"
    assert world.charges() == []
    retried = world.client().post(f"/v1/jobs/{accepted['id']}/retry")
    assert retried.status_code == 200
    assert world.ended(accepted["id"])["state"] == "succeeded"
    assert world.label(accepted["label"]["id"])["status"] == "purchased"
    only_charge(world)


def test_a_wrong_address_is_said_in_words_and_can_be_mended(world: World) -> None:
    order = world.order(address={"street1": "1 Broadway", "city": "", "state": "NY", "zip": "10004", "country": "US"})
    accepted = world.buy(order)
    job = world.ended(accepted["id"])
    assert (job["state"], job["error"]["code"], job["attempts"]) == ("failed", "address_rejected", 1)
    assert "recipient's city is required" in job["error"]["what"]
    assert order["number"] in job["error"]["what"]
    failed = world.events("label.failed")
    assert [(event["code"], event["job_id"]) for event in failed] == [("address_rejected", accepted["id"])]
    assert world.charges() == []
    mended = {"address": {**order["address"], "city": "New York"}}
    patch = {name: mended["address"][name] for name in ("street1", "city", "state", "zip", "country")}
    assert world.client().patch(f"/v1/orders/{order['id']}", {"address": patch}).status_code == 200
    again = world.buy(order)
    assert again["label"]["id"] != accepted["label"]["id"], "nothing was bought, so this is a new try"
    world.ended(again["id"])
    # The latest rates were quoted for the wrong address, and are of no use for the right one.
    assert world.label(again["label"]["id"])["status"] == "purchased"
    only_charge(world)
    late = world.client().post(f"/v1/jobs/{accepted['id']}/retry")
    assert late.status_code == 200
    assert world.ended(accepted["id"])["error"]["code"] == "label_replaced"
    only_charge(world)


def test_a_carrier_that_is_away_is_asked_again(world: World) -> None:
    world.sandbox.faults.add(
        "error_messages", method="POST", path="/transactions", times=1, code="carrier_timeout", text="Did not respond."
    )
    assert world.bought(world.order())["status"] == "purchased"
    only_charge(world)


def test_an_expired_rate_is_renewed_at_the_same_price(world: World) -> None:
    order = world.order()
    rate = world.rates(order)[1]
    world.sandbox.faults.add("expired_rate", method="POST", path="/transactions", times=1)
    label = world.bought(order, rate_id=rate["id"])
    assert (label["status"], label["amount"], label["service"]) == ("purchased", rate["amount"], rate["service"])
    assert label["rate_id"] != rate["id"]
    only_charge(world)


def test_an_old_rate_is_never_replaced_by_a_dearer_one(world: World) -> None:
    order = world.order()
    rate = world.rates(order)[1]
    world.sql("UPDATE rates SET rated_at = rated_at - interval '8 days', amount = amount - 1")
    accepted = world.buy(order, rate_id=rate["id"])
    job = world.ended(accepted["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "rate_expired")
    assert world.charges() == []
    fresh = world.get(f"/v1/orders/{order['id']}/rates")["items"]
    assert [one["expired"] for one in fresh] == [False] * 6
    label = world.bought(order, rate_id=fresh[1]["id"])
    assert (label["status"], label["amount"]) == ("purchased", rate["amount"])


def test_an_undeliverable_parcel_is_not_bought(world: World) -> None:
    address = {"street1": "1 Nowhere Lane", "city": "Reno", "state": "NV", "zip": "00000", "country": "US"}
    job = world.ended(world.buy(world.order(address=address))["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "no_rates")
    assert "postal code was not found" in job["error"]["what"]


def test_what_cannot_be_known_is_put_before_a_person_and_found_later(world: World) -> None:
    world.sandbox.faults.add("reset_after", method="POST", path="/transactions", times=1)
    world.sandbox.faults.add("status", method="GET", path="/transactions", account=world.tenant, status=503)
    order = world.order()
    accepted = world.buy(order)
    job = world.ended(accepted["id"])
    label_id = accepted["label"]["id"]
    assert job["state"] == "failed"
    assert world.label(label_id)["status"] == "needs_review"
    assert [event["label_id"] for event in world.events("label.needs_review")] == [label_id]
    assert world.buy(order)["label"]["id"] == label_id, "nobody buys another one meanwhile"
    world.sandbox.faults.clear()
    assert world.run("recheck_unknown_labels")["labels"] >= 1
    world.wait(lambda: world.label(label_id)["status"] == "purchased")
    only_charge(world)


def test_looking_again_never_buys_but_a_person_may(world: World) -> None:
    world.sandbox.faults.add("reset_before", method="POST", path="/transactions", times=1)
    world.sandbox.faults.add("status", method="GET", path="/transactions", account=world.tenant, status=503)
    accepted = world.buy(world.order())
    world.ended(accepted["id"])
    label_id = accepted["label"]["id"]
    assert world.label(label_id)["status"] == "needs_review"
    world.sandbox.faults.clear()
    for _ in range(2):
        world.run("recheck_unknown_labels")
        world.idle()
        assert world.label(label_id)["status"] == "needs_review"
    assert world.charges() == []
    world.client().post(f"/v1/jobs/{accepted['id']}/retry")
    assert world.ended(accepted["id"])["state"] == "succeeded"
    assert world.label(label_id)["status"] == "purchased"
    only_charge(world)


def test_no_label_without_an_account(bare: World) -> None:
    order = bare.order()
    refused = bare.client().post(f"/v1/orders/{order['id']}/labels", {})
    assert refused.status_code == 409
    assert refused.json is not None
    assert refused.json["code"] == "shippo_not_connected"


def test_a_revoked_token_is_noticed_and_said(world: World) -> None:
    world.sandbox.faults.add("status", method="POST", path="/shipments", status=401)
    job = world.ended(world.buy(world.order())["id"])
    assert (job["state"], job["error"]["code"], job["attempts"]) == ("failed", "provider_not_authorized", 1)
    assert world.get("/v1/connections/shippo")["status"] == "needs_reauthorization"
    assert [event["status"] for event in world.events("connection.changed")] == ["connected", "needs_reauthorization"]
    assert world.client().post(f"/v1/orders/{world.order()['id']}/labels", {}).status_code == 409
    world.sandbox.faults.clear()
    world.connect()
    assert world.bought(world.order())["status"] == "purchased"


def test_an_order_that_is_cancelled_first_is_not_bought_for(world: World) -> None:
    pause(world)
    try:
        order = world.order()
        accepted = world.buy(order)
        assert world.client().post(f"/v1/orders/{order['id']}/transitions", {"to": "Cancelled"}).status_code == 200
    finally:
        resume(world)
    job = world.ended(accepted["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "order_not_open")
    assert world.label(accepted["label"]["id"])["status"] == "failed"
    assert world.charges() == []


def test_an_order_that_is_cancelled_while_it_is_bought_for_gets_its_money_back(world: World) -> None:
    world.sandbox.faults.add("reset_after", method="POST", path="/transactions", times=1)
    order = world.order()
    accepted = world.buy(order)
    world.wait(lambda: world.label(accepted["label"]["id"])["status"] == "unknown")
    assert world.client().post(f"/v1/orders/{order['id']}/transitions", {"to": "Cancelled"}).status_code == 200
    assert world.ended(accepted["id"])["state"] == "succeeded"
    only_charge(world)
    world.wait(lambda: world.sandbox.count("POST /refunds"))
    world.sandbox.settle()
    world.wait(lambda: world.label(accepted["label"]["id"])["status"] == "refunded")


def test_an_order_that_is_cancelled_after_a_try_that_came_to_nothing_is_not_bought_for(world: World) -> None:
    world.sandbox.faults.add("reset_before", method="POST", path="/transactions", times=1)
    order = world.order()
    accepted = world.buy(order)
    world.wait(lambda: world.label(accepted["label"]["id"])["status"] == "unknown")
    world.client().post(f"/v1/orders/{order['id']}/transitions", {"to": "Cancelled"})
    job = world.ended(accepted["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "order_not_open")
    assert world.label(accepted["label"]["id"])["status"] == "failed"
    assert world.charges() == []


def test_a_job_that_is_cancelled_before_it_runs_leaves_no_label_open(world: World) -> None:
    pause(world)
    try:
        order = world.order()
        accepted = world.buy(order)
        assert world.client().post(f"/v1/jobs/{accepted['id']}/cancel").status_code == 200
        label = world.label(accepted["label"]["id"])
        assert (label["status"], label["error_code"]) == ("failed", "cancelled")
    finally:
        resume(world)
    assert world.bought(order)["status"] == "purchased"
    only_charge(world)


def test_the_file_is_copied_and_its_failure_harms_nothing(world: World) -> None:
    world.sandbox.faults.add("status", method="GET", path="/labels", status=500, times=1)
    label = world.bought(world.order(), label_file_type="zpl")
    assert label["status"] == "purchased"
    path = f"/v1/labels/{label['id']}"
    world.wait(lambda: world.get(path)["file_ready"])
    file = world.client("fulfillment").get(f"{path}/file")
    assert file.status_code == 200
    assert file.data.startswith(b"^XA")
    assert file.headers["Content-Type"] == "application/zpl"
    assert world.client(tenant="somebody-else").get(f"{path}/file").status_code == 404


def test_a_file_in_a_bucket_is_read_from_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request signs an address and calls nobody: at that endpoint nobody would answer."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    path = f"/v1/labels/{world.bought(world.order())['id']}"
    world.wait(lambda: world.get(path)["file_ready"])
    bucket = blobs.open_store("s3://files/here?endpoint=http://127.0.0.1:9")
    monkeypatch.setattr("shared.blobs.stores._store", bucket)
    answer = world.client("fulfillment").get(f"{path}/file")
    assert answer.status_code == 303
    assert answer.data == b""
    address = urlsplit(answer.headers["Location"])
    assert (address.netloc, address.path.startswith("/files/here/shipping/")) == ("127.0.0.1:9", True)
    asked = dict(parse_qsl(address.query))
    assert asked["X-Amz-Expires"] == "300"
    assert asked["response-content-type"] == "application/pdf"
    assert asked["response-content-disposition"].startswith('attachment; filename="label-')
    assert answer.headers["Cache-Control"] == "no-store"
    assert world.client(tenant="somebody-else").get(f"{path}/file").status_code == 404
