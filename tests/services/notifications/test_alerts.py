"""Alerts: one per cause, told once to each who can act, silent when the cause is gone, and never a storm."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from services.notifications.audience import ALERTS, people_for
from services.notifications.jobs import prune_alerts, prune_notices, silence_alerts
from services.notifications.tables import Alert
from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.events.contracts.imports import ImportCompleted, ImportFailed
from shared.events.contracts.jobs import (
    CircuitClosed,
    CircuitOpened,
    DeadLettersFound,
    JobFailed,
    ReconciliationStuck,
    ScheduleMissed,
    of_service,
)
from shared.events.contracts.notifications import RetryRequested
from shared.events.contracts.shipping import ConnectionChanged, LabelFailed, LabelPurchased, OrderTransitioned
from shared.telemetry.metrics import REGISTRY
from tests.services.notifications.office import Office, as_tenant, failed

STORM = 5000


def alerts(office: Office, name: str = "fulfillment", query: str = "") -> list[dict[str, Any]]:
    answer = office.client(name).get(f"/v1/alerts{query}")
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return list(answer.json["items"])


def act(office: Office, alert: dict[str, Any], action: str, name: str = "fulfillment") -> tuple[int, dict[str, Any]]:
    answer = office.client(name).post(f"/v1/alerts/{alert['id']}/{action}")
    assert answer.json is not None
    return answer.status_code, answer.json


def silence(office: Office) -> dict[str, int]:
    return dict(office.service.run_job(silence_alerts, tenant_id=SYSTEM).result)


def later(**passed: float) -> datetime:
    return datetime.now(UTC) + timedelta(**passed)


# -- who -----------------------------------------------------------------------------------------------

WHO: list[tuple[JobFailed, set[str], set[str]]] = [
    (failed("shipping"), {"fulfillment", "owner", "manager"}, {"fulfillment", "owner", "manager"}),
    (failed("shipping", code="provider_not_authorized"), {"owner"}, {"owner"}),
    (failed("shipping", code="shippo_not_connected"), {"owner"}, {"owner"}),
    (failed("imports", actor="run_import", queue="default"), {"owner", "manager"}, {"owner", "manager"}),
    (failed("imports", actor="pull_erp", queue="erp"), {"owner", "manager"}, {"owner", "manager"}),
    (failed("notifications", actor="send_mail", queue="mail"), {"owner"}, set()),
    (failed("notifications", actor="deliver_webhook", queue="webhooks_out"), {"owner"}, {"owner"}),
    (failed("notifications", actor="write_watch_rule", queue="models", code="rule_not_possible"), set(), set()),
    (failed("workspaces", actor="archive", queue="default"), {"owner", "manager"}, {"owner", "manager"}),
]


@pytest.mark.parametrize(("event", "told", "mailed"), WHO, ids=[f"{w[0].actor}-{w[0].code}" for w in WHO])
def test_who_can_act_is_told_and_sees_it(office: Office, event: JobFailed, told: set[str], mailed: set[str]) -> None:
    office.hear(event)
    office.handle()
    assert set(office.told("alert")) == told
    assert set(office.mailed("alert")) == mailed
    for name in ("owner", "manager", "sales", "fulfillment"):
        assert bool(alerts(office, name)) == (name in told)


def test_every_row_of_the_table_is_reached() -> None:
    reached = [people_for("shipping", provider="smtp"), people_for("notifications", provider="smtp")]
    reached += [people_for(w[0].type.split(".")[1], queue=w[0].queue, actor=w[0].actor, code=w[0].code) for w in WHO]
    assert {id(people) for people in reached} == {id(people) for people in ALERTS}


def test_whoever_imported_a_file_hears_of_it_by_a_notice_of_its_own(office: Office) -> None:
    principal = office.principal("manager")
    job_id = uuid.uuid4()
    office.hear(failed("imports", actor="run_import", job_id=str(job_id)), principal=principal)
    change = {"requested_by": principal, "job_id": job_id}
    office.hear(ImportFailed.model_validate(ImportFailed.example().model_dump() | change), principal=principal)
    office.handle()
    assert {name: len(titles) for name, titles in office.told().items()} == {"owner": 1, "manager": 1}
    assert set(office.told("import_failed")) == {"manager"}
    assert office.mailed("alert") == ["owner"]
    assert len(alerts(office, "manager")) == 1


def test_an_alert_that_cannot_be_raised_raises_no_alert(office: Office) -> None:
    office.hear(failed("notifications", actor="alert_of_failed_shipping_job", queue="handlers"))
    office.handle()
    assert office.service.query("SELECT 1 FROM alerts") == []
    assert office.service.jobs(actor="alert_of_failed_notifications_job")[0].outcome == "skipped"


# -- the words -----------------------------------------------------------------------------------------


def test_an_alert_says_what_the_failure_says(office: Office) -> None:
    event = failed()
    office.hear(event)
    office.handle()
    (alert,) = alerts(office)
    assert [alert[part] for part in ("what", "meaning", "doing", "action")] == [
        event.what, event.meaning, event.doing, event.action,
    ]  # fmt: skip
    assert (alert["state"], alert["count"], alert["remaining"], alert["can_retry"]) == ("open", 1, 1, True)
    assert [(one["job_id"], one["subject"]) for one in alert["newest"]] == [(event.job_id, "Label for order 1042")]
    (notice,) = office.client("fulfillment").get("/v1/notices").json["items"]  # type: ignore[index]
    assert (notice["title"], notice["link"]) == (event.what, f"/alerts/{alert['id']}")
    assert event.action in notice["text"]


# -- a storm -------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_a_storm_is_one_alert_one_mail_and_one_notice_each(fresh_office: Office) -> None:
    """Through the real inbox, in the chunks and threads of a worker, two workspaces and three causes at a time."""
    office = fresh_office
    globex = Office(office.service, "globex")
    codes = ("carrier_away", "provider_unavailable", "no_rates")
    for number in range(STORM):
        office.hear(failed(code=codes[0] if number % 5 else codes[1 + number % 2]))
        if number % 10 == 0:
            globex.hear(failed(code=codes[0]))
    office.service.start()
    statement = "SELECT count(*) FROM jobs WHERE queue = 'handlers' AND state IN ('scheduled', 'queued', 'running')"
    office.service.wait_until(lambda: office.service.query(statement)[0][0] == 0, 200, "all handlers to end")
    office.service.stop()
    assert sorted(alert["count"] for alert in alerts(office)) == [500, 500, 4000]
    assert [alert["count"] for alert in alerts(globex)] == [STORM // 10]
    assert office.service.query("SELECT count(*) FROM jobs WHERE queue = 'handlers' AND state <> 'succeeded'") == [(0,)]
    for each, causes in ((office, 3), (globex, 1)):
        assert {name: len(told) for name, told in each.told("alert").items()} == dict.fromkeys(
            ("owner", "manager", "fulfillment"), causes
        )
        assert each.mailed("alert") == sorted(["owner", "manager", "fulfillment"] * causes)
    assert len(alerts(office)[0]["newest"]) == 10

    # A retry of all from it.
    (worst,) = [alert for alert in alerts(office) if alert["count"] == 4000]
    assert act(office, worst, "retry")[0] == 202
    (event,) = office.service.published("backroom.notifications.retry.requested.v1")
    assert (event.data["service"], event.data["actor"], event.data["code"]) == ("shipping", "purchase_label", codes[0])


def test_the_same_job_that_fails_again_is_one(office: Office) -> None:
    event = failed()
    for moment in (later(), later(minutes=1)):
        office.hear(event, time=moment.isoformat())
        office.handle()
    (alert,) = alerts(office)
    assert (alert["count"], len(office.told()["fulfillment"])) == (1, 1)


def test_what_strikes_while_it_is_resolved_is_not_lost(office: Office) -> None:
    """Whoever strikes shares the alert; whoever resolves it waits, and then sees what has struck."""
    office.hear(failed(), time=later(days=-30).isoformat())
    office.handle()
    (alert,) = alerts(office)
    with office.service.database.system.begin() as striking:
        striking.execute(text("SELECT id FROM alerts FOR SHARE"))
        striking.execute(
            text("INSERT INTO alert_occurrences (tenant_id, alert_id, key, at) VALUES ('acme', :id, 'new', now())"),
            {"id": alert["id"]},
        )
        assert office.service.outside(lambda: silence(office))["quiet"] == 0
    assert silence(office)["quiet"] == 0
    assert alerts(office)[0]["state"] == "open"


# -- what people do with it ----------------------------------------------------------------------------


def test_somebody_looks_after_it_and_it_is_done(office: Office) -> None:
    office.hear(failed())
    office.handle()
    (alert,) = alerts(office)
    assert act(office, alert, "acknowledge")[1]["acknowledged_by"] == office.principal("fulfillment")
    status, again = act(office, alert, "acknowledge", "owner")
    assert (status, again["acknowledged_by"]) == (200, office.principal("fulfillment"))
    office.hear(failed())
    office.handle()
    assert [(one["state"], one["count"]) for one in alerts(office)] == [("acknowledged", 2)]
    status, done = act(office, alert, "resolve", "manager")
    assert (status, done["state"], done["resolution"], done["count"]) == (200, "resolved", "by_hand", 2)
    for action in ("acknowledge", "resolve", "retry"):
        status, problem = act(office, alert, action)
        assert (status, problem["type"]) == (409, "/problems/alert-state-forbids")
    assert alerts(office, query="?state=live") == []

    office.hear(failed())
    office.handle()
    (anew,) = alerts(office, query="?state=live")
    assert anew["id"] != alert["id"]
    assert len(office.told()["fulfillment"]) == 2
    assert len(office.mailed("alert")) == 6


def test_a_second_click_does_not_ask_twice_but_a_new_failure_does(office: Office) -> None:
    office.hear(failed())
    office.handle()
    (alert,) = alerts(office)
    answers = [act(office, alert, "retry") for _ in range(3)]
    assert [status for status, _ in answers] == [202] * 3
    assert answers[0][1]["retried_by"] == office.principal("fulfillment")
    published = "backroom.notifications.retry.requested.v1"
    (event,) = office.service.published(published)
    assert datetime.fromisoformat(event.data["failed_before"]) == datetime.fromisoformat(answers[0][1]["retried_at"])
    assert event.data["alert_id"] == alert["id"]
    office.hear(failed(), time=later(minutes=1).isoformat())
    office.handle()
    act(office, alert, "retry", "owner")
    assert len(office.service.published(published)) == 2


def test_a_retry_of_all_from_it_has_every_failed_job_run_again(office: Office) -> None:
    """What is asked here, the library of the service that failed does; notifications being one itself."""
    office.service.execute(
        "INSERT INTO jobs (id, tenant_id, queue, actor, priority, arguments, state, run_at, origin, failure, "
        "finished_at, unique_key) SELECT gen_random_uuid(), 'acme', 'default', 'tell_morning', 3, "
        "jsonb_build_object('day', day::date), 'failed', now(), 'program', jsonb_build_object('code', 'unexpected', "
        "'fields', '{}'::jsonb), now(), day::date::text "
        "FROM generate_series(timestamptz '2026-01-01', '2026-01-31', '1 day') AS day"
    )
    for job in office.service.jobs(actor="tell_morning"):
        change = {"actor": "tell_morning", "queue": "default", "code": "unexpected", "job_id": str(job.id)}
        office.hear(failed("notifications", **change))
    office.handle()
    (alert,) = alerts(office, "owner")
    assert alert["count"] == 31
    assert act(office, alert, "retry", "owner")[0] == 202
    (asked,) = office.service.published("backroom.notifications.retry.requested.v1")
    office.hear(RetryRequested.model_validate(asked.data))
    office.handle()
    jobs = office.service.jobs(actor="tell_morning")
    assert {(job.state, job.principal) for job in jobs} == {("succeeded", office.principal("owner"))}


def test_others_neither_see_nor_touch_it(office: Office) -> None:
    office.hear(failed(code="provider_not_authorized"))
    office.handle()
    (alert,) = alerts(office, "owner")
    for action in ("acknowledge", "resolve", "retry"):
        assert act(office, alert, action)[0] == 404
        assert office.client("owner").of("globex").post(f"/v1/alerts/{alert['id']}/{action}").status_code == 404
    with as_tenant("globex"), unit_of_work() as session:
        assert session.get(Alert, ("acme", uuid.UUID(alert["id"]))) is None


# -- silence -------------------------------------------------------------------------------------------


def test_a_circuit_that_closes_silences_its_alert(office: Office) -> None:
    example = of_service(CircuitOpened, "imports").example()
    for _ in range(2):
        office.hear(example)
    office.handle()
    (alert,) = alerts(office, "owner")
    assert (alert["what"], alert["count"], alert["can_retry"]) == ("Shippo does not answer.", 2, False)
    assert act(office, alert, "retry", "owner")[0] == 409
    office.hear(of_service(CircuitClosed, "shipping").example())
    office.handle()
    assert len(alerts(office, "owner", "?state=live")) == 1, "another service's circuit is another cause"
    office.hear(of_service(CircuitClosed, "imports").example())
    office.handle()
    assert alerts(office, "owner", "?state=resolved")[0]["resolution"] == "circuit_closed"


def _label(contract: Any, order_id: uuid.UUID, **changes: Any) -> Any:
    return contract.model_validate(
        contract.example().model_dump() | {"order_id": order_id, "label_id": uuid.uuid4()} | changes
    )


@pytest.mark.parametrize("late", [False, True], ids=["in order", "the failure is heard of last"])
def test_labels_that_are_bought_after_all_silence_it(office: Office, late: bool) -> None:
    orders = [uuid.uuid4() for _ in range(3)]
    failures = [failed(subject=f"Label for order {number}") for number in range(3)]
    bought = [_label(LabelPurchased, order, purchased_at=later(hours=1)) for order in orders[:2]]
    for event in bought if late else []:
        office.hear(event)
    for order, failure in zip(orders, failures, strict=True):
        office.hear(failure)
        office.hear(_label(LabelFailed, order, job_id=failure.job_id))
    office.handle()
    assert silence(office) == dict.fromkeys(("mended", "retried", "quiet"), 0)
    for event in [] if late else bought:
        office.hear(event)
    office.handle()
    assert silence(office)["mended"] == 0
    (alert,) = alerts(office)
    assert (alert["state"], alert["count"], alert["remaining"]) == ("open", 3, 1)
    assert [one["subject"] for one in alert["newest"] if one["mended_at"] is None] == ["Label for order 2"]
    cancelled = OrderTransitioned.example().model_copy(update={"order_id": orders[2], "to_state": "Cancelled"})
    office.hear(cancelled, time=later(hours=2).isoformat())
    office.handle()
    assert silence(office)["mended"] == 1
    (alert,) = alerts(office)
    assert (alert["resolution"], alert["count"], alert["remaining"]) == ("mended", 3, 0)
    assert len(office.told("alert")["fulfillment"]) == 1


def test_a_label_that_was_bought_before_it_failed_silences_nothing(office: Office) -> None:
    order, failure = uuid.uuid4(), failed()
    office.hear(_label(LabelPurchased, order, purchased_at=later(hours=-1)))
    office.hear(failure)
    office.hear(_label(LabelFailed, order, job_id=failure.job_id))
    office.handle()
    assert silence(office)["mended"] == 0


def test_an_import_that_completes_after_all_silences_it(office: Office) -> None:
    job_id = uuid.uuid4()
    office.hear(failed("imports", actor="run_import", job_id=str(job_id)))
    office.hear(ImportFailed.model_validate(ImportFailed.example().model_dump() | {"job_id": job_id}))
    office.hear(ImportCompleted.example(), time=later(minutes=1).isoformat())
    office.handle()
    assert silence(office)["mended"] == 1


def test_what_was_retried_and_stays_quiet_is_silent(office: Office) -> None:
    office.hear(failed())
    office.handle()
    (alert,) = alerts(office)
    act(office, alert, "retry")
    assert silence(office)["retried"] == 0
    office.service.execute("UPDATE alerts SET retried_at = retried_at - interval '31 minutes', first_at = first_at")
    office.service.execute("UPDATE alert_occurrences SET at = at - interval '40 minutes'")
    assert silence(office)["retried"] == 1

    office.hear(failed())
    office.handle()
    (alert,) = alerts(office, query="?state=live")
    act(office, alert, "retry")
    office.service.execute("UPDATE alerts SET retried_at = retried_at - interval '31 minutes'")
    assert silence(office)["retried"] == 0, "it failed since"


def test_what_does_not_strike_again_is_silent_in_the_end(office: Office) -> None:
    office.hear(failed(), time=later(days=-8).isoformat())
    office.hear(failed(code="carrier_away"), time=later(days=-8).isoformat())
    office.hear(failed(code="carrier_away"), time=later(days=-6).isoformat())
    office.handle()
    assert silence(office)["quiet"] == 1
    assert [alert["code"] for alert in alerts(office, query="?state=live")] == ["carrier_away"]


def test_an_account_that_is_connected_silences_what_asked_for_it(office: Office) -> None:
    for code in ("provider_not_authorized", "carrier_away"):
        office.hear(failed(code=code))
    office.handle()
    office.hear(ConnectionChanged.example())
    office.handle()
    assert len(alerts(office, "owner", "?state=live")) == 2
    office.hear(ConnectionChanged(provider="shippo", status="connected"), time=later(minutes=1).isoformat())
    office.handle()
    assert [(a["code"], a["resolution"]) for a in alerts(office, "owner", "?state=resolved")] == [
        ("provider_not_authorized", "connected")
    ]


def opened(kind: str) -> float:
    labels = {"service": "notifications", "kind": kind, "about": "shipping"}
    return REGISTRY.get_sample_value("alerts_opened_total", labels) or 0.0


# -- operators -----------------------------------------------------------------------------------------


def test_what_belongs_to_no_workspace_is_for_operators(office: Office) -> None:
    before = opened("dead_letters")
    for contract in (ScheduleMissed, DeadLettersFound, CircuitOpened, JobFailed):
        for _ in range(2):
            office.hear(of_service(contract, "shipping").example(), tenant_id=SYSTEM)
    office.handle()
    rows = office.service.query("SELECT tenant_id, kind FROM alerts ORDER BY kind")
    assert [(row.tenant_id, row.kind) for row in rows] == [
        (SYSTEM, kind) for kind in ("circuit_opened", "dead_letters", "job_failed", "schedule_missed")
    ]
    assert (office.told(), office.mailed(), alerts(office, "owner")) == ({}, [], [])
    assert opened("dead_letters") == before + 1


def test_what_reconciliation_gives_up_is_an_alert_of_its_workspace(office: Office) -> None:
    office.hear(of_service(ReconciliationStuck, "shipping").example())
    office.handle()
    (alert,) = alerts(office)
    assert (alert["kind"], alert["can_retry"]) == ("reconciliation_stuck", False)


# -- forgetting ----------------------------------------------------------------------------------------


def test_old_alerts_and_notices_are_forgotten(office: Office) -> None:
    for code in ("carrier_away", "no_rates"):
        office.hear(failed(code=code))
    office.hear(_label(LabelPurchased, uuid.uuid4()))
    office.handle()
    (newer, older) = alerts(office)
    act(office, older, "resolve")
    age = "now() - interval '91 days'"
    office.service.execute(f"UPDATE alerts SET resolved_at = {age} WHERE state = 'resolved'")
    office.service.execute(f"UPDATE outcomes SET noted_at = {age}")
    assert office.service.run_job(prune_alerts, tenant_id=SYSTEM).result == {"failures": 1, "alerts": 1, "outcomes": 1}
    assert [alert["id"] for alert in alerts(office)] == [newer["id"]]

    link = f"/alerts/{older['id']}"
    office.service.execute(f"UPDATE notices SET created_at = {age} WHERE link = :link", link=link)
    office.service.execute(
        f"UPDATE notice_receipts SET told_at = {age} WHERE notice_id = (SELECT id FROM notices WHERE link = :link)",
        link=link,
    )
    assert office.service.run_job(prune_notices, tenant_id=SYSTEM).result == {"receipts": 3, "notices": 1}
    assert all(len(titles) == 1 for titles in office.told().values())


def test_the_sweep_sees_every_workspace(office: Office) -> None:
    with use(tenant_id="globex"):
        office.hear(failed(), tenant_id="globex", time=later(days=-8).isoformat())
    office.hear(failed(), time=later(days=-8).isoformat())
    office.handle()
    assert silence(office)["quiet"] == 2
