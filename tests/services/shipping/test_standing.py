"""A workspace of which the subscription ended: nothing is bought for it, what was begun waits, and its access goes."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from shared import blobs
from shared.testing.events import deliver
from tests.jobs.test_standing import changed
from tests.services.shipping.test_bulk import buy_all
from tests.services.shipping.world import World


def tell(world: World, state: str, sequence: int) -> None:
    """Have shipping told what the workspace may do, and wait until it knows."""
    here = SimpleNamespace(tenant_id=world.tenant, database=world.app.database, app=world.app)
    deliver(cast(Any, here), changed(state), sequence=sequence)
    world.wait(lambda: world.sql("SELECT FROM standings WHERE sequence = :sequence", sequence=sequence))


def test_a_purchase_that_was_begun_waits_for_reactivation(world: World) -> None:
    """Suspended in the middle of twelve labels: the rest is bought afterwards, and each of them once."""
    orders = [world.order() for _ in range(12)]
    world.sandbox.faults.add("latency", method="POST", path="/shipments", seconds=0.5)
    parent = buy_all(world, [order["id"] for order in orders])
    world.wait(world.charges)

    tell(world, "suspended", 1)
    world.wait(lambda: not world.sql("SELECT FROM jobs WHERE state IN ('queued', 'running')"))

    bought = len(world.charges())
    assert 0 < bought < 12
    waiting = world.sql("SELECT id FROM jobs WHERE state = 'scheduled' AND actor = 'buy_order_label'")
    assert len(waiting) >= 12 - bought
    why = world.get(f"/v1/jobs/{waiting[0][0]}/why")
    assert (why["reason"], why["until"]) == ("workspace_suspended", None)
    world.wait(
        lambda: world.client("fulfillment").get("/v1/orders").status_code == 403  # and nobody but the owner looks
    )
    assert len(world.charges()) == bought

    tell(world, "active", 2)

    job = world.ended(parent["id"], timeout=60)
    assert job["result"] == {"total": 12, "succeeded": 12, "failed": 0, "cancelled": 0}
    assert len(world.charges()) == 12


@pytest.mark.parametrize("state", ["frozen", "suspended"])
def test_nothing_is_bought_by_the_gate_alone(world: World, state: str) -> None:
    order = world.order()
    tell(world, state, 1)
    fulfillment = world.client("fulfillment")
    path = f"/v1/orders/{order['id']}/labels"
    answer = world.wait(lambda: (found := fulfillment.post(path, {})).status_code == 403 and found)
    assert answer.json is not None
    assert answer.json["code"] == f"workspace_{state}"
    assert "reactivate" in answer.json["detail"]
    assert world.get(f"/v1/orders/{order['id']}")["number"] == order["number"]
    assert world.charges() == []


def test_an_archived_workspace_is_exported_and_its_access_destroyed(bare: World) -> None:
    """Its data is in files without secrets, its account opens nothing, and Shippo's webhooks are still taken."""
    world = bare
    url = urlsplit(world.connect()["webhook_url"])
    order = world.order()
    label = world.bought(order)
    tell(world, "archived", 9)
    (job,) = world.wait(lambda: world.sql("SELECT result FROM jobs WHERE actor = 'archive_workspace' AND state = "
                                          "'succeeded'"))  # fmt: skip
    assert job.result["credentials"] == 1

    kept = world.sql("SELECT token_sealed, webhook_token_sealed, hmac_secret_sealed, status FROM shippo_accounts")
    assert [tuple(row) for row in kept] == [("", "", None, "needs_reauthorization")]
    folder = f"archives/{world.tenant}/shipping"
    orders = gzip.decompress(b"".join(blobs.store().get(f"{folder}/orders.jsonl.gz")))
    assert json.loads(orders)["id"] == order["id"]
    account = json.loads(gzip.decompress(b"".join(blobs.store().get(f"{folder}/shippo_accounts.jsonl.gz"))))
    assert account["sender"]["name"] == "Ada Example"
    assert not [name for name in account if name.endswith(("_sealed", "_hash"))]

    update = {"carrier": label["carrier"], "tracking_number": label["tracking_number"], "tracking_history": []}
    answer = world.client().stranger().post(f"{url.path}?{url.query}", {"event": "track_updated", "data": update})
    assert answer.status_code == 200
    assert world.run("reseal_secrets") == {"secrets": 0}
    assert world.client().get("/v1/orders").json["code"] == "workspace_archived"  # type: ignore[index]
