"""What a file of orders asks for is entered, as if whoever imported it had done so."""

from __future__ import annotations

from typing import Any

from shared.context import use
from shared.events.contracts.imports import OrderRequested
from shared.jobs.handlers import handlers_of, receive
from shared.jobs.wire import Delivery
from shared.testing.events import cloud_event
from tests.services.shipping.world import PARCEL, World


def requested(**changes: Any) -> OrderRequested:
    return OrderRequested.model_validate(OrderRequested.example().model_dump() | changes)


def arrive(world: World, contract: OrderRequested, times: int = 1) -> None:
    event = cloud_event(contract, tenant_id=world.tenant)
    with use(tenant_id=world.tenant):
        for _ in range(times):
            receive(handlers_of("services.shipping"), Delivery(event))
    world.idle()


def entered(world: World, number: str) -> dict[str, Any]:
    (order,) = world.get(f"/v1/orders?number={number}")["items"]
    return dict(order)


def test_an_order_of_a_file_is_entered_once(bare: World) -> None:
    arrive(bare, requested(phone="+1 555 0100", note="Fragile"), times=3)
    order = entered(bare, "1042")
    assert (order["state"], order["created_by"], order["note"]) == ("New", "user:ada", "Fragile")
    assert order["recipient"]["name"] == order["address"]["name"] == "Bob Example"
    assert (order["address"]["street1"], order["address"]["phone"]) == ("1 Broadway", "+1 555 0100")
    assert [(line["sku"], line["quantity"]) for line in order["lines"]] == [("KB-1", 2)]
    assert order["parcels"] == []
    assert [event["number"] for event in bare.events("order.created")] == ["1042"]


def test_an_order_that_is_there_stays_as_it_is(bare: World) -> None:
    order = bare.order(number="1042")
    arrive(bare, requested())
    assert entered(bare, "1042") == order


def test_its_boxes_are_said_by_whoever_packs_it(world: World) -> None:
    arrive(world, requested())
    order = entered(world, "1042")
    refused = world.client().post(f"/v1/orders/{order['id']}/labels", {})
    assert (refused.status_code, refused.json and refused.json["detail"]) == (422, "The order has no parcel yet.")

    boxes = f"/v1/orders/{order['id']}/parcels"
    assert world.client("sales").post(boxes, {"parcels": [PARCEL]}).status_code == 403
    packed = world.client("fulfillment").post(boxes, {"parcels": [PARCEL, PARCEL]})
    assert packed.status_code == 200, packed.text
    assert packed.json is not None
    assert [parcel["position"] for parcel in packed.json["parcels"]] == [1, 2]
    assert world.bought(order)["status"] == "purchased"

    again = world.client().post(boxes, {"parcels": [PARCEL]})
    assert (again.status_code, again.json and again.json["code"]) == (409, "order_has_parcels")
