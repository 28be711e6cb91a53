"""Orders over HTTP: who may do what, in which state, and that no tenant sees another."""

from __future__ import annotations

from itertools import product

import pytest

from services.shipping.models import ORDER_STATES
from services.shipping.orders import ALLOWED, BY_ROLE
from shared.web.auth import ROLES
from tests.services.shipping.world import PARCEL, World


def test_an_order_is_entered_read_and_listed(bare: World) -> None:
    answer = bare.client("sales").post("/v1/orders", bare.draft(number="A-1", note="Fragile"))
    assert answer.status_code == 201
    order = answer.json
    assert order is not None
    assert answer.headers["Location"] == f"/v1/orders/{order['id']}"
    assert (order["state"], order["number"], order["created_by"]) == ("New", "A-1", "user:ada")
    assert order["address"]["name"] == "Bob Example", "the recipient's, since no other was given"
    assert order["address"]["validation"] == "unchecked"
    assert [parcel["weight"] for parcel in order["parcels"]] == ["2"]
    assert bare.get(f"/v1/orders/{order['id']}") == order
    assert bare.get("/v1/orders")["items"] == [order]
    assert [event["number"] for event in bare.events("order.created")] == ["A-1"]


def test_a_number_is_taken_once(bare: World) -> None:
    bare.order(number="A-1")
    again = bare.client().post("/v1/orders", bare.draft(number="A-1"))
    assert again.status_code == 409
    assert again.json is not None
    assert (again.json["code"], again.json["numbers"]) == ("order_number_taken", ["A-1"])
    assert again.json["errors"][0]["pointer"] == "/number"
    other = bare.client(tenant="another-tenant").post("/v1/orders", bare.draft(number="A-1"))
    assert other.status_code in (201, 409), "numbers are unique within a tenant only"


def test_orders_in_bulk_are_all_or_none(bare: World) -> None:
    drafts = [bare.draft(number=f"B-{number}") for number in range(40)]
    answer = bare.client().post("/v1/orders/bulk", {"orders": drafts}, key="once")
    assert answer.status_code == 201, answer.text
    assert answer.json is not None
    assert [order["number"] for order in answer.json["items"]] == [draft["number"] for draft in drafts]
    assert bare.client().post("/v1/orders/bulk", {"orders": drafts}, key="once").json == answer.json
    more = [bare.draft(number="C-1"), bare.draft(number="B-7")]
    refused = bare.client().post("/v1/orders/bulk", {"orders": more})
    assert refused.status_code == 409
    assert refused.json is not None
    assert refused.json["errors"] == [{"pointer": "/orders/1/number", "detail": "The number B-7 is taken."}]
    twins = [bare.draft(number="D-1"), bare.draft(number="D-1")]
    assert bare.client().post("/v1/orders/bulk", {"orders": twins}).status_code == 409
    assert bare.client().post("/v1/orders/bulk", {"orders": [*drafts, bare.draft()]}).status_code == 400
    assert bare.sql("SELECT count(*) FROM orders")[0][0] == 40
    assert len(bare.events("order.created")) == 40


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"parcels": []}, "/parcels"),
        ({"parcels": [{**PARCEL, "weight": "0.0"}]}, "/parcels/0/weight"),
        ({"parcels": [{**PARCEL, "mass_unit": "stone"}]}, "/parcels/0/mass_unit"),
        ({"address": {"street1": "x" * 36, "country": "US"}}, "/address/street1"),
        ({"address": {"street1": "1 Broadway", "country": "usa"}}, "/address/country"),
        ({"number": "  "}, "/number"),
        ({"recipient": {"name": ""}}, "/recipient/name"),
    ],
)
def test_what_is_wrong_is_named(bare: World, changes: dict[str, object], pointer: str) -> None:
    answer = bare.client().post("/v1/orders", bare.draft(**changes))
    assert answer.status_code == 400
    assert answer.json is not None
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


def test_the_list_is_filtered_and_paged(bare: World) -> None:
    orders = [bare.order(bare.client("sales", f"user:{name}")) for name in ("ada", "bob", "ada")]
    bare.client().post(f"/v1/orders/{orders[0]['id']}/transitions", {"to": "Processing"})

    def numbers(query: str) -> list[str]:
        return [order["number"] for order in bare.get(f"/v1/orders{query}")["items"]]

    newest_first = [order["number"] for order in reversed(orders)]
    assert numbers("") == newest_first
    assert numbers("?state=Processing") == [orders[0]["number"]]
    assert numbers("?created_by=user:bob") == [orders[1]["number"]]
    assert numbers(f"?number={orders[2]['number']}") == [orders[2]["number"]]
    first = bare.get("/v1/orders?limit=2")
    rest = bare.get(f"/v1/orders?limit=2&cursor={first['next_cursor']}")
    assert [order["number"] for order in first["items"] + rest["items"]] == newest_first
    assert bare.client().get("/v1/orders?state=Lost").status_code == 400


def test_sales_sees_its_own_orders_only(bare: World) -> None:
    mine = bare.order(bare.client("sales", "user:ada"))
    theirs = bare.order(bare.client("sales", "user:bob"))
    ada = bare.client("sales", "user:ada")
    assert [order["id"] for order in ada.get("/v1/orders").json["items"]] == [mine["id"]]  # type: ignore[index]
    for path in ("", "/transitions", "/labels", "/rates", "/tracking"):
        assert ada.get(f"/v1/orders/{mine['id']}{path}").status_code == 200
        assert ada.get(f"/v1/orders/{theirs['id']}{path}").status_code == 404
    assert ada.patch(f"/v1/orders/{theirs['id']}", {"note": "mine now"}).status_code == 404
    assert ada.post(f"/v1/orders/{theirs['id']}/transitions", {"to": "Cancelled"}).status_code == 404
    assert ada.get(f"/v1/addresses/{theirs['address']['id']}").status_code == 404
    assert ada.get(f"/v1/addresses/{mine['address']['id']}").status_code == 200


def test_roles_end_where_they_end(bare: World) -> None:
    order = bare.order()
    packer, seller, manager = bare.client("fulfillment"), bare.client("sales"), bare.client("manager")
    assert packer.post("/v1/orders", bare.draft()).status_code == 403
    assert packer.post("/v1/orders/bulk", {"orders": [bare.draft()]}).status_code == 403
    assert packer.patch(f"/v1/orders/{order['id']}", {"note": "x"}).status_code == 403
    assert packer.get(f"/v1/orders/{order['id']}").status_code == 200
    for path in (f"/v1/orders/{order['id']}/labels", f"/v1/orders/{order['id']}/rates", "/v1/labels/bulk"):
        assert seller.post(path, {}).status_code == 403
    assert manager.get("/v1/connections/shippo").status_code == 403
    assert manager.put("/v1/connections/shippo", {}).status_code == 403
    assert bare.client().stranger().get("/v1/orders").status_code == 401


def test_no_tenant_reaches_another(bare: World) -> None:
    order = bare.order()
    neighbor = bare.client(tenant="neighbor")
    assert neighbor.get("/v1/orders").json["items"] == [] or all(  # type: ignore[index]
        each["id"] != order["id"]
        for each in neighbor.get("/v1/orders").json["items"]  # type: ignore[index]
    )
    for path in ("", "/transitions", "/labels", "/rates", "/tracking"):
        assert neighbor.get(f"/v1/orders/{order['id']}{path}").status_code == 404
    assert neighbor.patch(f"/v1/orders/{order['id']}", {"note": "x"}).status_code == 404
    for path in ("transitions", "labels", "rates", "tracking/refresh"):
        body = {"to": "Cancelled"} if path == "transitions" else {}
        assert neighbor.post(f"/v1/orders/{order['id']}/{path}", body).status_code in (404, 409)
    assert neighbor.post("/v1/labels/bulk", {"order_ids": [order["id"]]}).status_code in (409, 422)
    assert bare.get(f"/v1/orders/{order['id']}") == order


def test_a_change_wants_the_version_that_was_read(bare: World) -> None:
    order = bare.order()
    path = f"/v1/orders/{order['id']}"
    tag = bare.client().get(path).headers["ETag"]
    assert bare.client().get(path, headers={"If-None-Match": tag}).status_code == 304
    changed = bare.client().patch(path, {"note": "first"}, headers={"If-Match": tag})
    assert (changed.status_code, changed.json["note"]) == (200, "first")  # type: ignore[index]
    assert bare.client().patch(path, {"note": "second"}, headers={"If-Match": tag}).status_code == 412
    assert bare.client().post(f"{path}/transitions", {"to": "Processing"}, headers={"If-Match": tag}).status_code == 412
    assert bare.get(path)["note"] == "first"


@pytest.mark.parametrize(("start", "to"), list(product(ORDER_STATES, ORDER_STATES)))
def test_every_step_between_states(bare: World, start: str, to: str) -> None:
    order = bare.order()
    path = f"/v1/orders/{order['id']}"
    bare.sql("UPDATE orders SET state = :state", state=start)
    for role in ROLES:
        answer = bare.client(role).post(f"{path}/transitions", {"to": to})
        if start == to:
            assert answer.status_code == 200, "already there"
        elif to not in ALLOWED[start]:
            assert answer.status_code == 409
            assert answer.json is not None
            assert answer.json["allowed"] == sorted(ALLOWED[start])
        elif (start, to) not in BY_ROLE[role]:
            assert answer.status_code == 403
        else:
            assert answer.status_code == 200
            assert bare.get(path)["state"] == to
            bare.sql("UPDATE orders SET state = :state", state=start)


def test_steps_make_a_timeline(bare: World) -> None:
    order = bare.order()
    path = f"/v1/orders/{order['id']}/transitions"
    bare.client("fulfillment", "user:eve").post(path, {"to": "Processing"})
    bare.client("manager", "user:mia").post(path, {"to": "Cancelled", "reason": "The customer changed their mind."})
    steps = bare.get(path)["items"]
    assert [(step["from_state"], step["to_state"], step["principal"]) for step in steps] == [
        ("New", "Processing", "user:eve"),
        ("Processing", "Cancelled", "user:mia"),
    ]
    assert steps[1]["reason"] == "The customer changed their mind."
    told = bare.events("order.transitioned")
    assert [(event["from_state"], event["to_state"], event["by"]) for event in told] == [
        ("New", "Processing", "user:eve"),
        ("Processing", "Cancelled", "user:mia"),
    ]
    assert bare.client().patch(f"/v1/orders/{order['id']}", {"note": "x"}).status_code == 409


def test_addresses_are_checked_by_a_job(world: World) -> None:
    good, bad = world.order(), world.order(address={"street1": "1 Nowhere Lane", "city": "Reno", "country": "US"})
    for order in (good, bad):
        answer = world.client("sales").post(f"/v1/addresses/{order['address']['id']}/validate")
        assert answer.status_code == 202
        assert world.ended(answer.json["id"])["state"] == "succeeded"  # type: ignore[index]
    checked = world.get(f"/v1/addresses/{good['address']['id']}")
    assert (checked["validation"], checked["complete"], checked["validation_messages"]) == ("valid", True, [])
    wrong = world.get(f"/v1/orders/{bad['id']}")["address"]
    assert (wrong["validation"], wrong["complete"]) == ("invalid", False)
    assert "street was not found" in wrong["validation_messages"][0]["text"]
    assert [event["valid"] for event in world.events("address.validated")] == [True, False]
    mended = world.client().patch(
        f"/v1/orders/{bad['id']}", {"address": {"street1": "1 Main St", "city": "Reno", "country": "US"}}
    )
    assert mended.json["address"]["validation"] == "unchecked"  # type: ignore[index]


def test_many_addresses_are_checked_by_one_job(world: World) -> None:
    orders = [world.order() for _ in range(5)]
    answer = world.client().post("/v1/addresses/validate", {"order_ids": [order["id"] for order in orders]})
    assert answer.status_code == 202
    job = world.ended(answer.json["id"])  # type: ignore[index]
    assert (job["state"], job["progress"]["done"], job["progress"]["total"]) == ("succeeded", 5, 5)
    assert {order["address"]["validation"] for order in world.get("/v1/orders")["items"]} == {"valid"}
