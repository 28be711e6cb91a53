"""Handing out: fair between tenants, by priority, within limits and gates; and why a job waits."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.db.database import SYSTEM_ROLE
from shared.jobs import enqueue_many, operations
from shared.jobs.models import FINAL
from shared.jobs.operations import REASONS
from shared.jobs.outcomes import GiveUp, Retry, Snooze
from shared.testing.service import ServiceUnderTest
from tests.jobs.conftest import raising
from tests.sample import jobs

Script = Callable[..., str]
Round = Callable[[], list[Any]]

_WORKER = """
INSERT INTO workers (id, host, pid, version, threads, queues, actors)
VALUES (7, 'a host', 1, '0', :threads, :queues, :actors)
"""


@pytest.fixture
def hand_out(sample: ServiceUnderTest) -> Iterator[Round]:
    """Let the relay do one round; returns what it handed out, in order."""
    # No other worker than this one.
    sample.app.liveness.stop()
    sample.execute("DELETE FROM workers")
    queues = [queue.name for queue in sample.app.queues]
    sample.execute(_WORKER, threads=2, queues=queues, actors=list(sample.app.actors))
    relay = sample.app.relay()
    with sample.database.connect(role=SYSTEM_ROLE) as connection:

        def one_round() -> list[Any]:
            sample.execute("UPDATE workers SET heartbeat_at = clock_timestamp() WHERE id = 7")
            relay._workers = (0.0, {})
            before = {job.id for job in sample.jobs(state="queued")}
            relay._hand_out(connection)
            handed = [job for job in sample.jobs(state="queued") if job.id not in before]
            return sorted(handed, key=lambda job: (job.priority, job.queued_at))

        yield one_round
    sample.execute("DELETE FROM workers WHERE id = 7")


def finish(sample: ServiceUnderTest) -> None:
    sample.execute("UPDATE jobs SET state = 'succeeded', finished_at = now() WHERE state IN ('queued', 'running')")


def fill(tenant: str, actor: Any, count: int, **options: Any) -> list[uuid.UUID]:
    """Send many jobs of a tenant."""
    with use(tenant_id=tenant):
        return enqueue_many(actor, [{"key": f"{tenant}{number}"} for number in range(count)], **options)


def test_a_tenant_with_many_jobs_does_not_make_another_wait(sample: ServiceUnderTest, hand_out: Round) -> None:
    """Given thousands of jobs of one tenant, another's two are among the first; the rest stays in the table."""
    fill("huge", jobs.lease, 3000)
    fill("small", jobs.lease, 2)

    handed = hand_out()

    assert Counter(job.tenant_id for job in handed) == {"huge": 2, "small": 2}
    assert hand_out() == []


def test_places_go_to_whoever_has_the_fewest_in_flight(sample: ServiceUnderTest, hand_out: Round) -> None:
    """A tenant whose jobs are under way already waits for those who have none."""
    fill("a", jobs.lease, 10)
    assert Counter(job.tenant_id for job in hand_out()) == {"a": 4}
    fill("b", jobs.lease, 10)
    sample.execute(
        "UPDATE jobs SET state = 'succeeded', finished_at = now() "
        "WHERE id IN (SELECT id FROM jobs WHERE state = 'queued' LIMIT 2)"
    )

    assert Counter(job.tenant_id for job in hand_out()) == {"b": 2}


def test_priority_comes_first(sample: ServiceUnderTest, hand_out: Round) -> None:
    """All that is due of a lower number goes before anything of a higher one, whoever's it is."""
    fill("a", jobs.lease, 10, priority=3)
    fill("b", jobs.lease, 3, priority=0)

    assert Counter((job.tenant_id, job.priority) for job in hand_out()) == {("b", 0): 3, ("a", 3): 1}


def test_what_is_due_later_stays(sample: ServiceUnderTest, hand_out: Round) -> None:
    """A job is never handed out before its time, however empty the queue."""
    fill("a", jobs.lease, 1, run_at=datetime.now(UTC) + timedelta(seconds=60))

    assert hand_out() == []
    sample.advance(61)
    assert len(hand_out()) == 1


def test_the_oldest_due_goes_first_within_a_tenant(sample: ServiceUnderTest, hand_out: Round) -> None:
    """A tenant's own line is in the order in which its jobs became due."""
    now = datetime.now(UTC)
    ids = [fill("a", jobs.lease, 1, run_at=now - timedelta(seconds=second))[0] for second in (1, 30, 10, 20, 5)]

    assert {job.id for job in hand_out()} == {ids[1], ids[3], ids[2], ids[4]}


def test_per_tenant_limit(sample: ServiceUnderTest, hand_out: Round) -> None:
    """Of a queue with a limit per tenant, no tenant has more under way, though there is room."""
    sample.execute("UPDATE workers SET threads = 50 WHERE id = 7")
    fill("a", jobs.call, 20)
    fill("b", jobs.call, 2)

    assert Counter(job.tenant_id for job in hand_out()) == {"a": 4, "b": 2}
    assert hand_out() == []


def test_a_queue_does_not_take_the_places_of_another(sample: ServiceUnderTest, hand_out: Round) -> None:
    """Each queue has its own window."""
    fill("a", jobs.lease, 50)
    hand_out()
    fill("a", jobs.write, 3)

    assert len(hand_out()) == 3


def test_pause_and_resume(sample: ServiceUnderTest, hand_out: Round) -> None:
    """Nothing of a paused queue is handed out; what is of others is; resumed, it goes on."""
    fill("a", jobs.lease, 1)
    fill("a", jobs.write, 1)
    with use(tenant_id=SYSTEM), unit_of_work() as session:
        operations.pause(session, "leases", "to look at it")
    assert [job.queue for job in hand_out()] == ["work"]

    with use(tenant_id=SYSTEM), unit_of_work() as session:
        operations.resume(session, "leases")
    assert [job.queue for job in hand_out()] == ["leases"]


def circuit(sample: ServiceUnderTest, tenant: str, seconds: float, state: str = "open") -> None:
    sample.execute(
        "INSERT INTO circuits (provider, tenant_id, state, retry_at) "
        "VALUES ('elsewhere', :tenant, :state, clock_timestamp() + make_interval(secs => :seconds))",
        tenant=tenant,
        state=state,
        seconds=seconds,
    )


def limit(sample: ServiceUnderTest, tenant: str, bucket: str = "write") -> None:
    sample.execute(
        "INSERT INTO rate_limits (provider, tenant_id, bucket, tokens, refilled_at, blocked_until) "
        "VALUES ('elsewhere', :tenant, :bucket, 0, now(), clock_timestamp() + interval '1 minute')",
        tenant=tenant,
        bucket=bucket,
    )


def test_open_circuit_holds_the_queue_back(sample: ServiceUnderTest, hand_out: Round) -> None:
    """While a provider is down its jobs wait, unburnt; jobs of other queues go."""
    circuit(sample, "*", 60)
    fill("a", jobs.call, 3)
    fill("a", jobs.write, 1)

    assert [job.queue for job in hand_out()] == ["work"]


@pytest.mark.parametrize("state", ["open", "half_open"])
def test_a_probe_lets_one_go(sample: ServiceUnderTest, hand_out: Round, state: str) -> None:
    """When it is time to try again, exactly one job finds out; the next only when that one is back."""
    circuit(sample, "*", -1, state)
    fill("a", jobs.call, 3)
    fill("b", jobs.call, 3)

    assert len(hand_out()) == 1
    assert hand_out() == []
    finish(sample)
    assert len(hand_out()) == 1


def test_a_tenants_own_circuit_holds_back_that_tenant(sample: ServiceUnderTest, hand_out: Round) -> None:
    """A token revoked at one tenant's account stops that tenant, and its probe is its own."""
    circuit(sample, "a", 60)
    fill("a", jobs.call, 3)
    fill("b", jobs.call, 3)
    assert Counter(job.tenant_id for job in hand_out()) == {"b": 3}

    sample.advance(61)
    assert Counter(job.tenant_id for job in hand_out()) == {"a": 1}


@pytest.mark.parametrize(
    ("tenant", "bucket", "handed"),
    [("*", "write", {}), ("a", "write", {"b": 1}), ("*", "*", {}), ("*", "read", {"a": 1, "b": 1})],
)
def test_rate_limit_holds_back(
    sample: ServiceUnderTest, hand_out: Round, tenant: str, bucket: str, handed: dict[str, int]
) -> None:
    """While a provider takes no more writes, nobody's jobs go, or those of the tenant concerned do not."""
    limit(sample, tenant, bucket)
    fill("a", jobs.call, 1)
    fill("b", jobs.call, 1)

    assert Counter(job.tenant_id for job in hand_out()) == handed


def test_what_no_worker_knows_is_held(sample: ServiceUnderTest, hand_out: Round) -> None:
    """A job of an actor or queue that no running worker knows stays in the table, and does not block others."""
    sample.execute("UPDATE workers SET actors = '{write}' WHERE id = 7")
    fill("a", jobs.lease, 1)
    fill("a", jobs.write, 1)
    with use(tenant_id="a"):
        jobs.fail_times.send("x", 0)

    assert [job.actor for job in hand_out()] == ["write"]


@pytest.mark.parametrize("column", ["heartbeat_at = now() - interval '6 seconds'", "draining = true"])
def test_nothing_is_handed_to_workers_that_take_nothing(sample: ServiceUnderTest, column: str) -> None:
    """Silent and draining workers are not counted as room."""
    sample.app.liveness.stop()
    sample.execute("DELETE FROM workers")
    sample.execute(_WORKER, threads=2, queues=["leases"], actors=["lease"])
    sample.execute(f"UPDATE workers SET {column}")
    fill("a", jobs.lease, 1)
    relay = sample.app.relay()

    with sample.database.connect(role=SYSTEM_ROLE) as connection:
        relay._hand_out(connection)

    assert sample.jobs(state="queued") == []


# -- why ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", REASONS)
def test_why(sample: ServiceUnderTest, hand_out: Round, script: Script, reason: str) -> None:
    """Each reason of the closed list is given where it is the reason, with the time at which it may change."""
    until: datetime | None = None
    if reason == "finished":
        job_id = sample.run_job(jobs.write, key="a").id
    elif reason == "running":
        job_id = sample.send(jobs.lease, key="a")
        sample.execute("UPDATE jobs SET state = 'running', worker_id = 7")
    elif reason == "handed_out":
        job_id = sample.send(jobs.lease, key="a")
        hand_out()
    elif reason == "due_later":
        until = datetime.now(UTC) + timedelta(hours=1)
        job_id = fill("acme", jobs.lease, 1, run_at=until)[0]
    elif reason == "retry_later":
        job = sample.run_job(jobs.scripted, key=script(raising(Retry("broken"))))
        job_id, until = job.id, job.run_at
    elif reason == "put_off":
        job = sample.run_job(jobs.scripted, key=script(lambda: raising(Snooze("shutdown", delay=60))()))
        job_id, until = job.id, job.run_at
    elif reason == "queue_paused":
        job_id = sample.send(jobs.lease, key="a")
        sample.execute("INSERT INTO queues (name, paused_at, reason) VALUES ('leases', now(), 'to look at it')")
    elif reason == "workspace_suspended":
        job_id = sample.send(jobs.lease, key="a")
        sample.execute("INSERT INTO standings VALUES ('acme', 'suspended', 1, now())")
    elif reason == "circuit_open":
        circuit(sample, "*", 60)
        job_id = sample.send(jobs.call, key="a")
        until = sample.query("SELECT retry_at FROM circuits")[0][0]
    elif reason == "rate_limited":
        limit(sample, "acme")
        job_id = sample.send(jobs.call, key="a")
        until = sample.query("SELECT blocked_until FROM rate_limits")[0][0]
    elif reason == "no_worker":
        job_id = sample.send(jobs.lease, key="a")
        sample.execute("UPDATE workers SET actors = '{}'")
    elif reason == "tenant_limit":
        fill("acme", jobs.call, 4)
        hand_out()
        job_id = sample.send(jobs.call, key="a")
    else:
        fill("acme", jobs.lease, 3)
        fill("globex", jobs.lease, 3)
        job_id = sample.send(jobs.lease, key="a")

    why = sample.why(job_id)

    assert (why.reason, why.until) == (reason, until)
    assert why.detail.endswith(".")
    assert why.position == (4 if reason == "in_line" else None)


def test_why_gives_no_reason_that_the_relay_does_not_act_on(sample: ServiceUnderTest, hand_out: Round) -> None:
    """A provider that takes no more reads holds no job back, so that is not why one waits."""
    limit(sample, "*", "read")
    job_id = sample.send(jobs.call, key="a")

    assert sample.why(job_id).reason == "in_line"
    assert [job.id for job in hand_out()] == [job_id]


@pytest.mark.parametrize("error", [GiveUp("no_use"), None])
def test_why_of_an_ended_job(sample: ServiceUnderTest, script: Script, error: Any) -> None:
    """What has ended waits for nothing."""
    job = sample.run_job(jobs.scripted, key=script(raising(error) if error else lambda: None))

    assert job.state in FINAL
    assert sample.why(job.id).reason == "finished"
