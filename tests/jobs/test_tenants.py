"""The wall between tenants holds jobs too, whatever the code above it does."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from shared.context import SYSTEM, current, use
from shared.db import unit_of_work
from shared.jobs import actor, completion, current_job, operations
from shared.jobs.record import Finished, done
from shared.testing.service import ServiceUnderTest
from tests.jobs.conftest import effects
from tests.sample import jobs

Script = Callable[..., str]


@pytest.fixture
def theirs(sample: ServiceUnderTest) -> uuid.UUID:
    """A job of another tenant than the test's."""
    return sample.send(jobs.write, key="theirs", tenant_id="globex")


def test_a_tenant_reaches_its_own_jobs_only(sample: ServiceUnderTest, theirs: uuid.UUID) -> None:
    """To look at, cancel, retry or ask about another tenant's job answers that there is none."""
    with unit_of_work() as session:
        for operation in (operations.cancel, operations.retry, operations.why):
            with pytest.raises(operations.NoSuchJob):
                operation(session, theirs)
        assert not operations.hasten(session, theirs)
    assert sample.job(theirs).state == "scheduled"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM jobs",
        "UPDATE jobs SET state = 'queued' RETURNING id",
        "UPDATE jobs SET priority = 0 WHERE id = :id RETURNING id",
        "DELETE FROM jobs RETURNING id",
        "SELECT job_id FROM job_attempts",
        "SELECT id FROM outbox",
    ],
)
def test_the_wall_holds_without_any_filter(sample: ServiceUnderTest, statement: str) -> None:
    """SQL without any condition on the tenant finds nothing of another one."""
    theirs = sample.run_job(jobs.refuse, key="theirs", tenant_id="globex")
    assert sample.published()

    with unit_of_work() as session:
        assert session.execute(text(statement), {"id": theirs.id}).all() == []

    assert sample.job(theirs.id).state == "failed"


def test_a_tenant_cannot_write_for_another(sample: ServiceUnderTest, theirs: uuid.UUID) -> None:
    """A row for another tenant, or moved to another tenant, is refused by the database."""
    with pytest.raises(ProgrammingError, match="row-level security"), unit_of_work():
        jobs.write.send_with_options(kwargs={"key": "a"}, tenant_id="globex")
    mine = sample.send(jobs.write, key="mine")
    with pytest.raises(ProgrammingError, match="row-level security"), unit_of_work() as session:
        session.execute(text("UPDATE jobs SET tenant_id = 'globex' WHERE id = :id"), {"id": mine})


def test_a_tenant_cannot_complete_anothers_job(sample: ServiceUnderTest, theirs: uuid.UUID) -> None:
    """The statement that completes jobs, run under a tenant, completes none of another one."""
    number = sample.hand_out(theirs)
    assert number is not None
    job = sample.job(theirs)

    with unit_of_work() as session:
        assert done(session.connection(), [Finished(theirs, number, 1, job.run_at, job.run_at)]) == set()

    assert sample.job(theirs).state == "queued"


def test_a_tenant_cannot_touch_what_belongs_to_nobody(sample: ServiceUnderTest) -> None:
    """Queues, workers and schedules may be read and not written by the app's role."""
    for table in ("queues", "workers", "schedules", "circuits", "rate_limits"):
        with pytest.raises(ProgrammingError, match="permission denied"), unit_of_work() as session:
            session.execute(text(f"DELETE FROM {table}"))


def test_only_the_system_may_look_over_the_wall(sample: ServiceUnderTest) -> None:
    """Asking for all tenants from within one is refused."""
    with use(tenant_id="acme"), pytest.raises(RuntimeError, match="SYSTEM"), unit_of_work(system=True):
        pass


def test_each_job_of_a_chunk_runs_behind_its_own_wall(sample: ServiceUnderTest, script: Script) -> None:
    """Jobs of several tenants in one transaction see each only what is their tenant's, and write for it."""
    seen: dict[str | None, list[str]] = {}

    def look() -> None:
        with unit_of_work() as session:
            jobs.record(f"of {current().tenant_id}")
            seen[current().tenant_id] = list(session.scalars(text("SELECT DISTINCT tenant_id FROM done")))

    tenants = ["acme", "globex", "initech"]
    ids = [sample.send(jobs.scripted_here, key=script(look), tenant_id=tenant) for tenant in tenants * 2]
    sample.run(*ids)

    assert seen == {tenant: [tenant] for tenant in tenants}
    assert sorted(effects(sample)) == sorted(f"of {tenant}" for tenant in tenants * 2)
    assert {job.state for job in sample.jobs()} == {"succeeded"}


def test_a_sweep_works_in_the_tenants_one_by_one(sample: ServiceUnderTest, script: Script) -> None:
    """A leased job of the system may open units of work of tenants; its fence and its progress hold there too."""

    def sweep() -> None:
        for number, tenant in enumerate(("acme", "globex")):
            with use(tenant_id=tenant), unit_of_work():
                jobs.record(f"swept {tenant}")
                current_job().progress(number + 1, 2)
        with use(tenant_id="acme"), completion():
            jobs.record("the end")

    job = sample.run_job(jobs.scripted, key=script(sweep), tenant_id=SYSTEM)

    assert (job.state, job.progress["done"]) == ("succeeded", 2)
    assert sample.query("SELECT tenant_id, key FROM done ORDER BY id") == [
        ("acme", "swept acme"),
        ("globex", "swept globex"),
        ("acme", "the end"),
    ]


def test_a_sweep_that_was_taken_over_writes_nothing_for_a_tenant(sample: ServiceUnderTest, script: Script) -> None:
    """The fence of a job of the system holds in the units of work of tenants."""

    def sweep() -> None:
        sample.execute("UPDATE jobs SET dispatch = dispatch + 1")
        with use(tenant_id="acme"), unit_of_work():
            jobs.record("too late")

    sample.run_job(jobs.scripted, key=script(sweep), tenant_id=SYSTEM)

    assert effects(sample) == []


def test_pooled_connections_carry_no_tenant_over(sample: ServiceUnderTest) -> None:
    """Whichever connection of the pool a unit of work gets, it sees its own tenant only."""

    def mine(number: int) -> set[str]:
        tenant = f"t{number % 5}"
        seen: set[str] = set()
        for _ in range(20):
            with use(tenant_id=tenant), unit_of_work() as session:
                jobs.record(f"{tenant}")
                seen |= set(session.scalars(text("SELECT DISTINCT tenant_id FROM done")))
        return seen

    assert sample.concurrently(10, mine) == [{f"t{number % 5}"} for number in range(10)]


def test_actors_are_checked_when_declared() -> None:
    """A time limit beyond what RabbitMQ grants a message is refused."""
    with pytest.raises(ValueError, match="time_limit"):

        @actor(time_limit=1800)
        def endless() -> None: ...
