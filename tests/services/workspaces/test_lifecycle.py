"""A cancellation walks through its steps: each once, in order, never while somebody pays."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.workspaces.jobs import advance_cancellation, advance_cancellations, check_billing, restore_workspace
from shared.context import SYSTEM
from tests.services.workspaces.shop import DAYS, STEPS, Shop, now


def test_ninety_days(shop: Shop) -> None:
    # Given a workspace whose subscription has ended
    bought = shop.subscribe(plan="team")
    shop.deliver()
    assert (shop.state, shop.workspace().plan) == ("active", "team")
    shop.change(bought, status="canceled")
    shop.deliver()
    assert shop.state == "canceled"

    # When an hour before and an hour after each step the clock strikes
    seen = []
    for step, day in DAYS.items():
        shop.tick(shop.day(day) - timedelta(hours=1))
        before = len(shop.steps())
        shop.tick(shop.day(day) + timedelta(minutes=59))
        shop.tick(shop.day(day) + timedelta(minutes=59))
        assert shop.steps()[before:] == [(step, "done")]
        seen.append(shop.state)

    # Then each has come once, and everybody was told
    assert seen == ["canceled", "canceled", "frozen", "suspended", "archived"]
    assert shop.states() == ["canceled", "frozen", "suspended", "archived"]
    assert shop.mails() == ["winback_1", "winback_2"]
    for _ in range(3):
        shop.tick(shop.day(400))
    assert shop.steps() == [(step, "done") for step in STEPS]
    assert shop.failures() == []
    asked = shop.sandbox.count("GET /subscriptions", outcome="200")
    assert asked == 3, "Paddle is asked before each step that takes something away, and at no other time"


def test_what_the_owner_is_told(shop: Shop) -> None:
    assert shop.subscription()["status"] is None
    bought = shop.subscribe(plan="team")
    shop.deliver()
    assert shop.subscription()["cancellation"] is None
    shop.change(bought, scheduled_change={"action": "cancel", "effective_at": "2040-03-05T00:00:00Z"})
    shop.deliver()
    view = shop.subscription()
    assert (view["state"], view["status"], view["ends_at"]) == ("active", "active", "2040-03-05T00:00:00Z")
    assert "until 5 March 2040" in view["text"]

    shop.change(bought, status="canceled")
    shop.deliver()
    shop.tick(shop.day(3))
    view = shop.subscription()
    cancellation = view["cancellation"]
    assert [step["outcome"] for step in cancellation["steps"]] == ["done", *["upcoming"] * 4]
    assert (view["state"], view["plan"], view["ends_at"]) == ("canceled", "team", None)
    assert cancellation["next"]["step"] == "winback_2"
    day = shop.day(7)
    assert f"Next, on {day.day} {day:%B %Y}: we ask you by mail once more." in view["text"]
    for role in ("manager", "sales", "fulfillment"):
        assert shop.client.role(role).get("/v1/subscription").status_code == 403
    assert shop.client.of("globex").get("/v1/subscription").status_code == 404


@pytest.mark.parametrize("after", [None, *STEPS[:-1]])
def test_who_pays_again_has_everything_back(shop: Shop, after: str | None) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    reached = STEPS[: STEPS.index(after) + 1] if after else ()
    for step in reached:
        shop.tick(shop.day(DAYS[step]))
    shop.subscribe()
    shop.deliver()
    assert shop.state == "active"
    assert shop.steps() == [(step, "done" if step in reached else "cancelled") for step in STEPS]
    (event,) = shop.service.query("SELECT data FROM outbox WHERE data->>'reason' = 'reactivated'")
    assert event.data["state"] == "active"
    for day in (3, 7, 14, 30, 90, 91):
        shop.tick(shop.day(day))
    assert shop.state == "active"
    assert len(shop.steps()) == 5
    view = shop.subscription()["cancellation"]
    assert view["reactivated_at"] is not None
    assert view["next"] is None


def test_a_second_cancellation_begins_anew(shop: Shop) -> None:
    for _ in range(2):
        bought = shop.subscribe()
        shop.deliver()
        assert shop.state == "active"
        shop.change(bought, status="canceled")
        shop.deliver()
        shop.tick(shop.day(3))
    rows = shop.service.query("SELECT cancellation_id, step, outcome FROM cancellation_steps ORDER BY id")
    assert len({row.cancellation_id for row in rows}) == 2
    assert [row.step for row in rows if row.outcome == "done"] == ["winback_1", "winback_1"]
    assert shop.mails() == ["winback_1", "winback_1"]


def test_a_payment_of_which_no_webhook_told_is_found_in_time(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    shop.subscribe(status="trialing")
    shop.told()  # lost
    shop.tick(shop.day(14))
    assert shop.state == "active"
    assert shop.steps() == [
        ("winback_1", "skipped_stale"),
        ("winback_2", "skipped_stale"),
        ("freeze", "cancelled"),
        ("suspend", "cancelled"),
        ("archive", "cancelled"),
    ]


def test_one_that_is_alive_again_against_all_custom_is_believed(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    shop.change(bought, status="active")
    shop.told()  # lost
    shop.tick(shop.day(14))
    assert shop.state == "active"


def test_nothing_is_taken_away_while_paddle_does_not_answer(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    shop.sandbox.faults.add("status", path="/subscriptions", status=503)
    shop.tick(shop.day(14))
    shop.tick(shop.day(15))
    assert shop.state == "canceled"
    # The mails have their time; who has not paid is asked for.
    assert [step for step, _ in shop.steps()] == ["winback_1", "winback_2"]
    assert set(shop.failures()) == {"provider_unavailable"}
    shop.sandbox.faults.clear()
    shop.service.advance(3600)
    shop.tick(shop.day(16))
    assert shop.state == "frozen"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "garbage_json"}, "provider_unavailable"),
        ({"kind": "status", "status": 200, "body": {"data": [{"id": "sub_1"}]}}, "subscription_unreadable"),
        ({"kind": "status", "status": 401}, "provider_not_authorized"),
        ({"kind": "status", "status": 403}, "provider_refused"),
        (
            {"kind": "status", "status": 200, "body": {"data": [], "meta": {"pagination": {"has_more": False}}}},
            "subscription_unknown",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_paddle_may_say_instead(shop: Shop, fault: dict[str, object], code: str) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    shop.sandbox.faults.add(path="/subscriptions", **fault)  # type: ignore[arg-type]
    shop.tick(shop.day(14))
    assert (shop.state, shop.failures()) == ("canceled", [code])
    shop.sandbox.faults.clear()
    shop.tick(shop.day(14))
    assert shop.state == "frozen"


def test_after_an_outage_what_was_missed_comes_in_order_and_mails_do_not(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    end = shop.day(120)
    shop.tick(end)
    assert shop.state == "frozen", "one step that changes the state per run"
    shop.tick(end)
    assert shop.state == "suspended"
    shop.tick(end + timedelta(hours=1))
    assert shop.state == "suspended", "a tick lies between"
    shop.tick(end + timedelta(hours=2))
    assert shop.state == "archived"
    assert shop.steps()[:2] == [("winback_1", "skipped_stale"), ("winback_2", "skipped_stale")]
    assert shop.mails() == []


@pytest.mark.parametrize(
    ("late", "outcome"), [(timedelta(days=3), "done"), (timedelta(days=3, seconds=1), "skipped_stale")]
)
def test_how_late_a_mail_may_be(shop: Shop, late: timedelta, outcome: str) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    shop.tick(shop.day(3) + late)
    assert shop.steps() == [("winback_1", outcome)]
    assert len(shop.mails()) == (outcome == "done")


def test_nobody_is_asked_back_where_there_is_no_owner(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    shop.service.execute("DELETE FROM members")
    shop.tick(shop.day(3))
    assert (shop.steps(), shop.mails()) == ([("winback_1", "skipped_no_owner")], [])


def test_a_clock_that_goes_back_undoes_nothing(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    for day in (14, 3, -5, 14, 13):
        shop.tick(shop.day(day))
    assert shop.state == "frozen"
    assert [step for step, _ in shop.steps()] == list(STEPS[:3])


def test_two_ticks_at_once_take_one_step(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    day = shop.day(3)
    for _ in range(3):
        shop.service.send(advance_cancellations, tenant_id=SYSTEM, as_of=day)
    assert len(shop.service.jobs(actor="advance_cancellations")) == 1
    shop.service.drain()
    (cancellation,) = shop.service.query("SELECT id FROM cancellations")
    shop.service.run_job(advance_cancellation, cancellation_id=cancellation.id, as_of=day)
    assert shop.mails() == ["winback_1"]


def test_who_pays_between_paddles_word_and_the_step_keeps_everything(shop: Shop) -> None:
    """The webhook is processed while the job waits for the answer that nobody pays."""
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    shop.tick(shop.day(7))
    shop.sandbox.faults.add("latency", path="/subscriptions", seconds=60)
    (cancellation,) = shop.service.query("SELECT id FROM cancellations")
    job = shop.service.send(advance_cancellation, cancellation_id=cancellation.id, as_of=shop.day(14))

    def pay() -> None:
        shop.sandbox.wait(lambda: shop.sandbox.calls()["hanging"])
        paid = shop.subscribe()
        for event in shop.told():
            shop.post(event)
        for row in shop.service.jobs(actor="process_webhook", state="scheduled"):
            shop.service.run(row.id)
        # And is gone again before Paddle's answer is made.
        shop.sandbox.call("PATCH", f"/paddle/seller/subscriptions/{paid}", {"status": "canceled"})
        shop.told()
        shop.sandbox.release()

    shop.service.concurrently(2, lambda number: shop.service.run(job) if number == 0 else pay())
    assert shop.service.job(job).state == "succeeded"
    assert shop.states()[:2] == ["canceled", "active"]
    assert "frozen" not in shop.states()


def test_the_end_of_a_period_that_no_webhook_told_of_is_found_at_night(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, scheduled_change={"action": "cancel", "effective_at": "2026-01-01T00:00:00Z"})
    shop.deliver()
    shop.change(bought, status="canceled")
    shop.told()  # lost
    shop.service.run_job(shop.service.app.actors["reconcile_nightly"], tenant_id=SYSTEM)
    shop.service.drain()
    assert shop.state == "canceled"


def test_asking_about_a_workspace_that_never_paid_is_no_work(shop: Shop) -> None:
    assert shop.service.run_job(check_billing).outcome == "skipped"
    assert shop.sandbox.count("GET /subscriptions") == 0


def test_without_access_to_paddle_nothing_is_taken_away(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.workspaces.settings import settings

    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    monkeypatch.delenv("WORKSPACES_PADDLE_API_KEY")
    settings.cache_clear()
    shop.tick(shop.day(14))
    assert (shop.state, shop.failures()) == ("canceled", ["billing_not_configured"])


class TestArchived:
    @pytest.fixture
    def archived(self, shop: Shop) -> Shop:
        bought = shop.subscribe()
        shop.change(bought, status="canceled")
        shop.deliver()
        for day in (14, 30, 90):
            shop.tick(shop.day(day))
        assert shop.state == "archived"
        return shop

    def test_a_payment_opens_nothing_and_is_put_before_a_person(self, archived: Shop) -> None:
        archived.subscribe()
        archived.deliver()
        assert archived.state == "archived"
        assert set(archived.failures()) == {"workspace_archived"}
        states = archived.service.query(
            "SELECT DISTINCT state FROM webhook_events WHERE outcome = 'workspace_archived'"
        )
        assert [row.state for row in states] == ["failed"]

    def test_an_operator_restores_one_that_is_paid_for(self, archived: Shop) -> None:
        archived.subscribe()
        archived.told()
        assert archived.service.run_job(restore_workspace).result == {"state": "active"}
        assert archived.states()[-1] == "active"
        assert archived.service.run_job(restore_workspace).outcome == "skipped"

    def test_the_message_about_the_payment_can_be_retried_then(self, archived: Shop) -> None:
        archived.subscribe()
        archived.deliver()
        archived.service.run_job(restore_workspace)
        for job in archived.service.jobs(actor="process_webhook", state="failed"):
            archived.service.retry(job.id)
        archived.service.drain()
        states = archived.service.query("SELECT DISTINCT state FROM webhook_events")
        assert (archived.state, [row.state for row in states]) == ("active", ["processed"])

    def test_one_that_is_not_begins_anew_from_today(self, archived: Shop) -> None:
        before = now()
        assert archived.service.run_job(restore_workspace).result == {"state": "canceled"}
        assert archived.canceled_at() >= before
        assert archived.steps()[5:] == []
        archived.tick(archived.day(3))
        assert archived.steps()[5:] == [("winback_1", "done")]
        rows = archived.service.query("SELECT data FROM outbox WHERE data->>'reason' = 'operator'")
        assert [row.data["state"] for row in rows] == ["canceled"]


def test_a_day_is_a_whole_one(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    shop.tick(shop.day(3) - timedelta(microseconds=1))
    assert shop.steps() == []
    shop.tick(shop.day(3))
    assert shop.steps() == [("winback_1", "done")]
