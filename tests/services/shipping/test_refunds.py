"""Giving labels back: asked for once, followed until it is decided."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.shipping.world import World


def give_back(world: World, label: dict[str, Any]) -> dict[str, Any]:
    answer = world.client("fulfillment").post(f"/v1/labels/{label['id']}/refund")
    assert answer.status_code == 202, answer.text
    assert answer.json is not None
    return dict(answer.json)


def asked(world: World) -> int:
    return world.sandbox.count("POST /refunds")


def test_the_money_comes_back_and_a_new_label_can_be_bought(world: World) -> None:
    order = world.order()
    label = world.bought(order)
    accepted = give_back(world, label)
    assert accepted["label"]["status"] == "refund_pending"
    assert world.ended(accepted["id"])["state"] == "succeeded"
    assert give_back(world, label)["label"]["status"] == "refund_pending", "asking again does nothing new"
    world.sandbox.settle()
    world.wait(lambda: world.label(label["id"])["status"] == "refunded")
    assert asked(world) == 1
    assert [event["amount"] for event in world.events("label.refunded")] == [label["amount"]]
    assert world.get(f"/v1/orders/{order['id']}")["tracking_number"] is None
    second = world.bought(order)
    assert second["id"] != label["id"]
    assert [entry["kind"] for entry in world.sandbox.ledger()] == ["charge", "refund", "charge"]
    listed = world.get(f"/v1/orders/{order['id']}/labels")["items"]
    assert [one["status"] for one in listed] == ["purchased", "refunded"]


def test_a_refund_that_is_rejected_is_told(world: World) -> None:
    world.sandbox.faults.add("refund_rejected", method="POST", path="/refunds")
    label = world.bought(world.order())
    world.ended(give_back(world, label)["id"])
    world.sandbox.settle()
    world.wait(lambda: world.label(label["id"])["status"] == "refund_rejected")
    assert [event["label_id"] for event in world.events("label.refund_rejected")] == [label["id"]]


@pytest.mark.parametrize("kind", ["reset_after", "reset_before", "garbage_json", "timeout_after"])
def test_a_lost_answer_asks_once(world: World, kind: str) -> None:
    params = {"seconds": 5} if kind == "timeout_after" else {}
    world.sandbox.faults.add(kind, method="POST", path="/refunds", times=1, **params)
    label = world.bought(world.order())
    assert world.ended(give_back(world, label)["id"])["state"] == "succeeded"
    world.sandbox.settle()
    world.wait(lambda: world.label(label["id"])["status"] == "refunded")
    assert [entry["kind"] for entry in world.sandbox.ledger()] == ["charge", "refund"]


def test_cancelling_an_order_gives_its_label_back(world: World) -> None:
    order = world.order()
    label = world.bought(order)
    assert world.client().post(f"/v1/orders/{order['id']}/transitions", {"to": "Cancelled"}).status_code == 200
    assert world.label(label["id"])["status"] == "refund_pending"
    world.wait(lambda: asked(world) == 1)
    world.sandbox.settle()
    world.wait(lambda: world.label(label["id"])["status"] == "refunded")


def test_only_what_was_bought_is_given_back(world: World) -> None:
    address = {"street1": "1 Nowhere Lane", "city": "Reno", "state": "NV", "zip": "00000", "country": "US"}
    failed = world.bought(world.order(address=address))
    assert failed["status"] == "failed"
    refused = world.client().post(f"/v1/labels/{failed['id']}/refund")
    assert (refused.status_code, refused.json["code"]) == (409, "label_state_forbids")  # type: ignore[index]
    label = world.bought(world.order())
    assert world.client("sales").post(f"/v1/labels/{label['id']}/refund").status_code == 403
    assert world.client(tenant="neighbor").post(f"/v1/labels/{label['id']}/refund").status_code == 404
