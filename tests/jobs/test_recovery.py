"""Dead workers: whose jobs are taken over, whose are not, and what that means for the job."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DataError

from shared.db.database import SYSTEM_ROLE
from shared.jobs import liveness as liveness_module
from shared.jobs import recovery
from shared.jobs.actor import Dispatch
from shared.jobs.liveness import LOCK_SPACE
from shared.testing.service import ServiceUnderTest
from tests.jobs.conftest import effects, raising
from tests.sample import jobs

Script = Callable[..., str]

_WORKER = """
INSERT INTO workers (id, host, pid, version, threads, queues, actors, heartbeat_at)
VALUES (:id, 'a host', 1, '0', 1, '{leases}', '{lease}', clock_timestamp() - make_interval(secs => :silent))
"""


@pytest.fixture
def relays(sample: ServiceUnderTest) -> Iterator[psycopg.Connection[Any]]:
    """A connection as the relay has it."""
    with sample.database.connect(role=SYSTEM_ROLE) as connection:
        yield connection


@pytest.fixture(autouse=True)
def _no_restart(monkeypatch: pytest.MonkeyPatch, sample: ServiceUnderTest) -> None:
    # A private server may have been started just now; that has a test of its own.
    monkeypatch.setattr(recovery, "_AFTER_RESTART", 0.0)
    sample.execute("DELETE FROM workers WHERE id < 1000")


def running(sample: ServiceUnderTest, worker_id: int, actor: Any = jobs.lease, **arguments: Any) -> uuid.UUID:
    """Make a job that this worker is running."""
    job_id = sample.send(actor, **(arguments or {"key": "a"}))
    sample.hand_out(job_id)
    sample.execute(
        "UPDATE jobs SET state = 'running', runs = runs + 1, worker_id = :worker, started_at = clock_timestamp() "
        "WHERE id = :id",
        worker=worker_id,
        id=job_id,
    )
    return job_id


def worker(sample: ServiceUnderTest, worker_id: int, silent: float) -> int:
    """Make a worker whose last heartbeat is so many seconds old."""
    sample.execute(_WORKER, id=worker_id, silent=silent)
    return worker_id


def recover(sample: ServiceUnderTest, connection: psycopg.Connection[Any], **options: Any) -> int:
    return recovery.recover(sample.database, connection, sample.app.conclusions, sample.app.actors, **options)


@contextlib.contextmanager
def locked(sample: ServiceUnderTest, worker_id: int) -> Iterator[None]:
    """Hold the lock of a worker, as its process does while it lives."""
    with sample.database.connect(role=SYSTEM_ROLE) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_SPACE, worker_id))
        yield


def test_a_dead_workers_job_runs_again_at_once(sample: ServiceUnderTest, relays: psycopg.Connection[Any]) -> None:
    """Lock free and heartbeat old: the run is recorded as a crash, which counts, and the next is due now."""
    job_id = running(sample, worker(sample, 7, silent=1.5))

    assert recover(sample, relays) == 1

    job = sample.job(job_id)
    assert (job.state, job.outcome, job.waiting_for, job.failures, job.runs) == (
        "scheduled", "crashed", "recovered", 1, 1,
    )  # fmt: skip
    assert job.run_at <= datetime.now(UTC)
    assert [(attempt.outcome, attempt.code, attempt.worker_id) for attempt in sample.attempts(job_id)] == [
        ("crashed", "worker_died", 7)
    ]
    assert sample.query("SELECT 1 FROM workers WHERE id = 7") == []
    assert recover(sample, relays) == 0


@pytest.mark.parametrize(("lock", "silent"), [(True, 2.0), (True, 14.0), (False, 0.5)])
def test_a_live_workers_job_is_left_alone(
    sample: ServiceUnderTest, relays: psycopg.Connection[Any], lock: bool, silent: float
) -> None:
    """The lock held, or the heartbeat fresh: the worker lives."""
    job_id = running(sample, worker(sample, 7, silent))

    with locked(sample, 7) if lock else contextlib.nullcontext():
        assert recover(sample, relays) == 0

    assert sample.job(job_id).state == "running"


def test_a_suspended_worker_is_given_up(sample: ServiceUnderTest, relays: psycopg.Connection[Any]) -> None:
    """A process that stands still keeps its lock; after a while of silence its jobs are taken all the same."""
    job_id = running(sample, worker(sample, 7, silent=16))

    with locked(sample, 7):
        assert recover(sample, relays) == 1

    assert sample.job(job_id).state == "scheduled"


def test_a_worker_that_comes_back_in_this_very_moment_is_left_alone(
    sample: ServiceUnderTest, relays: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a lock that was free when it was looked at, and is held when it counts, the worker lives."""
    job_id = running(sample, worker(sample, 7, silent=1.5))
    seen_as_free = recovery._DEAD.replace("held.objid IS NULL", "true")
    monkeypatch.setattr(recovery, "_DEAD", seen_as_free)

    with locked(sample, 7):
        assert recover(sample, relays) == 0
    monkeypatch.undo()

    assert sample.job(job_id).state == "running"


def test_after_a_restart_of_the_database_workers_get_time_to_come_back(
    sample: ServiceUnderTest, relays: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that restarted has forgotten every lock; that does not mean that all workers are dead."""
    monkeypatch.setattr(recovery, "_AFTER_RESTART", 1e9)
    job_id = running(sample, worker(sample, 7, silent=3))

    assert recover(sample, relays) == 0
    assert sample.job(job_id).state == "running"


def test_a_job_whose_actor_nobody_knows_waits(sample: ServiceUnderTest, relays: psycopg.Connection[Any]) -> None:
    """A crashed job of an actor of another version is not concluded by one that does not know its schedule."""
    job_id = running(sample, worker(sample, 7, silent=2))
    sample.execute("UPDATE jobs SET actor = 'of_tomorrow' WHERE id = :id", id=job_id)

    assert recover(sample, relays) == 0

    assert sample.job(job_id).state == "running"


def test_one_job_that_cannot_be_concluded_does_not_keep_the_others(
    sample: ServiceUnderTest, relays: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an end that the database refuses, the other jobs of the dead worker are taken over."""
    conclusions = sample.app.conclusions
    original = type(conclusions).conclude
    poison = running(sample, worker(sample, 7, silent=2), key="poison")
    other = running(sample, 7, key="other")

    def conclude(declared: Any, claim: Any, *args: Any, **kwargs: Any) -> bool:
        if claim.id == poison:
            raise DataError("INSERT", {}, Exception("no"))
        return original(conclusions, declared, claim, *args, **kwargs)

    monkeypatch.setattr(conclusions, "conclude", conclude)

    assert recover(sample, relays) == 1
    assert sample.job(other).state == "scheduled"


def test_crashes_count_and_the_fourth_is_the_end(
    sample: ServiceUnderTest, relays: psycopg.Connection[Any], script: Script
) -> None:
    """A job that keeps killing its worker is set aside after the fourth crash, with an alert and its hook."""
    states: list[str] = []
    key = script(lambda: None, lambda verdict: states.append(f"{verdict.state} {verdict.code}"))
    job_id = running(sample, worker(sample, 7, silent=2), jobs.scripted, key=key)
    for crash in range(4):
        assert recover(sample, relays) == 1
        if crash < 3:
            assert sample.hand_out(job_id)
            worker(sample, 8 + crash, silent=2)
            sample.execute(
                "UPDATE jobs SET state = 'running', runs = runs + 1, worker_id = :worker WHERE id = :id",
                worker=8 + crash,
                id=job_id,
            )

    job = sample.job(job_id)
    assert (job.state, job.outcome, job.failure["code"]) == ("failed", "crashed", "worker_died")
    assert len(sample.attempts(job_id)) == 4
    assert len(sample.published("backroom.sample.job.failed.v1")) == 1
    assert states == ["failed worker_died"]


def test_what_was_taken_over_cannot_be_completed_by_its_first_worker(
    sample: ServiceUnderTest, relays: psycopg.Connection[Any], script: Script
) -> None:
    """Given a job taken over in the middle of its run, nothing that the run writes afterwards counts."""
    tries: list[str] = []

    def run() -> None:
        sample.outside(lambda: sample.execute("UPDATE workers SET heartbeat_at = now() - interval '1 minute'"))
        assert recover(sample, relays, suspended=5) == 1
        for name, write in (("unit of work", jobs.record), ("completion", complete)):
            try:
                write("too late")
            except Exception as error:
                tries.append(f"{name}: {type(error).__name__}")
        jobs.record("too late as well")

    def complete(key: str) -> None:
        with jobs.completion():
            jobs.record(key)

    job_id = sample.send(jobs.scripted, key=script(run))
    sample.run(job_id)

    assert tries == ["unit of work: Superseded", "completion: Superseded"]
    job = sample.job(job_id)
    assert (job.state, job.runs, effects(sample)) == ("scheduled", 1, [])
    # Run again elsewhere, it counts; what the first run has still to say does not.
    jobs.SCRIPTS[job.arguments["key"]] = lambda: jobs.record("in time")
    assert sample.run(job_id).state == "succeeded"
    assert effects(sample) == ["in time"]


def test_a_message_of_an_older_dispatch_claims_nothing(sample: ServiceUnderTest) -> None:
    """A duplicate, or one that was overtaken, finds nothing to run; both kinds of jobs."""
    for actor in (jobs.write, jobs.lease):
        job_id = sample.send(actor, key=actor.actor_name)
        old = sample.hand_out(job_id)
        sample.execute("UPDATE jobs SET state = 'scheduled' WHERE id = :id", id=job_id)
        new = sample.hand_out(job_id)
        assert old is not None
        assert new == old + 1

        for redelivered in (False, True):
            sample.deliver(Dispatch([(job_id, old)], redelivered))
        assert sample.job(job_id).state == "queued"
        for _ in range(3):
            sample.deliver(Dispatch([(job_id, new)]))

        assert sample.job(job_id).runs == 1
    assert effects(sample) == ["write", "lease"]


def test_a_job_that_runs_far_beyond_its_time_is_taken_from_its_thread(
    sample: ServiceUnderTest, relays: psycopg.Connection[Any]
) -> None:
    """Given a thread that hangs where nothing interrupts it, its job is not `running` for ever."""
    sample.app.liveness.start()
    late = running(sample, sample.app.liveness.worker_id, jobs.overruns, key="a")
    in_time = running(sample, sample.app.liveness.worker_id, jobs.lease, key="b")
    sample.execute("UPDATE jobs SET started_at = clock_timestamp() - interval '2 minutes'")

    assert recovery.overdue(relays, sample.app.conclusions, sample.app.actors) == 1

    assert (sample.job(late).state, sample.job(late).failure["code"]) == ("failed", "took_too_long")
    assert sample.job(in_time).state == "running"


def test_a_worker_without_registration_claims_nothing(
    sample: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker claimed while it is not registered would be taken from it at once: it waits instead."""
    liveness = sample.app.liveness
    liveness.start()
    assert liveness.identity() == liveness.worker_id

    job_id = sample.send(jobs.lease, key="a")
    number = sample.hand_out(job_id)
    assert number is not None
    with monkeypatch.context() as patch:
        # As if the last heartbeat were too long ago.
        patch.setattr(liveness_module, "_CONFIRMED", -1.0)
        with pytest.raises(psycopg.OperationalError, match="not registered"):
            sample.app.runner.claims.claim(job_id, number)
    # Once it is confirmed the same claim succeeds.
    sample.deliver(Dispatch([(job_id, number)]))
    assert sample.job(job_id).state == "succeeded"


def test_a_worker_that_was_declared_dead_goes_on_under_a_new_id(sample: ServiceUnderTest) -> None:
    """Given a worker that the relay gave up, its next heartbeat finds out, and what it claims then stands."""
    liveness = sample.app.liveness
    liveness.start()
    before = liveness.worker_id

    sample.execute("DELETE FROM workers")
    sample.wait_until(lambda: liveness.worker_id not in (0, before), what="a new id")

    assert sample.run_job(jobs.lease, key="a").worker_id == liveness.worker_id


def test_the_list_of_workers_is_cleaned(sample: ServiceUnderTest, relays: psycopg.Connection[Any]) -> None:
    """A worker that died with nothing in its hands leaves the list; one that beats stays."""
    worker(sample, 7, silent=60)
    worker(sample, 8, silent=1)

    recover(sample, relays)

    assert sample.query("SELECT id FROM workers WHERE id < 1000") == [(8,)]


def test_a_failed_hook_of_a_crashed_job_may_raise(
    sample: ServiceUnderTest, relays: psycopg.Connection[Any], script: Script
) -> None:
    """Recovery, too, ends a job whose hook raises."""
    key = script(lambda: None, lambda _: raising(RuntimeError("broken hook"))())
    job_id = running(sample, worker(sample, 7, silent=2), jobs.scripted, key=key)
    sample.execute("UPDATE jobs SET failures = 3")

    assert recover(sample, relays) == 1
    assert sample.job(job_id).state == "failed"


def test_jobs_that_died_together_run_apart(sample: ServiceUnderTest, relays: psycopg.Connection[Any]) -> None:
    """One poisonous job does not take its neighbors along four times: what crashed before is not run all at once."""
    ids = [running(sample, worker(sample, 7, silent=2), key="k0"), *(running(sample, 7, key=f"k{n}") for n in (1, 2))]
    assert recover(sample, relays) == 3
    together = {sample.job(job_id).run_at.replace(microsecond=0) for job_id in ids}
    assert len(together) <= 2, "after the first crash all go on at once: most crashes are nobody's fault"

    worker(sample, 8, silent=2)
    sample.execute("UPDATE jobs SET state = 'running', runs = runs + 1, worker_id = 8, started_at = now()")
    assert recover(sample, relays) == 3

    times = sorted(sample.job(job_id).run_at for job_id in ids)
    assert [round((later - times[0]).total_seconds()) for later in times] == [0, 3, 6]


def test_a_number_that_was_given_out_twice_lets_one_worker_write(sample: ServiceUnderTest, script: Script) -> None:
    """Given a crash of the database that undid a dispatch whose run goes on, only the worker of the row may write."""
    tries: list[str] = []

    def run() -> None:
        # What the next dispatch, of the same number, looks like once another worker has claimed it.
        sample.outside(lambda: sample.execute("UPDATE jobs SET worker_id = 7"))
        for write in (jobs.record, complete, progress):
            try:
                write("twice")
            except Exception as error:
                tries.append(type(error).__name__)

    def complete(key: str) -> None:
        with jobs.completion():
            jobs.record(key)

    def progress(key: str) -> None:
        jobs.current_job().progress(1, message=key)

    job = sample.run_job(jobs.scripted, key=script(run))

    assert tries == ["Superseded"] * 3
    assert (job.state, job.worker_id, effects(sample)) == ("running", 7, [])
