"""Transactional jobs that travel together: one commit for all, and no one pays for another's failure."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from dramatiq.middleware import TimeLimitExceeded

from shared.db import unit_of_work
from shared.jobs import GiveUp, Retry, Skip
from shared.jobs.actor import Dispatch
from shared.jobs.runner import CHUNK
from shared.testing.service import ServiceUnderTest
from tests.jobs.conftest import effects
from tests.sample import jobs

Script = Callable[..., str]


def send_chunk(sample: ServiceUnderTest, script: Script, does: Callable[[int], Any]) -> list[uuid.UUID]:
    """Send a full chunk; each job writes its effect, then does what belongs to its number."""

    def work(number: int) -> Any:
        jobs.record(f"job {number}")
        return does(number)

    return [sample.send(jobs.scripted_here, key=script(lambda n=n: work(n))) for n in range(CHUNK)]


def test_a_chunk_is_one_commit(sample: ServiceUnderTest, script: Script) -> None:
    """All jobs of a message are done in one transaction: they show the same one, and each is there once."""

    def transaction(_: int) -> int:
        with unit_of_work() as session:
            return int(session.connection().exec_driver_sql("SELECT pg_current_xact_id()::text").scalar_one())

    ids = send_chunk(sample, script, transaction)

    sample.run(*ids)

    done = sample.jobs(state="succeeded")
    assert len(done) == CHUNK
    assert len({job.result for job in done}) == 1
    assert sorted(effects(sample)) == sorted(f"job {number}" for number in range(CHUNK))


@pytest.mark.parametrize(
    "error", [Retry("broken"), GiveUp("no_use"), ZeroDivisionError()], ids=["retry", "give up", "bug"]
)
def test_one_failing_of_a_chunk_leaves_the_others_exactly_once(
    sample: ServiceUnderTest, script: Script, error: Exception
) -> None:
    """Given one of 25 that fails, 24 effects happen exactly once, and its own not at all."""

    def does(number: int) -> None:
        if number == 13:
            raise error

    sample.run(*send_chunk(sample, script, does))

    assert Counter(effects(sample)) == Counter(f"job {number}" for number in range(CHUNK) if number != 13)
    assert len(sample.jobs(state="succeeded")) == CHUNK - 1
    assert [job.runs for job in sample.jobs()] == [1] * CHUNK


def test_a_skip_costs_the_chunk_nothing(sample: ServiceUnderTest, script: Script) -> None:
    """A job with nothing to do is done, with its reason, in the commit of the others."""

    def does(number: int) -> None:
        if number % 2:
            raise Skip("already_done")

    sample.run(*send_chunk(sample, script, does))

    assert Counter(job.outcome for job in sample.jobs()) == {"done": 13, "skipped": 12}


def test_a_chunk_delivered_twice_happens_once(sample: ServiceUnderTest, script: Script) -> None:
    """A duplicate of a message, even at the same time, finds nothing to do."""
    ids = send_chunk(sample, script, lambda _: None)
    numbers = [sample.hand_out(job_id) or 0 for job_id in ids]
    dispatch = list(zip(ids, numbers, strict=True))
    sample.app.liveness.start() if not sample.app.liveness.worker_id else None

    sample.concurrently(4, lambda _: sample.deliver(Dispatch(dispatch)))
    sample.deliver(Dispatch(dispatch, redelivered=True))

    assert max(Counter(effects(sample)).values()) == 1
    assert len(effects(sample)) == CHUNK


def test_the_time_limit_strikes_one_and_not_the_rest(sample: ServiceUnderTest, script: Script) -> None:
    """Given a job of a chunk that takes too long, it alone has failed; the others are done."""

    def does(number: int) -> None:
        if number == 3:
            raise TimeLimitExceeded

    ids = send_chunk(sample, script, does)
    sample.run(*ids)
    for job_id in ids:
        # The message was handed back after the limit had struck, and comes again.
        sample.deliver(Dispatch([(job_id, sample.job(job_id).dispatch)], redelivered=True))

    assert Counter(job.state for job in sample.jobs()) == {"succeeded": CHUNK - 1, "scheduled": 1}
    assert max(Counter(effects(sample)).values()) == 1


def test_a_claim_that_could_not_be_made_runs_nothing(
    sample: ServiceUnderTest, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a database that is away at the claim, the actor does not run, and the message is handed back."""
    job_id = sample.send(jobs.scripted, key=script(lambda: jobs.record("unclaimed")))
    number = sample.hand_out(job_id)
    assert number is not None
    runner, tries = sample.app.runner, []

    def claim(*_: object) -> None:
        tries.append(1)
        if len(tries) == 3:
            runner.stopping.set()
        raise psycopg.OperationalError("the database is away")

    dispatch = Dispatch([(job_id, number)])
    with monkeypatch.context() as patch:
        patch.setattr(runner.claims, "claim", claim)
        runner.run(jobs.scripted, dispatch)
    runner.stopping.clear()

    assert dispatch.requeue
    assert effects(sample) == []
    assert sample.job(job_id).state == "queued"


def test_a_transactional_job_may_not_call_out(sample: ServiceUnderTest, script: Script) -> None:
    """Its transaction is open meanwhile; the attempt to connect fails, and says why."""
    import socket

    def call() -> None:
        socket.create_connection(("127.0.0.1", 9), timeout=1)

    job = sample.run_job(jobs.scripted_here, key=script(call))

    assert "transactional job touches its own database only" in sample.attempts(job.id)[0].detail
