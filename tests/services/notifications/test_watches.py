"""Watches: written in plain words, confirmed as shown, checked without a model, told once while it lasts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from services.notifications.jobs import check_watches, clean_up_watches
from services.notifications.service import service
from services.notifications.settings import settings
from services.notifications.watches.checking import LISTED, next_slot, this_slot
from shared.context import SYSTEM
from shared.db import new_id
from shared.events.contracts.notifications import WatchTriggered
from shared.events.contracts.shipping import OrderCreated, TrackingUpdated
from shared.events.contracts.workspaces import WorkspaceStateChanged
from shared.sandbox import Sandbox
from shared.testing.events import deliver
from shared.testing.service import ServiceUnderTest
from shared.web.testing import Client
from tests.services.notifications.lookout import Lookout, order

LONG = "Tell me when an order is in Processing for more than 3 days"
MANY = "Tell me when there are more than 2 new orders"


@pytest.fixture
def app(
    service_app: Callable[..., ServiceUnderTest], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServiceUnderTest]:
    monkeypatch.setenv("NOTIFICATIONS_MODEL_BASE_URL", sandbox.url)
    monkeypatch.setenv("NOTIFICATIONS_MODEL_PER_MINUTE", "6000")
    settings.cache_clear()
    yield service_app(service)
    settings.cache_clear()


@pytest.fixture
def client(app: ServiceUnderTest) -> Iterator[Client]:
    web, signer = app.app.web(), app.app.secrets.signer
    assert signer is not None
    yield Client(web, signer)
    web.extensions["backroom"].close()


@pytest.fixture
def eve(app: ServiceUnderTest, client: Client) -> Lookout:
    """A manager."""
    return Lookout(app, client)


def days(number: float) -> dict[str, datetime]:
    then = datetime.now(UTC) - timedelta(days=number)
    return {"since": then, "ordered_at": then}


# -- from words to a watch -------------------------------------------------------------------------------------


def test_a_watch_is_written_shown_confirmed_and_told_once(
    app: ServiceUnderTest, eve: Lookout, sandbox: Sandbox
) -> None:
    drafted = eve.draft(LONG)
    assert drafted.status_code == 202
    assert (drafted.json["watch"]["state"], drafted.json["watch"]["rule"]) == ("draft", None)
    assert eve.act(drafted.json["watch"]["id"], "confirm").status_code == 409, "there is nothing to confirm yet"
    job = app.run(UUID(drafted.json["job"]["id"]))
    assert (job.state, job.queue, job.subject) == ("succeeded", "models", "Understand a watch")
    shown = eve.read(drafted.json["watch"]["id"])
    assert shown["title"] == "Orders in Processing for more than 3 days"
    assert shown["meaning"] == (
        "You are told of each order in Processing for more than 3 days, once for as long as it stays so."
    )
    late = order(state="Processing", number="7", recipient_company="Example Labels", **days(4))
    order(state="Processing", number="8", **days(2))
    order(state="New", number="9", **days(9))
    assert eve.checked() == {}, "what nobody confirmed is not checked"
    confirmed = eve.act(shown["id"], "confirm")
    assert (confirmed.status_code, confirmed.json["state"]) == (200, "active")
    app.drain()
    (notice,) = eve.told()
    assert (notice.kind, notice.title, notice.text, notice.link) == (
        "watch",
        "Orders in Processing for more than 3 days",
        "Order 7 (Example Labels).",
        f"/watches/{shown['id']}",
    )
    (event,) = app.published(WatchTriggered.type)
    assert (event.data["watch_id"], event.data["member_id"], event.data["matched"]) == (
        shown["id"],
        str(eve.member_id),
        1,
    )
    assert eve.tick() == {"checked": 1, "told": 0, "skipped": 0, "errors": 0}
    assert app.query("SELECT item_id FROM watch_matches") == [(late,)]
    assert len(sandbox.model_asked()) == 1, "checks ask no model"


def test_what_the_model_is_told_is_the_sentence_and_nothing_of_the_workspace(
    app: ServiceUnderTest, eve: Lookout, sandbox: Sandbox
) -> None:
    order(recipient_company="Secret Customer")
    eve.written(LONG)
    (asked,) = sandbox.model_asked()
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert asked["messages"][1]["content"] == LONG
    assert "Secret Customer" not in json.dumps(asked)
    shape = asked["response_format"]["json_schema"]
    assert shape["strict"] is True
    assert shape["schema"]["additionalProperties"] is False


def test_ten_are_active_and_no_more_however_fast(app: ServiceUnderTest, eve: Lookout) -> None:
    drafts = [eve.written(LONG)["id"] for _ in range(14)]
    statuses = app.concurrently(14, lambda number: eve.act(drafts[number], "confirm").status_code)
    assert sorted(statuses) == [200] * 10 + [422] * 4
    active = [watch["id"] for watch in eve.client.get("/v1/watches?state=active").json["items"]]
    assert len(active) == 10
    refused = eve.act(next(draft for draft in drafts if draft not in active), "confirm")
    assert refused.json["code"] == "too_many_watches"
    assert "10 active watches" in refused.json["detail"]
    for watch in active[:4]:
        assert eve.act(watch, "pause").status_code == 200
    waiting = [draft for draft in drafts if draft not in active]
    both = [*((draft, "confirm") for draft in waiting), *((watch, "resume") for watch in active[:4])]
    statuses = app.concurrently(8, lambda number: eve.act(*both[number]).status_code)
    assert sorted(statuses) == [200] * 4 + [422] * 4
    assert app.query("SELECT count(*) FROM watches WHERE state = 'active'") == [(10,)]
    other = Lookout(app, eve.client)
    assert other.act(other.written(LONG)["id"], "confirm").status_code == 200, "each member has ten"


def test_drafts_are_limited_too(app: ServiceUnderTest, eve: Lookout) -> None:
    app.execute(
        "INSERT INTO watches (id, tenant_id, member_id, text, frequency, state) "
        "SELECT gen_random_uuid(), 'acme', :member, 'x', 60, 'draft' FROM generate_series(1, 50)",
        member=eve.member_id,
    )
    assert eve.draft(LONG).status_code == 422


def test_a_watch_is_its_members_alone(app: ServiceUnderTest, eve: Lookout, client: Client) -> None:
    watch = eve.watch(LONG)
    other = Lookout(app, client, "owner")
    assert other.client.get("/v1/watches").json["items"] == []
    for answered in (
        other.client.get(f"/v1/watches/{watch}"),
        other.act(watch, "pause"),
        other.client.delete(f"/v1/watches/{watch}"),
        eve.client.of("globex").get(f"/v1/watches/{watch}"),
    ):
        assert answered.status_code == 404
    assert client.get("/v1/watches").status_code == 403, "user:ada is no member"
    key = client.role("manager", f"key:{new_id()}")
    assert key.post("/v1/watches", {"text": LONG}).status_code == 403


def test_what_can_be_changed(app: ServiceUnderTest, eve: Lookout) -> None:
    watch = eve.watch(LONG, 1440)
    app.drain()
    path = f"/v1/watches/{watch}"
    tag = eve.client.get(path).headers["ETag"]
    changed = eve.client.patch(path, {"title": "Slow ones", "frequency": 15}, headers={"If-Match": tag})
    assert (changed.json["title"], changed.json["frequency"]) == ("Slow ones", 15)
    due = datetime.fromisoformat(changed.json["next_run_at"])
    assert timedelta(0) < due - datetime.now(UTC) <= timedelta(minutes=15)
    assert eve.client.patch(path, {"title": "x"}, headers={"If-Match": tag}).status_code == 412
    for wrong in ({"frequency": 20}, {"title": None}, {"title": ""}):
        assert eve.client.patch(path, wrong).status_code == 400
    assert eve.client.post("/v1/watches", {"text": LONG, "frequency": 45}).status_code == 400
    assert eve.act(watch, "confirm").status_code == 200, "confirming it once more changes nothing"
    assert eve.client.delete(path).status_code == 204
    assert eve.client.get(path).status_code == 404


# -- edges -----------------------------------------------------------------------------------------------------


def test_a_relapse_is_told_again(app: ServiceUnderTest, eve: Lookout) -> None:
    late = order(state="Processing", **days(4))
    eve.watch(LONG)
    app.drain()
    app.execute("UPDATE orders SET state = 'Shipped' WHERE id = :id", id=late)
    assert eve.tick()["told"] == 0
    assert app.query("SELECT count(*) FROM watch_matches") == [(0,)]
    app.execute("UPDATE orders SET state = 'Processing', since = now() WHERE id = :id", id=late)
    assert eve.tick()["told"] == 0
    assert eve.tick(3 * 1440)["told"] == 1
    assert len(eve.told()) == 2


def test_a_notice_lists_twenty_at_most(app: ServiceUnderTest, eve: Lookout) -> None:
    for number in range(25):
        order(state="Processing", number=str(number), **days(30 - number / 100))
    eve.watch(LONG)
    app.drain()
    (notice,) = eve.told()
    assert notice.text.startswith("Orders 0, 1, 2") or notice.text.startswith("Orders 0 (Processing), 1")
    assert notice.text.count("(") == LISTED
    assert notice.text.endswith("and 5 more.")
    assert app.published(WatchTriggered.type)[0].data["matched"] == 25


def test_a_number_is_told_when_it_is_reached_and_again_only_after_it_was_not(
    app: ServiceUnderTest, eve: Lookout
) -> None:
    eve.watch(MANY)
    orders = [order() for _ in range(3)]
    app.drain()
    assert [notice.text for notice in eve.told()] == ["There are 3 of them now."]
    assert eve.told()[0].title == "More than 2 orders in New"
    order()
    assert eve.tick()["told"] == 0, "it still holds"
    app.execute("UPDATE orders SET state = 'Processing' WHERE id = ANY(:ids)", ids=orders)
    assert eve.tick()["told"] == 0
    for _ in range(2):
        order()
    assert eve.tick()["told"] == 1
    assert len(eve.told()) == 2


# -- with whose eyes -------------------------------------------------------------------------------------------


def test_sales_is_told_of_its_own_orders_alone_by_its_role_now(app: ServiceUnderTest, client: Client) -> None:
    seller = Lookout(app, client, "sales")
    order(state="Processing", number="mine", created_by=seller.principal, **days(4))
    order(state="Processing", number="theirs", **days(4))
    seller.watch(LONG)
    seller.watch("more than 0 orders in Processing")
    app.drain()
    assert sorted(notice.text for notice in seller.told()) == ["Order mine (Processing).", "There are 1 of them now."]
    app.execute("UPDATE members SET role = 'manager' WHERE id = :id", id=seller.member_id)
    assert seller.tick()["told"] == 1
    assert seller.told()[-1].text == "Order theirs (Processing)."
    app.execute("UPDATE members SET role = 'sales' WHERE id = :id", id=seller.member_id)
    assert seller.tick()["told"] == 0
    assert app.query("SELECT count(*) FROM watch_matches") == [(1,)]


def test_another_tenants_orders_are_none(app: ServiceUnderTest, eve: Lookout) -> None:
    order(tenant_id="globex", state="Processing", **days(9))
    eve.watch(LONG)
    app.drain()
    assert eve.told() == []


@pytest.mark.parametrize("status", ["disabled", "invited"])
def test_a_member_who_is_not_active_is_passed_over(app: ServiceUnderTest, eve: Lookout, status: str) -> None:
    order(state="Processing", **days(4))
    eve.watch(LONG)
    app.execute("UPDATE members SET status = :status", status=status)
    assert eve.checked()["skipped"] == 1
    assert eve.checked() == {"checked": 0, "told": 0, "skipped": 1, "errors": 0}, "its turn is over"
    app.execute("UPDATE members SET status = 'active'")
    assert eve.tick()["told"] == 1


def test_a_workspace_that_is_frozen_is_passed_over_without_a_burst_after(app: ServiceUnderTest, eve: Lookout) -> None:
    order(state="Processing", **days(4))
    eve.watch(LONG)
    frozen = WorkspaceStateChanged.example()
    deliver(app, frozen, sequence=1)
    app.drain(queues=["handlers"])
    before = len(app.jobs(actor="check_watches_of_workspace"))
    app.run_job(check_watches, tenant_id=SYSTEM)
    assert len(app.jobs(actor="check_watches_of_workspace")) == before
    app.drain()
    assert eve.told() == []
    deliver(app, frozen.model_copy(update={"state": "active", "previous": "frozen"}), sequence=2)
    app.drain(queues=["handlers"])
    assert eve.tick(7 * 1440) == {"checked": 0, "told": 1, "skipped": 0, "errors": 0}


# -- when ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequency", [15, 30, 60, 1440])
def test_slots_that_were_missed_are_skipped(frequency: int) -> None:
    slot = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    period = timedelta(minutes=frequency)
    for late in (
        timedelta(0),
        timedelta(seconds=1),
        period - timedelta(seconds=1),
        period,
        period * 7.5,
        period * 1000,
    ):
        following = next_slot(slot, frequency, slot + late)
        assert (following - slot) % period == timedelta(0), "slots stay where they are"
        assert slot + late < following <= slot + late + period
    assert this_slot(slot + timedelta(minutes=29, seconds=59)) == slot + timedelta(minutes=15)


def test_each_is_checked_as_often_as_it_wants(app: ServiceUnderTest, eve: Lookout) -> None:
    for frequency in (15, 30, 60):
        eve.watch(LONG, frequency)
    app.drain()
    checked = [eve.tick()["checked"] for _ in range(4)]
    assert sum(checked) == 4 + 2 + 1


def test_two_at_once_check_a_watch_once(app: ServiceUnderTest, eve: Lookout) -> None:
    from services.notifications.jobs.watches import _checked

    order(state="Processing", **days(4))
    watch = UUID(eve.watch(LONG))
    outcomes = app.concurrently(6, lambda _: app.outside(lambda: _checked(watch)))
    assert sorted(outcomes) == ["skipped"] * 5 + ["told"]
    assert len(eve.told()) == 1


# -- errors ----------------------------------------------------------------------------------------------------


def test_three_errors_in_a_row_pause_it_and_its_member_is_told(app: ServiceUnderTest, eve: Lookout) -> None:
    order(state="Processing", **days(4))
    good, bad = eve.watch(LONG, 15), eve.watch(MANY, 15)
    app.execute("""UPDATE watches SET rule = '{"entity": "sample"}' WHERE id = :id""", id=bad)
    app.drain()
    assert len(eve.told()) == 1, "what goes wrong with one stops no other"
    app.execute("UPDATE watches SET errors = 0 WHERE id = :id", id=bad)
    for number in range(1, 3):
        assert eve.tick()["errors"] == 1
        assert app.query("SELECT errors, state FROM watches WHERE id = :id", id=bad) == [(number, "active")]
    assert eve.tick()["errors"] == 1
    assert app.query("SELECT state, paused_reason FROM watches WHERE id = :id", id=bad) == [("paused", "errors")]
    assert eve.told()[-1].title == "Your watch is paused: More than 2 orders in New"
    assert eve.tick() == {"checked": 1, "told": 0, "skipped": 0, "errors": 0}
    assert eve.read(good)["state"] == "active"


def test_errors_that_are_not_in_a_row_pause_nothing(app: ServiceUnderTest, eve: Lookout) -> None:
    watch = eve.watch(LONG)
    app.drain()
    (rule,) = app.query("SELECT rule FROM watches")
    for _ in range(3):
        for _ in range(2):
            app.execute("UPDATE watches SET rule = '{}'")
            assert eve.tick()["errors"] == 1
        app.execute("UPDATE watches SET rule = CAST(:rule AS jsonb)", rule=json.dumps(rule.rule))
        assert eve.tick()["errors"] == 0
    assert eve.read(watch)["state"] == "active"


def test_a_check_that_fails_after_it_told_has_told_nothing(app: ServiceUnderTest, eve: Lookout) -> None:
    """The event cannot be written, so that neither the notice nor what was told of stays."""
    order(state="Processing", **days(4))
    eve.watch(LONG)
    with psycopg.connect(app.database_url, autocommit=True) as outbox_owner:
        outbox_owner.execute("ALTER TABLE outbox ADD CONSTRAINT broken CHECK (type NOT LIKE '%watch.triggered%')")
    app.drain()
    assert eve.told() == []
    assert app.query("SELECT count(*) FROM watch_matches") == [(0,)]
    with psycopg.connect(app.database_url, autocommit=True) as outbox_owner:
        outbox_owner.execute("ALTER TABLE outbox DROP CONSTRAINT broken")
    assert eve.tick()["told"] == 1
    assert len(eve.told()) == 1


# -- keeping house, and what is known of orders ----------------------------------------------------------------


def test_drafts_that_nobody_confirmed_and_what_deleted_ones_told_are_removed(
    app: ServiceUnderTest, eve: Lookout
) -> None:
    order(state="Processing", **days(4))
    watch = eve.watch(LONG)
    app.drain()
    eve.written(LONG)
    eve.client.delete(f"/v1/watches/{watch}")
    app.execute("UPDATE watches SET created_at = created_at - interval '6 days'")
    assert app.run_job(clean_up_watches, tenant_id=SYSTEM).result == {"watches": 0, "matches": 1}
    app.execute("UPDATE watches SET created_at = created_at - interval '2 days'")
    assert app.run_job(clean_up_watches, tenant_id=SYSTEM).result == {"watches": 1, "matches": 0}


def test_what_the_carrier_says_can_be_watched(app: ServiceUnderTest, eve: Lookout) -> None:
    created, scan = OrderCreated.example(), TrackingUpdated.example()
    deliver(app, created, sequence=1)
    app.drain()
    eve.watch("tell me when the parcel of an order is returned")
    app.drain()

    def said(status: str, day: int) -> None:
        moment = datetime(2026, 3, day, tzinfo=UTC)
        deliver(app, scan.model_copy(update={"status": status, "status_date": moment}))
        app.drain()

    said("returned", 5)
    said("transit", 4)  # an older scan that comes late
    assert eve.tick()["told"] == 1
    assert eve.told()[-1].title == "Orders whose parcel is coming back"
    assert eve.told()[-1].text == "Order 1042 (Example Labels)."


def test_what_watches_know_is_kept_from_other_tenants_by_the_database(app: ServiceUnderTest, eve: Lookout) -> None:
    order(state="Processing", **days(4))
    eve.watch(LONG)
    app.drain()
    tables: list[Any] = ["watches", "watch_matches", "model_connections", "webhook_endpoints", "webhook_deliveries"]
    protected = app.query(
        "SELECT relname FROM pg_class WHERE relrowsecurity AND relname = ANY(:tables) ORDER BY relname", tables=tables
    )
    assert [row.relname for row in protected] == sorted(tables)
    with app.database.connect() as connection:
        for tenant, expected in (("globex", 0), ("acme", 1)):
            connection.execute("SELECT set_config('backroom.tenant', %s, false)", (tenant,))
            for table in ("watches", "watch_matches"):
                found = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
                assert found == (expected,)
