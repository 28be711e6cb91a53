"""Buying one label: once, and told truly, whatever the carrier's API does. The carrier's books are the judge."""

from __future__ import annotations

from tests.services.shipping.world import World


def test_a_label_is_bought_at_the_cheapest_rate(world: World) -> None:
    order = world.order()
    accepted = world.buy(order)
    assert accepted["label"]["status"] == "requested"
    assert accepted["subject"] == f"Label for order {order['number']}"
    job = world.ended(accepted["id"])
    assert job["state"] == "succeeded", job
    label = world.label(accepted["label"]["id"])
    assert (label["status"], label["carrier"], label["currency"]) == ("purchased", "USPS", "USD")
    assert [charge["tracking_number"] for charge in world.charges()] == [label["tracking_number"]]
    assert world.charges()[0]["amount"] == f"{label['amount'] / 100:.2f}"
