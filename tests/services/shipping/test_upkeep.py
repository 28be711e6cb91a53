"""The jobs that recur: they find what was left lying, mend it once, and remove what is old."""

from __future__ import annotations

import base64

from shared import blobs
from shared.outbound import vault
from tests.services.shipping.world import World


def test_a_label_without_a_job_is_bought_or_looked_for(world: World) -> None:
    never_begun, undecided = world.order(), world.order()
    for order in (never_begun, undecided):
        world.bought(order)
    world.idle()
    # As if the one had never been begun, and the other's job had been lost before it wrote anything down.
    for order, status in ((never_begun, "requested"), (undecided, "purchasing")):
        world.sql(
            "UPDATE labels SET status = :status, provider_id = NULL, updated_at = now() - interval '1 hour' "
            "WHERE order_id = CAST(:id AS uuid)",
            status=status,
            id=order["id"],
        )
    world.sql("DELETE FROM trackings")
    found = world.run("reconcile_nightly")
    assert (found["labels_never_begun"], found["labels_undecided"]) >= (1, 1)
    world.idle()
    for order in (never_begun, undecided):
        label = world.get(f"/v1/orders/{order['id']}/labels")["items"][0]
        assert label["status"] == "purchased"
    assert len(world.charges()) == 2, "both had been bought before, and were found"


def test_a_purchase_that_never_went_out_is_said_to_have_failed(world: World) -> None:
    order = world.order()
    label = world.bought(order)
    world.idle()
    world.sql("UPDATE labels SET status = 'purchasing', provider_id = NULL, updated_at = now() - interval '1 hour'")
    world.sql("DELETE FROM effects")
    world.run("reconcile_nightly")
    world.idle()
    assert world.label(label["id"])["error_code"] == "label_not_bought"
    assert len(world.charges()) == 1


def test_a_missing_file_is_fetched(world: World) -> None:
    label = world.bought(world.order())
    path = f"/v1/labels/{label['id']}"
    world.wait(lambda: world.get(path)["file_ready"])
    world.sql("UPDATE labels SET file_key = NULL, purchased_at = now() - interval '2 hours'")
    not_ready = world.client().get(f"{path}/file")
    assert (not_ready.status_code, not_ready.json["retryable"]) == (409, True)  # type: ignore[index]
    world.run("reconcile_nightly")
    world.wait(lambda: world.get(path)["file_ready"])


def test_stale_tracking_is_asked_for(world: World) -> None:
    order = world.order()
    label = world.bought(order)
    world.idle()
    world.sandbox.move("usps", label["tracking_number"], "TRANSIT")
    world.sql("UPDATE trackings SET checked_at = now() - interval '2 days'")
    assert world.run("reconcile_nightly")["tracking_stale"] >= 1
    path = f"/v1/orders/{order['id']}/tracking"
    world.wait(lambda: world.get(path)["items"][0]["status"] == "transit")


def test_a_webhook_that_was_left_lying_is_processed(world: World) -> None:
    world.sql(
        "INSERT INTO webhook_events (id, tenant_id, provider, event_key, body, received_at) VALUES "
        "(gen_random_uuid(), :tenant, 'shippo', 'k', '{\"event\": \"batch_created\", \"data\": {}}', "
        "now() - interval '1 hour')",
        tenant=world.tenant,
    )
    world.run("reconcile_nightly")
    world.wait(lambda: world.sql("SELECT state FROM webhook_events") == [("processed",)])


def test_old_files_are_removed_and_labels_stay(world: World) -> None:
    label = world.bought(world.order())
    path = f"/v1/labels/{label['id']}"
    world.wait(lambda: world.get(path)["file_ready"])
    key = world.sql("SELECT file_key FROM labels")[0][0]
    assert world.run("clean_up_label_files") == {"files": 0}
    world.sql("UPDATE labels SET purchased_at = now() - interval '91 days'")
    assert world.run("clean_up_label_files") == {"files": 1}
    assert not blobs.store().delete(key)
    assert world.client().get(f"{path}/file").status_code == 410
    assert world.label(label["id"])["status"] == "purchased"
    assert world.run("reconcile_nightly")["label_files_missing"] == 0


def test_what_comes_back_night_after_night_is_counted(world: World) -> None:
    world.bought(world.order())
    world.idle()
    world.sql("UPDATE labels SET status = 'waiting', provider_id = 'gone', updated_at = now() - interval '1 hour'")
    world.sql("UPDATE effects SET answer = jsonb_set(jsonb_set(answer, '{status}', '\"waiting\"'), '{id}', '\"gone\"')")
    for night in range(1, 4):
        world.run("reconcile_nightly")
        world.idle()
        rows = world.sql("SELECT nights FROM reconciliations WHERE name = 'labels_undecided'")
        assert rows == [(night,)]
        world.sql("UPDATE reconciliations SET last_night = last_night - 1")
    world.run("reconcile_nightly")
    alerts = world.sql("SELECT data->>'item' FROM outbox WHERE type LIKE '%.reconciliation.stuck.v1'")
    assert len(alerts) == 1, "one alert for one thing, whatever the number of nights after the third"


def test_credentials_are_sealed_with_the_newest_key(world: World) -> None:
    # Given an account that was sealed with the key of today
    old = base64.b64encode(world.app.secrets.encryption_keys[0]).decode()
    new = vault.new_key()
    before = world.sql("SELECT token_sealed FROM shippo_accounts")[0][0]
    assert world.run("reseal_secrets") == {"secrets": 0}
    try:
        # When a new key is put in front of it
        vault.configure([new, old])
        assert world.run("reseal_secrets")["secrets"] >= 2

        # Then the old one is needed no more, and labels can still be bought
        after = world.sql("SELECT token_sealed FROM shippo_accounts")[0][0]
        assert after != before
        vault.configure([new])
        assert world.bought(world.order())["status"] == "purchased"
    finally:
        vault.configure([old, new])
        world.run("reseal_secrets")
        vault.configure([old])
