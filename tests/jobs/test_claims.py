"""Claiming: a message finds its job once, and a job that came back finds its way in."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from shared.jobs.claims import ClaimBatcher
from shared.jobs.liveness import Liveness
from shared.testing.service import ServiceUnderTest
from tests.sample.jobs import lease


@pytest.fixture
def claims(sample: ServiceUnderTest) -> Iterator[ClaimBatcher]:
    """Those of a worker that is registered."""
    liveness = Liveness(sample.database, threads=1, queues=["calls"], actors=["lease"], version="1")
    liveness.start()
    yield ClaimBatcher(sample.database, liveness)
    liveness.stop()


def handed_out(sample: ServiceUnderTest, job_id: uuid.UUID) -> int:
    """Hand a job out as the relay would, whatever state it is in; return its new number."""
    sample.execute("UPDATE jobs SET state = 'queued', dispatch = dispatch + 1 WHERE id = :id", id=job_id)
    return int(sample.job(job_id).dispatch)


def test_a_message_that_comes_twice_is_claimed_once(sample: ServiceUnderTest, claims: ClaimBatcher) -> None:
    job_id = uuid.UUID(lease.send(key="twice").message_id)
    number = handed_out(sample, job_id)
    assert claims.claim(job_id, number) is not None
    assert claims.claim(job_id, number) is None


def test_a_job_is_claimed_anew_while_the_run_that_lost_it_still_ends(
    sample: ServiceUnderTest, claims: ClaimBatcher
) -> None:
    """A worker that was suspended finds, when it comes back, the very job that was taken from it in its line.

    Were the new message dropped for the sake of the old run, the job would wait for half a minute and more.
    """
    job_id = uuid.UUID(lease.send(key="again").message_id)
    old = handed_out(sample, job_id)
    assert claims.claim(job_id, old) is not None
    new = handed_out(sample, job_id)
    claim = claims.claim(job_id, new)
    assert claim is not None
    assert claim.dispatch == new
    # The old run ends; the new one is held against a second message of its own all the same.
    claims.release(job_id, old)
    assert claims.claim(job_id, new) is None
