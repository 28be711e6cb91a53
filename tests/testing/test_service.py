"""What `shared.testing.service` promises to the tests of services."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from shared.testing.service import NotInTime, ServiceUnderTest, wait_until
from tests.sample import jobs
from tests.sample.service import service

Make = Callable[..., ServiceUnderTest]


def test_run_job_runs_it_here_and_now(service_app: Make) -> None:
    """A job runs in the test's thread, through the real claim and completion, with no relay and no broker."""
    sample = service_app(service)

    job = sample.run_job(jobs.lease, key="a")

    assert (job.state, job.result) == ("succeeded", {"key": "a"})
    assert [attempt.outcome for attempt in sample.attempts(job.id)] == ["done"]


def test_drain_without_a_worker_does_not_wait_for_what_is_due_later(service_app: Make) -> None:
    """All jobs run, retries included, although the last retry is due in an hour."""
    sample = service_app(service, retry_scale=100)
    sample.send(jobs.call_fails, key="a")

    sample.drain()

    (job,) = sample.jobs(actor="call_fails")
    assert (job.state, job.runs) == ("failed", 4)
    assert [event.data["code"] for event in sample.published("backroom.sample.job.failed.v1")] == ["broken"]


@pytest.mark.parametrize("transport", ["embedded", "rabbitmq"])
def test_start_runs_worker_and_relay(service_app: Make, transport: str) -> None:
    """With a worker and a relay started, jobs run by themselves over either transport."""
    sample = service_app(service, transport)
    sample.start()

    for number in range(10):
        sample.send(jobs.write, key=f"k{number}", tenant_id=f"t{number % 3}")

    sample.drain()
    assert len(sample.jobs(state="succeeded")) == 10
    assert {job.tenant_id for job in sample.jobs()} == {"t0", "t1", "t2"}


def test_worker_process_is_the_real_thing(service_app: Make) -> None:
    """A worker process of its own runs jobs, and can be killed."""
    sample = service_app(service, "rabbitmq")

    with sample.worker_process() as process:
        job = sample.send(jobs.write, key="a")
        assert sample.wait_for(job).state == "succeeded"
        assert process.workers
        process.kill()

    assert process.master.returncode != 0


def test_advance_makes_due_what_waits(service_app: Make) -> None:
    """Time passes for scheduled jobs without anybody waiting for it."""
    sample = service_app(service)
    job = uuid.UUID(jobs.write.send_with_options(kwargs={"key": "a"}, delay=3_600_000).message_id)
    sample.start()

    sample.advance(3601)

    assert sample.wait_for(job).state == "succeeded"


def test_concurrently_passes_on_what_a_thread_raised(service_app: Make) -> None:
    """What one of the threads raised fails the test."""
    sample = service_app(service)

    assert sample.concurrently(3, lambda number: number * 2) == [0, 2, 4]
    with pytest.raises(ZeroDivisionError):
        sample.concurrently(2, lambda number: 1 / number)


def test_wait_until_names_what_did_not_come() -> None:
    """A wait in vain fails with what was waited for."""
    with pytest.raises(NotInTime, match="the train"):
        wait_until(lambda: False, 0.05, "the train")


def test_run_refuses_what_is_not_scheduled(service_app: Make) -> None:
    """A job that has ended cannot be run once more by mistake."""
    sample = service_app(service)
    job = sample.run_job(jobs.write, key="a")

    with pytest.raises(AssertionError, match="succeeded"):
        sample.run(job.id)
