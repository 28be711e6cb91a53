"""Real worker processes over real RabbitMQ and PostgreSQL: killed, suspended, cut off, restarted, told to stop."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from shared.db.database import SYSTEM_ROLE
from shared.jobs import recovery
from shared.testing.postgres import PrivatePostgres
from shared.testing.proxy import TcpProxy
from shared.testing.servers import ServerMissing, postgres_server, skip_or_fail
from shared.testing.service import ServiceUnderTest, Templates
from tests.benchmarks import recovery as recovery_bench
from tests.jobs.conftest import effects
from tests.sample import jobs
from tests.sample.service import service


def let_go(sample: ServiceUnderTest, key: str) -> None:
    """Let a job that holds on to its worker finish."""
    sample.execute("INSERT INTO done (tenant_id, key) VALUES ('acme', :key)", key=f"let go:{key}")


def outcomes(sample: ServiceUnderTest, job_id: uuid.UUID) -> list[str]:
    return [attempt.outcome for attempt in sample.attempts(job_id)]


def test_kill_and_run_elsewhere(rabbit_sample: ServiceUnderTest) -> None:
    """From kill -9 of a worker to its job running elsewhere: below two seconds, with slack for a busy machine."""
    figures = recovery_bench.measure(rabbit_sample, 2)

    assert figures["wrong"] == 0
    assert figures["max"] < 10


def test_a_suspended_worker_cannot_complete_what_was_taken_from_it(rabbit_sample: ServiceUnderTest) -> None:
    """Given a worker that stands still (SIGSTOP) until its job runs elsewhere, what it says afterwards is refused."""
    sample = rabbit_sample
    # RabbitMQ, too, has to notice that the worker does not answer: what it sent there comes to nobody until then.
    settings = {"suspended_seconds": 3, "broker_url": f"{sample.broker_url}?heartbeat=2"}
    with sample.worker_process(**settings) as first:
        job_id = sample.send(jobs.hold, key="a")
        before = sample.wait_for(job_id, "running")
        with sample.worker_process(**settings):
            first.signal_workers(signal.SIGSTOP)

            def elsewhere() -> Any:
                job = sample.job(job_id)
                return job.state == "running" and job.worker_id != before.worker_id

            sample.wait_until(elsewhere, 60, "the job to run elsewhere")
            first.signal_workers(signal.SIGCONT)
            # Both go on now, and both find that they may finish.
            let_go(sample, "a")
            job = sample.wait_for(job_id, "succeeded")
            sample.wait_until(lambda: len(first.workers) == 1, what="the first worker to register itself anew")
            assert sample.wait_for(sample.send(jobs.write, key="b")).state == "succeeded"

    assert job.worker_id != before.worker_id
    assert outcomes(sample, job_id) == ["crashed", "done"]
    assert sorted(effects(sample)) == ["a", "b", "let go:a"]


def test_a_job_that_kills_its_worker_is_set_aside(rabbit_sample: ServiceUnderTest) -> None:
    """Leased or transactional, a job that kills every worker ends as failed, with one alert; its neighbors are done."""
    sample = rabbit_sample
    poison = [sample.send(jobs.kill_worker, key="a"), sample.send(jobs.kill_worker_leased, key="b")]
    neighbors = [sample.send(jobs.write, key=f"n{number}") for number in range(5)]

    for _ in range(16):
        with sample.worker_process(ready=False) as process:
            ended = sample.wait_until(
                lambda: (
                    all(sample.job(job_id).state == "failed" for job_id in poison) or process.master.poll() is not None
                ),
                60,
            )
        assert ended
        if all(sample.job(job_id).state == "failed" for job_id in poison):
            break

    for job_id in poison:
        job = sample.job(job_id)
        assert (job.state, job.failure["code"], job.runs) == ("failed", "worker_died", 2)
        assert outcomes(sample, job_id) == ["crashed"] * 2
    assert len(sample.published("backroom.sample.job.failed.v1")) == 2
    with sample.worker_process():
        for job_id in neighbors:
            sample.wait_for(job_id, "succeeded")
    assert sorted(effects(sample)) == [f"n{number}" for number in range(5)]


def test_told_to_stop_it_hands_back_what_does_not_end(rabbit_sample: ServiceUnderTest) -> None:
    """SIGTERM: a job that does not end in its time goes back, and the interruption burns no attempt."""
    sample = rabbit_sample
    job_id = sample.send(jobs.hold, key="a")
    with sample.worker_process(shutdown_seconds=1) as process:
        sample.wait_for(job_id, "running")
        process.stop()

    job = sample.job(job_id)
    assert (job.state, job.waiting_for, job.runs, job.failures) == ("scheduled", "shutdown", 0, 0)
    assert outcomes(sample, job_id) == []
    assert sample.query("SELECT 1 FROM workers") == []


def test_cut_off_from_the_database_a_live_worker_keeps_its_job(rabbit_sample: ServiceUnderTest) -> None:
    """Given every connection to PostgreSQL cut, again and again, the worker comes back in time: no job runs twice."""
    sample = rabbit_sample
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(sample.database_url))
        stack.enter_context(sample.worker_process(database_url=f"{proxy.url}?application_name={{service}}"))
        job_id = sample.send(jobs.hold, key="a")
        first = sample.wait_for(job_id, "running")
        for _ in range(3):
            beat = heartbeat(sample)
            assert proxy.drop_all() > 0
            sample.wait_until(lambda beat=beat: heartbeat(sample) > beat, what="the worker to be back")  # type: ignore[misc]
        # Enough rounds of the relay that it would have taken the job over by now.
        beat = heartbeat(sample)
        sample.wait_until(lambda: (heartbeat(sample) - beat).total_seconds() > recovery.GRACE + 1)
        let_go(sample, "a")
        job = sample.wait_for(job_id)

    # Cut off it may also find its connection gone in the middle of a query, which puts it off, unburnt.
    assert (job.state, job.runs) == ("succeeded", 1)
    assert "crashed" not in outcomes(sample, job_id)
    assert job.worker_id == first.worker_id
    assert effects(sample).count("a") == 1


def heartbeat(sample: ServiceUnderTest) -> Any:
    return sample.query("SELECT max(heartbeat_at) FROM workers")[0][0]


@pytest.fixture(scope="module")
def private_postgres() -> Iterator[PrivatePostgres]:
    """A PostgreSQL that may be restarted and crashed."""
    try:
        server = postgres_server(private=True)
    except ServerMissing as missing:
        skip_or_fail(missing)
    with server:
        yield server


@pytest.fixture
def restartable(private_postgres: PrivatePostgres) -> Iterator[ServiceUnderTest]:
    templates = Templates(private_postgres)
    with templates.fresh(service) as url, ServiceUnderTest(service, url) as sample:
        yield sample
    templates.close()


@pytest.mark.parametrize("how", ["restart", "kill", "crash"])
def test_the_database_comes_and_goes(
    private_postgres: PrivatePostgres, restartable: ServiceUnderTest, how: str
) -> None:
    """Restarted, killed, or crashed and recovered by itself, the database has forgotten all locks: nobody is dead."""
    sample = restartable
    sample.start()
    ids = [sample.send(jobs.patient, key=f"k{number}", seconds=4) for number in range(3)]
    for job_id in ids:
        sample.wait_for(job_id, "running")
    workers = sample.query("SELECT id FROM workers")

    if how == "restart":
        private_postgres.restart()
    elif how == "kill":
        private_postgres.kill()
        private_postgres.start()
    else:
        # A backend that dies makes the server end all the others and recover, without a restart of its own.
        victim = sample.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() LIMIT 1"
        )
        os.kill(victim[0].pid, signal.SIGKILL)
    sample.database.dispose()

    for job_id in ids:
        job = waited(sample, job_id)
        assert (job.state, job.runs) == ("succeeded", 1)
        assert outcomes(sample, job_id) == ["done"]
    assert sorted(effects(sample)) == ["k0", "k1", "k2"]
    assert sample.query("SELECT id FROM workers") == workers


def waited(sample: ServiceUnderTest, job_id: uuid.UUID) -> Any:
    """Wait for a job over an outage of the database."""

    def ended() -> Any:
        try:
            job = sample.job(job_id)
        except Exception:
            return None
        return job if job.state in ("succeeded", "failed", "cancelled") else None

    return sample.wait_until(ended, 60, "the job to end")


def test_recovered_by_itself_the_database_has_forgotten_locks_too(
    private_postgres: PrivatePostgres, restartable: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that crashed and recovered keeps its start time, and yet its workers get time to come back."""
    sample = restartable
    job_id = sample.send(jobs.lease, key="a")
    sample.hand_out(job_id)
    sample.execute("UPDATE jobs SET state = 'running', worker_id = 7, started_at = clock_timestamp()")
    old_enough = "SELECT clock_timestamp() - pg_postmaster_start_time() > interval '5 seconds'"
    sample.wait_until(lambda: sample.query(old_enough)[0][0], what="the server to have run for a while")
    os.kill(sample.query("SELECT pid FROM pg_stat_activity WHERE datname = current_database() LIMIT 1")[0][0], 9)

    def back() -> bool:
        sample.database.dispose()
        try:
            return bool(sample.query("SELECT true"))
        except DBAPIError:
            return False

    sample.wait_until(back, what="the database to be back")
    sample.execute(
        "INSERT INTO workers (id, host, pid, version, threads, queues, actors, heartbeat_at) VALUES "
        "(7, 'a host', 1, '0', 1, '{}', '{}', clock_timestamp() - interval '3 seconds')"
    )
    with sample.database.connect(role=SYSTEM_ROLE) as connection:
        for restarted_within, taken in ((4.5, 0), (0.0, 1)):
            monkeypatch.setattr(recovery, "_AFTER_RESTART", restarted_within)
            found = recovery.recover(sample.database, connection, sample.app.conclusions, sample.app.actors)
            assert found == taken, restarted_within
