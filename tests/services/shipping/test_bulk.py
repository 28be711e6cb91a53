"""Labels for many orders: one parent job with its progress, one child per order, nothing bought twice."""

from __future__ import annotations

import uuid
from typing import Any

from tests.services.shipping.world import World


def buy_all(world: World, order_ids: list[str]) -> dict[str, Any]:
    answer = world.client("fulfillment").post("/v1/labels/bulk", {"order_ids": order_ids})
    assert answer.status_code == 202, answer.text
    assert answer.json is not None
    return dict(answer.json)


def test_each_order_gets_its_label(world: World) -> None:
    drafts = [world.draft() for _ in range(30)]
    nowhere = {"street1": "1 Nowhere Lane", "city": "Reno", "state": "NV", "zip": "00000", "country": "US"}
    drafts[7]["address"] = nowhere
    orders = world.client().post("/v1/orders/bulk", {"orders": drafts}).json["items"]  # type: ignore[index]
    before = world.bought(orders[3])
    cancelled = orders[5]
    world.client().post(f"/v1/orders/{cancelled['id']}/transitions", {"to": "Cancelled"})
    for kind in ("reset_after", "garbage_json", "reset_before"):
        # Not so many in a row that the circuit opens, which would only make the test long.
        world.sandbox.faults.add(kind, method="POST", path="/transactions", times=2, after=3)
    parent = buy_all(world, [order["id"] for order in orders] + [orders[0]["id"]])
    assert parent["subject"] == "Labels for 30 orders"
    job = world.ended(parent["id"], timeout=60)
    assert (job["state"], job["progress"]["done"], job["progress"]["total"]) == ("succeeded", 30, 30)
    assert job["result"] == {"total": 30, "succeeded": 28, "failed": 2, "cancelled": 0}
    children = world.get(f"/v1/jobs/{parent['id']}/children?limit=100")["items"]
    failed = {child["subject"]: child["error"]["code"] for child in children if child["state"] == "failed"}
    assert failed == {
        f"Label for order {drafts[7]['number']}": "no_rates",
        f"Label for order {cancelled['number']}": "order_not_open",
    }
    bought = [order for order in orders if order["id"] not in (cancelled["id"], orders[7]["id"])]
    labels = [world.get(f"/v1/orders/{order['id']}/labels")["items"] for order in bought]
    assert all([one["status"] for one in each] == ["purchased"] for each in labels)
    numbers = [charge["tracking_number"] for charge in world.charges()]
    assert sorted(numbers) == sorted(each[0]["tracking_number"] for each in labels)
    assert before["tracking_number"] in numbers


def test_a_click_during_a_bulk_run_is_answered_by_its_job(world: World) -> None:
    order = world.order()
    world.sandbox.faults.add("latency", method="POST", path="/shipments", seconds=0.5)
    parent = buy_all(world, [order["id"]])
    world.wait(lambda: world.get(f"/v1/orders/{order['id']}/labels")["items"])
    clicked = world.buy(order)
    assert clicked["parent_id"] == parent["id"]
    world.ended(parent["id"])
    assert len(world.charges()) == 1


def test_bulk_twice_buys_once(world: World) -> None:
    orders = [world.order() for _ in range(8)]
    ids = [order["id"] for order in orders]
    parents = [buy_all(world, ids), buy_all(world, ids)]
    for parent in parents:
        assert world.ended(parent["id"])["state"] == "succeeded"
    world.idle()
    assert len(world.charges()) == 8


def test_unknown_orders_are_named(world: World) -> None:
    unknown = str(uuid.uuid4())
    refused = world.client().post("/v1/labels/bulk", {"order_ids": [world.order()["id"], unknown]})
    assert refused.status_code == 422
    assert refused.json is not None
    assert refused.json["order_ids"] == [unknown]
    assert world.client().post("/v1/labels/bulk", {"order_ids": []}).status_code == 400


def test_ten_thousand_orders_are_one_quick_request(world: World) -> None:
    """The request writes one job; whatever there is to be made for each order, the job makes."""
    order = world.order()
    world.sql(
        """
        INSERT INTO orders (id, tenant_id, number, state, created_by, recipient_name, recipient_company,
                            recipient_email, address_id, lines, note, version)
        SELECT gen_random_uuid(), tenant_id, 'many-' || n, 'Cancelled', created_by, recipient_name, '', '',
               address_id, '[]', '', 1
        FROM orders, generate_series(1, 9999) AS n
        """
    )
    ids = [str(row[0]) for row in world.sql("SELECT id FROM orders")]
    assert len(ids) == 10_000
    parent = buy_all(world, ids)
    assert world.sql("SELECT count(*) FROM labels")[0][0] == 0
    cancelled = world.client().post(f"/v1/jobs/{parent['id']}/cancel")
    assert cancelled.status_code == 200
    world.wait(lambda: world.job(parent["id"])["done"], 60)
    assert order["id"] in ids
