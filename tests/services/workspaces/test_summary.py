"""A workspace at a glance: what others have counted, by role, each part with its time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.workspaces.jobs import count_summary, watch_summaries
from services.workspaces.models import Member, Workspace
from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.events.contracts.imports import ImportsSummaryCounted
from shared.events.contracts.shipping import ShippingSummaryCounted
from shared.testing.events import deliver
from shared.testing.service import ServiceUnderTest
from shared.web.testing import Client
from tests.services.workspaces.shop import now

EXAMPLE = ShippingSummaryCounted.example()


class Dashboards:
    def __init__(self, service: ServiceUnderTest) -> None:
        self.service = service
        self.web = service.app.web()
        assert service.app.secrets.signer is not None
        self.client = Client(self.web, service.app.secrets.signer)

    def member(self, tenant: str, role: str, status: str = "active") -> None:
        with use(tenant_id=tenant), unit_of_work() as session:
            session.add(Member(email=f"{role}{now().timestamp()}@x.example", name="X", role=role, status=status))

    def told(self, sequence: int = 1, **changes: Any) -> None:
        event = ShippingSummaryCounted.model_validate(EXAMPLE.model_dump() | {"counted_at": now(), **changes})
        deliver(self.service, event, sequence=sequence)
        self.service.drain()

    def summary(self, role: str = "owner", principal: str | None = None) -> dict[str, Any]:
        answer = self.client.role(role, principal).get("/v1/summary")
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        return dict(answer.json)


@pytest.fixture
def boards(workspaces: ServiceUnderTest) -> Dashboards:
    with use(tenant_id="acme"), unit_of_work() as session:
        session.add(Workspace(name="Acme", plan="team"))
    return Dashboards(workspaces)


def test_what_was_never_counted_says_so(boards: Dashboards) -> None:
    summary = boards.summary()
    for part in ("members", "shipping", "imports"):
        assert (summary[part]["missing"], summary[part]["stale"], summary[part]["counted_at"]) == (True, False, None)
    assert boards.client.of("globex").get("/v1/summary").status_code == 404


def test_owner_and_manager_see_all(boards: Dashboards) -> None:
    boards.told()
    deliver(boards.service, ImportsSummaryCounted.example().model_copy(update={"counted_at": now()}), sequence=1)
    boards.service.drain()
    for role in ("owner", "manager"):
        summary = boards.summary(role)
        assert summary["shipping"]["orders_by_state"] == EXAMPLE.orders_by_state
        assert summary["shipping"]["spend_30_days"] == {"USD": {"labels": 24, "amount": 18960}}
        assert summary["shipping"]["labels_30_days"] == 24
        assert summary["shipping"]["own"] == {"open": 4, "last_30_days": 21}
        assert summary["imports"]["samples"] == 4980
        assert summary["imports"]["last_import"]["file_name"] == "catalog.csv"
        assert (summary["shipping"]["missing"], summary["shipping"]["stale"]) == (False, False)


def test_sales_sees_its_own_orders(boards: Dashboards) -> None:
    boards.told(by_creator={"user:ada": {"open": 4, "last_30_days": 21}, "user:bob": {"open": 1, "last_30_days": 2}})
    shown = {name for name, value in boards.summary("sales", "user:bob")["shipping"].items() if value is not None}
    assert shown == {"counted_at", "stale", "missing", "own"}
    assert boards.summary("sales", "user:bob")["shipping"]["own"] == {"open": 1, "last_30_days": 2}
    assert boards.summary("sales", "user:cyd")["shipping"]["own"] == {"open": 0, "last_30_days": 0}
    assert boards.summary("sales")["members"] is None


def test_fulfillment_sees_what_is_to_be_done_and_no_money(boards: Dashboards) -> None:
    boards.told()
    shipping = boards.summary("fulfillment")["shipping"]
    assert (shipping["stuck_orders"], shipping["labels_30_days"], shipping["shippo"]) == (1, 24, "connected")
    assert (shipping["spend_30_days"], shipping["by_creator"], shipping["own"]) == (None, None, None)


def test_older_figures_do_not_replace_newer_ones(boards: Dashboards) -> None:
    boards.told(2, stuck_orders=7)
    boards.told(1, stuck_orders=5)
    assert boards.summary()["shipping"]["stuck_orders"] == 7
    boards.told(3, stuck_orders=9)
    assert boards.summary()["shipping"]["stuck_orders"] == 9
    assert [job.outcome for job in boards.service.jobs(actor="note_shipping")] == ["done", "skipped", "done"]


@pytest.mark.parametrize(("age", "stale"), [(timedelta(hours=2, minutes=59), False), (timedelta(hours=3), True)])
def test_figures_that_are_older_than_three_hours_say_so(boards: Dashboards, age: timedelta, stale: bool) -> None:
    boards.told(counted_at=now() - age)
    shipping = boards.summary()["shipping"]
    assert shipping["stale"] is stale
    assert shipping["stuck_orders"] == 1, "and are shown all the same"


def test_members_are_counted_by_role_and_held_against_the_plan(boards: Dashboards) -> None:
    for tenant, role, status in [
        ("acme", "owner", "active"),
        ("acme", "sales", "active"),
        ("acme", "sales", "invited"),
        ("acme", "sales", "disabled"),
        ("globex", "owner", "active"),
    ]:
        boards.member(tenant, role, status)
    statements = boards.service.run_job(count_summary, tenant_id=SYSTEM)
    assert statements.result == {"workspaces": 2}
    members = boards.summary()["members"]
    assert (members["by_role"], members["limit"]) == ({"owner": 1, "sales": 2}, 25)
    assert (members["missing"], members["stale"]) == (False, False)
    boards.member("acme", "manager")
    boards.service.run_job(count_summary, tenant_id=SYSTEM)
    assert boards.summary()["members"]["by_role"] == {"manager": 1, "owner": 1, "sales": 2}


def test_whoever_stops_counting_is_reported_after_three_hours(boards: Dashboards) -> None:
    def look() -> Any:
        return boards.service.run_job(watch_summaries, tenant_id=SYSTEM)

    assert look().state == "succeeded", "what was never counted is no miss"
    boards.told(counted_at=now() - timedelta(hours=2, minutes=59))
    assert look().state == "succeeded"
    boards.told(2, counted_at=now() - timedelta(hours=3, minutes=1))
    assert look().state == "failed"
    (alert,) = boards.service.query("SELECT data FROM outbox WHERE type LIKE '%.job.failed.v1'")
    assert alert.data["code"] == "summary_stale"
    assert alert.data["what"].endswith("show of: shipping.")
    boards.told(3)
    assert look().state == "succeeded"
