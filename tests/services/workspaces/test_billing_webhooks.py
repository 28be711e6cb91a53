"""Paddle's webhooks: only genuine ones count, each once, in whatever order they come."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest

from services.workspaces.settings import settings
from shared.web.serve import serve
from tests.services.workspaces.shop import SECRET, SELLER, Shop, new_event_id, signed


def event(shop: Shop) -> dict[str, Any]:
    """A webhook that nobody has delivered yet."""
    shop.subscribe()
    return shop.told()[0]


def stored(shop: Shop) -> int:
    return int(shop.service.query("SELECT count(*) FROM webhook_events")[0][0])


# -- is it genuine? ------------------------------------------------------------------------------------------------


def test_a_genuine_one_is_stored_and_answered_and_done_later(shop: Shop) -> None:
    body = event(shop)
    assert shop.post(body) == 200
    (row,) = shop.service.query("SELECT * FROM webhook_events")
    assert (row.tenant_id, row.provider, row.event_key, row.state) == ("acme", "paddle", body["event_id"], "received")
    assert shop.service.query("SELECT 1 FROM subscriptions") == []
    shop.service.drain()
    (row,) = shop.service.query("SELECT * FROM webhook_events")
    assert (row.state, row.outcome) == ("processed", "unchanged")


def test_a_repetition_is_answered_and_done_once(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.deliver()
    shop.change(bought, status="canceled")
    told = shop.told()
    for _ in range(3):
        for body in told:
            assert shop.post(body) == 200
        shop.service.drain()
    assert shop.states() == ["canceled"]
    assert len(shop.service.jobs(actor="process_webhook")) == stored(shop) == 4


@pytest.mark.parametrize("seconds", [-301, 301, -86400, 86400])
def test_one_of_another_time_is_refused(shop: Shop, seconds: int) -> None:
    assert shop.post(event(shop), at=time.time() + seconds) == 401
    assert stored(shop) == 0


def test_one_of_a_moment_ago_is_not(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shop.post(event(shop), at=time.time() - 240) == 200
    monkeypatch.setenv("WORKSPACES_PADDLE_TOLERANCE_SECONDS", "5")
    settings.cache_clear()
    assert shop.post(event(shop), at=time.time() - 240) == 401


def test_one_that_was_signed_by_somebody_else_is_refused(shop: Shop) -> None:
    assert shop.post(event(shop), secret="pdl_ntfset_other") == 401
    assert shop.post(event(shop), secret="") == 401


def test_one_that_was_changed_on_the_way_is_refused(shop: Shop) -> None:
    body = json.dumps(event(shop)).encode()
    stranger = shop.client.stranger()
    headers = {"Content-Type": "application/json", **signed(body)}
    for other in (body + b" ", body.replace(b"acme", b"acmf"), b""):
        assert stranger.post("/v1/webhooks/paddle", other, headers=headers).status_code == 401
    assert stranger.post("/v1/webhooks/paddle", body, headers={"Content-Type": "application/json"}).status_code == 401
    assert stored(shop) == 0


def test_without_a_secret_of_ours_nobody_is_believed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKSPACES_PADDLE_WEBHOOK_SECRET")
    settings.cache_clear()
    body = event(shop)
    assert shop.post(body) == shop.post(body, secret="") == 401


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"not json",
        b'{"event_id": "evt_1"}',
        b'{"event_id": "1", "event_type": "x", "occurred_at": "2026-01-01T00:00:00Z", "data": {}}',
        b'{"event_id": "evt_1", "event_type": "subscription.created", "occurred_at": "yesterday", "data": {}}',
        b'{"event_id": "evt_1", "event_type": "subscription.x", "occurred_at": "2026-01-01T00:00:00Z", "data": {}}',
    ],
    ids=range(7),
)
def test_what_is_signed_and_no_webhook_is_refused(shop: Shop, body: bytes) -> None:
    assert shop.post(body) == 400


# -- whose is it? --------------------------------------------------------------------------------------------------


def test_one_about_something_else_is_answered_and_left(shop: Shop) -> None:
    about = {"event_id": new_event_id(), "event_type": "transaction.completed", "occurred_at": "2026-01-01T00:00:00Z"}
    assert shop.post({**about, "data": {"id": "txn_1"}}) == 200
    assert stored(shop) == 0


@pytest.mark.parametrize("workspace", ["globex", "system", "", "a b", None, 5, {"x": 1}, "x" * 200, "\x00"], ids=repr)
def test_one_of_no_workspace_is_answered_and_left(shop: Shop, workspace: Any) -> None:
    body = event(shop)
    body["data"]["custom_data"] = {"workspace": workspace}
    assert shop.post(body) == 200
    assert stored(shop) == 0


def test_one_without_a_word_about_the_workspace_is_known_by_its_subscription(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.deliver()
    shop.change(bought, status="canceled")
    for body in shop.told():
        body["data"]["custom_data"] = None
        assert shop.post(body) == 200
    shop.service.drain()
    assert shop.state == "canceled"


def test_whose_a_subscription_is_cannot_be_changed_from_outside(shop: Shop) -> None:
    shop.open("globex")
    bought = shop.subscribe("acme")
    shop.deliver()
    shop.change(bought, status="canceled")
    for body in shop.told():
        body["data"]["custom_data"] = {"workspace": "globex"}
        shop.post(body)
    shop.service.drain()
    assert (shop.state, shop.workspace("globex").state) == ("canceled", "active")


def test_who_buys_for_a_workspace_that_is_not_his_takes_nothing_from_it(shop: Shop) -> None:
    shop.subscribe(plan="team")
    shop.deliver()
    foreign = shop.subscribe(plan="starter", customer_id="ctm_mallory")
    shop.deliver()
    assert shop.workspace().plan == "team"
    shop.change(foreign, status="canceled")
    shop.deliver()
    assert shop.state == "active"


# -- what does it mean? --------------------------------------------------------------------------------------------


def test_the_order_in_which_they_come_is_all_the_same(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="past_due")
    shop.change(bought, status="canceled")
    told = shop.told()
    latest = [told[0], told[3], told[5]]
    for number, order in enumerate(permutations(latest)):
        tenant = f"t{number}"
        shop.open(tenant)
        for body in order:
            named = {**body, "event_id": new_event_id()}
            named["data"] = {**body["data"], "id": f"sub_{tenant}", "custom_data": {"workspace": tenant}}
            assert shop.post(named) == 200
        shop.service.drain()
        assert shop.states(tenant) == ["canceled"], number
    (day,) = {row[0] for row in shop.service.query("SELECT canceled_at FROM cancellations")}
    assert day.isoformat().replace("+00:00", "Z") == told[-1]["data"]["canceled_at"]


def test_the_end_of_the_old_one_that_is_told_after_the_beginning_of_the_new_ends_nothing(shop: Shop) -> None:
    old = shop.subscribe()
    shop.deliver()
    shop.change(old, status="canceled")
    late = shop.told()
    shop.subscribe()
    shop.deliver()
    for body in late:
        shop.post(body)
    shop.service.drain()
    assert (shop.state, shop.states()) == ("active", [])


def test_two_that_paddle_dates_alike_end_with_the_end(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    created, *_, canceled = shop.told()
    moment = canceled["occurred_at"]
    for body in (created, canceled, {**created, "event_id": new_event_id()}):
        shop.post({**body, "occurred_at": moment})
        shop.service.drain()
    assert shop.states() == ["canceled"]


def test_a_pause_and_a_missed_payment_are_no_end(shop: Shop) -> None:
    bought = shop.subscribe()
    for status in ("past_due", "active", "paused", "active", "trialing"):
        shop.change(bought, status=status)
        shop.deliver()
        assert (shop.state, shop.subscription()["status"]) == ("active", status)
    assert shop.states() == []


def test_a_cancellation_that_is_taken_back_before_its_day_never_was_one(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, scheduled_change={"action": "cancel", "effective_at": "2040-03-05T00:00:00Z"})
    shop.deliver()
    assert shop.subscription()["ends_at"] == "2040-03-05T00:00:00Z"
    shop.change(bought, scheduled_change=None)
    shop.deliver()
    assert shop.subscription()["ends_at"] is None
    assert shop.states() == []


def test_another_plan_is_told_with_its_limits(shop: Shop) -> None:
    bought = shop.subscribe(plan="starter")
    shop.deliver()
    shop.change(bought, plan="business")
    shop.deliver()
    shop.change(bought, plan="golden")  # none of ours
    shop.deliver()
    assert shop.workspace().plan == "business"
    (row,) = shop.service.query("SELECT data, sequence FROM outbox WHERE type LIKE '%plan.changed.v1'")
    assert (row.data["plan"], row.sequence) == ("business", shop.workspace().version)
    assert set(row.data["limits"]) == {"members", "samples"}


def test_one_that_was_stored_and_cannot_be_read_any_more_is_put_before_a_person(shop: Shop) -> None:
    shop.post(event(shop))
    shop.service.execute("UPDATE webhook_events SET body = '{}'")
    shop.service.drain()
    assert shop.failures() == ["billing_unreadable"]
    assert shop.service.query("SELECT state FROM webhook_events") == [("failed",)]


# -- over the wire -------------------------------------------------------------------------------------------------


@pytest.fixture
def url(shop: Shop) -> Iterator[str]:
    server = serve(shop.web, "127.0.0.1", 0, threads=4)
    yield f"{server.url}/v1/webhooks/paddle"
    server.stop()


def test_as_paddle_sends_them_while_its_secret_is_changed(shop: Shop, url: str) -> None:
    shop.sandbox.paddle_destination(SELLER, url, ["pdl_ntfset_next", SECRET])
    shop.sandbox.faults.add("webhook_duplicate", method="WEBHOOK", copies=2)
    bought = shop.subscribe(plan="team")
    shop.change(bought, status="canceled")
    # Two of a checkout, two of a change, each twice.
    shop.sandbox.wait(lambda: len(shop.sandbox.webhooks()) == 8)
    assert {delivery["status"] for delivery in shop.sandbox.webhooks()} == {200}
    shop.service.drain()
    assert (shop.state, shop.states(), stored(shop)) == ("canceled", ["canceled"], 4)


def test_a_forged_one_over_the_wire_is_refused(shop: Shop, url: str) -> None:
    shop.sandbox.paddle_destination(SELLER, url, SECRET)
    shop.sandbox.faults.add("webhook_forged", method="WEBHOOK")
    shop.subscribe()
    shop.sandbox.wait(lambda: len(shop.sandbox.webhooks()) == 2)
    assert {delivery["status"] for delivery in shop.sandbox.webhooks()} == {401}
    assert stored(shop) == 0
