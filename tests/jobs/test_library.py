"""The jobs that every service has: its own house is kept clean, in batches, and no more goes than should."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.shipping.service import service as shipping
from shared.context import SYSTEM
from shared.db import new_id, uuid7_floor
from shared.jobs import library
from shared.jobs.library import cleaning
from shared.testing.service import ServiceUnderTest
from tests.sample import jobs
from tests.sample.service import service as jobs_service


def aged(days: float) -> uuid.UUID:
    """Return an id made so many days ago."""
    floor = uuid7_floor(datetime.now(UTC) - timedelta(days=days))
    return uuid.UUID(int=floor.int | (new_id().int & ((1 << 62) - 1)))


def clean(sample: ServiceUnderTest, actor: Any) -> dict[str, int]:
    job = sample.run_job(actor, tenant_id=SYSTEM)
    assert job.state == "succeeded", sample.attempts(job.id)
    return dict(job.result)


def ended(sample: ServiceUnderTest, state: str, days: float) -> uuid.UUID:
    job = sample.run_job(jobs.refuse, key="a")
    old = aged(days)
    sample.execute(
        "INSERT INTO jobs (id, tenant_id, queue, actor, priority, arguments, state, run_at, origin, finished_at) "
        "SELECT :old, tenant_id, queue, actor, priority, arguments, :state, run_at, origin, "
        "clock_timestamp() - make_interval(secs => :seconds) FROM jobs WHERE id = :id",
        old=old,
        state=state,
        seconds=days * 86400,
        id=job.id,
    )
    sample.execute("UPDATE job_attempts SET job_id = :old WHERE job_id = :id", old=old, id=job.id)
    sample.execute("DELETE FROM jobs WHERE id = :id", id=job.id)
    return old


@pytest.mark.parametrize(("state", "days"), [("succeeded", 30), ("cancelled", 30), ("failed", 90)])
def test_finished_jobs_go_with_their_attempts(sample: ServiceUnderTest, state: str, days: int) -> None:
    """Retention is counted from the end of the job, and differs by how it ended."""
    gone, kept = ended(sample, state, days + 0.1), ended(sample, state, days - 0.1)

    clean(sample, library.clean_up_jobs)

    assert sample.jobs(id=gone) == []
    assert sample.attempts(gone) == []
    assert len(sample.jobs(id=kept)) == len(sample.attempts(kept)) == 1


def test_live_jobs_never_go(sample: ServiceUnderTest) -> None:
    """However old it is, a job that has not ended stays."""
    for state in ("scheduled", "queued", "running"):
        job_id = sample.send(jobs.lease, key=state)
        sample.execute(
            "UPDATE jobs SET id = :old, state = :state WHERE id = :id", old=aged(900), state=state, id=job_id
        )

    clean(sample, library.clean_up_jobs)

    assert len(sample.jobs(actor="lease")) == 3


def test_many_go_in_batches(sample: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is a commit of its own, and the progress counts the rows of all."""
    monkeypatch.setattr(cleaning, "_BATCH", 3)
    for _ in range(8):
        ended(sample, "succeeded", 40)

    job = sample.run_job(library.clean_up_jobs, tenant_id=SYSTEM)

    assert job.result == {"done": 8, "failed": 0}
    assert sample.jobs(state="succeeded") == [sample.job(job.id)]


def test_published_events_go_after_thirty_days(sample: ServiceUnderTest) -> None:
    """An event can be replayed for thirty days; what was not published yet stays however long."""
    for days, published in ((31, True), (29, True), (400, False)):
        sample.execute(
            "INSERT INTO outbox (id, tenant_id, type, subject, data, published_at) VALUES (:id, 'acme', 'a.b.c.v1', "
            ":days, '{}', CASE WHEN :published THEN clock_timestamp() - make_interval(days => :age) END)",
            id=aged(days),
            days=str(days),
            published=published,
            age=days,
        )

    clean(sample, library.clean_up_events)

    assert {event.subject for event in sample.published()} == {"29", "400"}


def test_expired_idempotency_keys_go(sample: ServiceUnderTest) -> None:
    """Expired ones only."""
    for key, hours in (("old", -1), ("new", 1)):
        sample.execute(
            "INSERT INTO idempotency_keys (tenant_id, principal, route, key, fingerprint, expires_at) "
            "VALUES ('acme', 'p', 'r', :key, 'f', clock_timestamp() + make_interval(hours => :hours))",
            key=key,
            hours=hours,
        )

    assert clean(sample, library.clean_up_idempotency_keys) == {"keys": 1}
    assert sample.query("SELECT key FROM idempotency_keys") == [("new",)]


def test_processed_webhooks_go_and_unprocessed_ones_stay(sample: ServiceUnderTest) -> None:
    """Processed after thirty days, failed after ninety, received never."""
    for state, days in (("processed", 31), ("processed", 29), ("failed", 91), ("failed", 89), ("received", 400)):
        sample.execute(
            "INSERT INTO webhook_events (id, tenant_id, provider, event_key, body, state, received_at) "
            "VALUES (:id, 'acme', 'p', :key, '{}', :state, clock_timestamp() - make_interval(days => :days))",
            id=new_id(),
            key=f"{state} {days}",
            state=state,
            days=days,
        )

    clean(sample, library.clean_up_webhook_events)

    assert {key for (key,) in sample.query("SELECT event_key FROM webhook_events")} == {
        "processed 29",
        "failed 89",
        "received 400",
    }


def test_services_in_one_process_run_the_librarys_jobs_each_their_own(
    service_app: Callable[..., ServiceUnderTest],
) -> None:
    """They have its actors in common; whoever was built last must not take the jobs of the others for its own."""
    first, last = service_app(jobs_service), service_app(shipping)
    with first.current():
        job = first.send(library.clean_up_events, tenant_id=SYSTEM)
    with last.current():
        first.start()
        assert first.wait_for(job).state == "succeeded"
