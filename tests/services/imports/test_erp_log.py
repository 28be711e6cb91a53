"""The log of ERPs, and what they sent, go when they are old enough; what is still needed stays."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.imports.jobs import clean_up_erp_log
from services.imports.settings import settings
from shared.context import SYSTEM
from tests.services.imports.desk import Desk
from tests.services.imports.erp_desk import Erp


class Shelf:
    """A log of which the age of each line is chosen."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.made = 0

    def lines(
        self, connection: UUID, days: float, count: int = 1, *, entity: str = "samples", outcome: str = "ok"
    ) -> None:
        self.desk.service.execute(
            "INSERT INTO erp_sync_log (id, tenant_id, connection_id, direction, entity, outcome, created_at) "
            "SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'acme', :connection, 'out', "
            ":entity, :outcome, now() - make_interval(secs => 86400 * CAST(:days AS float)) + n * interval '1 us' "
            "FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n",
            connection=connection,
            entity=entity,
            outcome=outcome,
            days=days,
            first=self.made + 1,
            last=self.made + count,
        )
        self.made += count

    def feed(self, connection: UUID, days: float, state: str) -> None:
        self.made += 1
        self.desk.service.execute(
            "INSERT INTO erp_feeds (id, tenant_id, connection_id, entity, digest, body, state, created_at) VALUES "
            "(gen_random_uuid(), 'acme', :connection, 'stock', :digest, '', :state, "
            "now() - make_interval(secs => 86400 * CAST(:days AS float)))",
            connection=connection,
            digest=str(self.made),
            state=state,
            days=days,
        )

    def left(self, connection: UUID) -> dict[tuple[str, str], int]:
        rows = self.desk.service.query(
            "SELECT entity, outcome, count(*) AS count FROM erp_sync_log WHERE connection_id = :id GROUP BY 1, 2",
            id=connection,
        )
        return {(row.entity, row.outcome): row.count for row in rows}

    def clean(self) -> dict[str, int]:
        result: dict[str, int] = self.desk.service.run_job(clean_up_erp_log, tenant_id=SYSTEM).result
        return result


@pytest.fixture
def shelf(desk: Desk) -> Shelf:
    return Shelf(desk)


def test_lines_go_when_they_are_old_and_the_latest_stays(desk: Desk, shelf: Shelf) -> None:
    erp = Erp(desk)
    shelf.lines(erp.id, 91, 3, outcome="failed")
    shelf.lines(erp.id, 31, 2500)
    shelf.lines(erp.id, 31, 4, outcome="failed")
    shelf.lines(erp.id, 29, 5)
    shelf.lines(erp.id, 400, 2, entity="stock")
    assert shelf.clean() == {"ok": 2501, "failed": 3, "feeds": 0}
    assert shelf.left(erp.id) == {("samples", "failed"): 4, ("samples", "ok"): 5, ("stock", "ok"): 1}
    assert shelf.clean() == {"ok": 0, "failed": 0, "feeds": 0}


def test_a_connection_may_say_for_how_long(desk: Desk, shelf: Shelf) -> None:
    usual, short, long = (Erp(desk, name=name, keep_days=days) for name, days in (("a", None), ("b", 3), ("c", 365)))
    for erp in (usual, short, long):
        shelf.lines(erp.id, 40, 2)
        shelf.lines(erp.id, 4, 2, outcome="failed")
        shelf.lines(erp.id, 1)
    assert shelf.clean() == {"ok": 4, "failed": 2, "feeds": 0}
    assert shelf.left(usual.id) == {("samples", "failed"): 2, ("samples", "ok"): 1}
    assert shelf.left(short.id) == {("samples", "ok"): 1}
    assert shelf.left(long.id) == {("samples", "failed"): 2, ("samples", "ok"): 3}


def test_lines_of_a_connection_that_is_gone_go_to_the_last(desk: Desk, shelf: Shelf) -> None:
    erp = Erp(desk)
    shelf.lines(erp.id, 31, 3)
    shelf.lines(erp.id, 29, 1, entity="stock")
    assert desk.client.delete(erp.path).status_code == 204
    assert shelf.clean()["ok"] == 3
    assert shelf.left(erp.id) == {("stock", "ok"): 1}


def test_lines_of_a_pass_that_is_under_way_stay(desk: Desk, shelf: Shelf) -> None:
    erp = Erp(desk)
    shelf.lines(erp.id, 50, 2)
    shelf.lines(erp.id, 40, 3)
    shelf.lines(erp.id, 1)
    began = (datetime.now(UTC) - timedelta(days=45)).isoformat()
    desk.service.execute(
        "UPDATE erp_connections SET cursor = CAST(:cursor AS jsonb)",
        cursor=json.dumps({"samples": {"pass": {"began": began}}}),
    )
    assert shelf.clean()["ok"] == 2
    desk.service.execute("UPDATE erp_connections SET cursor = '{}'")
    assert shelf.clean()["ok"] == 3


def test_feeds_that_were_dealt_with_go_too(desk: Desk, shelf: Shelf) -> None:
    erp = Erp(desk)
    for days, state in ((31, "applied"), (29, "applied"), (31, "failed"), (91, "failed"), (91, "received")):
        shelf.feed(erp.id, days, state)
    assert shelf.clean() == {"ok": 0, "failed": 0, "feeds": 2}
    assert desk.client.delete(erp.path).status_code == 204
    assert shelf.clean()["feeds"] == 1, "what was never applied can be no more"


def test_the_settings_say_what_is_usual(desk: Desk, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPORTS_ERP_LOG_DAYS", "10")
    monkeypatch.setenv("IMPORTS_ERP_FAILED_LOG_DAYS", "5")
    settings.cache_clear()
    erp = Erp(desk)
    shelf.lines(erp.id, 11, 1)
    shelf.lines(erp.id, 9, 1)
    shelf.lines(erp.id, 6, 1, outcome="failed")
    shelf.lines(erp.id, 1)
    assert shelf.clean() == {"ok": 1, "failed": 1, "feeds": 0}


def test_a_clean_up_that_was_broken_off_goes_on_where_it_stopped(
    desk: Desk, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.jobs.current.SLICE", 0.0)
    erp = Erp(desk)
    shelf.lines(erp.id, 31, 2200)
    shelf.lines(erp.id, 1)
    job_id = desk.service.send(clean_up_erp_log, tenant_id=SYSTEM)
    left = []
    while desk.service.job(job_id).state == "scheduled":
        desk.service.run(job_id)
        left.append(sum(shelf.left(erp.id).values()))
    assert left == [1201, 201, 1, 1], "a thousand in each commit"
    assert desk.service.job(job_id).result == {"ok": 2200, "failed": 0, "feeds": 0}
