"""Long jobs: progress that is true, slices, checkpoints, and parents of many children."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from shared.db import unit_of_work
from shared.jobs import current, current_job, fan_out
from shared.jobs.outcomes import Cancelled
from shared.jobs.verdict import Verdict
from shared.testing.service import ServiceUnderTest
from tests.jobs.conftest import effects
from tests.sample import jobs

Script = Callable[..., str]


def in_pieces(total: int, between: Callable[[int], None] = lambda _: None) -> Callable[[], dict[str, int]]:
    """Return a job that writes so many pieces, each with its progress in one commit."""

    def work() -> dict[str, int]:
        job = current_job()
        for number in range(job.checkpoint.get("number", 0), total):
            with unit_of_work():
                jobs.record(f"piece {number}")
                job.progress(number + 1, total, unit="pieces", checkpoint={"number": number + 1})
            between(number)
            job.breathe()
        return {"pieces": total}

    return work


def pieces(count: int) -> Counter[str]:
    return Counter(f"piece {number}" for number in range(count))


def test_progress_is_in_the_commit_of_the_batch(sample: ServiceUnderTest, script: Script) -> None:
    """What is rolled back was not progress; the row says how far the job really is."""

    class Undone(Exception):
        pass

    def work() -> None:
        job = current_job()
        with unit_of_work():
            jobs.record("a")
            job.progress(1, 2, unit="rows", message="half way", checkpoint={"row": 1})
        with unit_of_work():
            jobs.record("b")
            job.progress(2, 2, checkpoint={"row": 2})
            raise Undone

    job = sample.run_job(jobs.scripted, key=script(work))

    assert (job.progress["done"], job.progress["total"], job.progress["unit"]) == (1, 2, "rows")
    assert (job.checkpoint, effects(sample)) == ({"row": 1}, ["a"])


def test_slices(sample: ServiceUnderTest, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long job hands itself on after each slice, burns no attempt, and counts nothing twice."""
    monkeypatch.setattr(current, "SLICE", -1.0)
    job_id = sample.send(jobs.scripted, key=script(in_pieces(4)))

    states = [(sample.run(job_id).state, sample.job(job_id).progress["done"]) for _ in range(4)]

    # The last piece is followed by one more breath, and then there is nothing left to do.
    assert states == [("scheduled", 1), ("scheduled", 2), ("scheduled", 3), ("scheduled", 4)]
    job = sample.run(job_id)
    assert (job.state, job.runs, job.deferrals) == ("succeeded", 1, 4)
    assert Counter(effects(sample)) == pieces(4)


def test_a_crash_resumes_at_the_last_batch(sample: ServiceUnderTest, script: Script) -> None:
    """Given a run that is taken over in the middle, the next goes on from the last commit, counting nothing twice."""

    def taken_over(number: int) -> None:
        if number == 2:
            sample.outside(
                lambda: sample.execute("UPDATE jobs SET state = 'scheduled', failures = 1 WHERE state = 'running'")
            )

    job_id = sample.send(jobs.scripted, key=script(in_pieces(6, taken_over)))
    sample.run(job_id)
    assert Counter(effects(sample)) == pieces(3)

    assert sample.run(job_id).state == "succeeded"
    assert Counter(effects(sample)) == pieces(6)


def test_shutdown_between_batches_burns_nothing(sample: ServiceUnderTest, script: Script) -> None:
    """Asked to stop for a deploy, a long job goes back at its next breath, and goes on from there."""
    stopping = sample.app.runner.stopping
    job_id = sample.send(jobs.scripted, key=script(in_pieces(4, lambda n: stopping.set() if n == 1 else None)))

    job = sample.run(job_id)
    assert (job.state, job.waiting_for, job.runs, job.progress["done"]) == ("scheduled", "shutdown", 0, 2)

    stopping.clear()
    jobs.SCRIPTS[job.arguments["key"]] = in_pieces(4)
    assert (sample.run(job_id).state, sample.job(job_id).runs) == ("succeeded", 1)
    assert Counter(effects(sample)) == pieces(4)


def test_cancel_between_batches(sample: ServiceUnderTest, script: Script) -> None:
    """A running job that is asked to stop does so at its next breath; what was done stays done."""
    verdicts: list[Verdict] = []
    ids: list[uuid.UUID] = []

    def between(number: int) -> None:
        if number == 1:
            sample.cancel(ids[0])

    ids.append(sample.send(jobs.scripted, key=script(in_pieces(9, between), verdicts.append)))
    job = sample.run(ids[0])

    # Seen with the progress of the following batch.
    assert (job.state, job.progress["done"]) == ("cancelled", 3)
    assert [verdict.state for verdict in verdicts] == ["cancelled"]
    assert Counter(effects(sample)) == pieces(3)


# -- parents and children -------------------------------------------------------------------------------


def parent(script: Script, children: int, kind: Any = jobs.write) -> str:
    """Write a parent over so many children."""
    return script(lambda: fan_out(kind, [{"key": f"k{number}"} for number in range(children)], unit="keys"))


def test_fan_out(sample: ServiceUnderTest, script: Script) -> None:
    """A parent makes its children once, waits for them unburnt, shows how many have ended, and ends with the counts."""
    job_id = sample.send(jobs.scripted, key=parent(script, 5))

    job = sample.run(job_id)
    assert (job.state, job.waiting_for, job.progress["done"], job.progress["total"]) == (
        "scheduled", "waiting_for_children", 0, 5,
    )  # fmt: skip
    children = sample.jobs(parent_id=job_id)
    assert [child.origin for child in children] == ["job"] * 5
    sample.run(children[0].id)
    assert sample.run(job_id).progress["done"] == 1
    sample.drain()

    job = sample.job(job_id)
    assert (job.state, job.runs) == ("succeeded", 1)
    assert job.result == {"total": 5, "succeeded": 5, "failed": 0, "cancelled": 0}
    assert Counter(effects(sample)) == Counter(f"k{number}" for number in range(5))


def test_failing_children_are_counted_and_alert_by_themselves(sample: ServiceUnderTest, script: Script) -> None:
    """A parent succeeds with failed children in its counts: each of those has its own alert."""
    job_id = sample.send(jobs.scripted, key=parent(script, 3, jobs.refuse))

    sample.drain()

    assert sample.job(job_id).result == {"total": 3, "succeeded": 0, "failed": 3, "cancelled": 0}
    assert len(sample.published("backroom.sample.job.failed.v1")) == 3


def test_a_parent_that_crashes_while_it_makes_children_makes_none_twice(
    sample: ServiceUnderTest, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a parent whose checkpoint was lost, its children are the ones that it has already."""
    job_id = sample.send(jobs.scripted, key=parent(script, 4))
    sample.run(job_id)
    sample.execute("UPDATE jobs SET checkpoint = NULL WHERE id = :id", id=job_id)

    sample.run(job_id)
    sample.drain()

    assert Counter(effects(sample)) == Counter(f"k{number}" for number in range(4))


@pytest.mark.parametrize("when", ["between its runs", "while it runs"])
def test_cancelling_a_parent_cancels_its_children(sample: ServiceUnderTest, script: Script, when: str) -> None:
    """The children that have not begun are cancelled with it, hooks included; those that are done stay done."""
    ids: list[uuid.UUID] = []

    def work() -> Any:
        if when == "while it runs" and sample.jobs(parent_id=ids[0]):
            sample.cancel(ids[0])
        return fan_out(jobs.call_fails, [{"key": f"k{number}"} for number in range(4)])

    ids.append(sample.send(jobs.scripted, key=script(work)))
    sample.run(ids[0])
    first = sample.jobs(parent_id=ids[0])[0]
    sample.execute("UPDATE jobs SET state = 'succeeded', finished_at = now() WHERE id = :id", id=first.id)

    if when == "while it runs":
        assert sample.run(ids[0]).state == "cancelled"
    else:
        sample.cancel(ids[0])
    sample.drain(queues=["default"])

    assert sample.job(ids[0]).state == "cancelled"
    assert Counter(child.state for child in sample.jobs(parent_id=ids[0])) == {"cancelled": 3, "succeeded": 1}
    assert sorted(effects(sample)) == [f"failed:k{number}:cancelled" for number in (1, 2, 3)]


def test_a_grandchild_is_cancelled_too(sample: ServiceUnderTest, script: Script) -> None:
    """Cancelling goes down the whole tree."""
    inner = parent(script, 2)
    outer = script(lambda: fan_out(jobs.scripted, [{"key": inner}]))
    job_id = sample.send(jobs.scripted, key=outer)
    sample.run(job_id)
    (child,) = sample.jobs(parent_id=job_id)
    sample.run(child.id)

    sample.cancel(job_id)
    sample.drain(queues=["default"])

    assert {job.state for job in sample.jobs(actor="scripted")} == {"cancelled"}
    assert [job.state for job in sample.jobs(actor="write")] == ["cancelled"] * 2


def test_stopping_by_itself_cancels_what_it_started(sample: ServiceUnderTest, script: Script) -> None:
    """A job that raises Cancelled after it has made children leaves none behind."""

    def work() -> None:
        with unit_of_work():
            jobs.write.send_with_options(kwargs={"key": "a"}, parent_id=current_job().id)
        raise Cancelled

    job = sample.run_job(jobs.scripted, key=script(work))
    sample.drain(queues=["default"])

    assert job.state == "cancelled"
    assert [child.state for child in sample.jobs(parent_id=job.id)] == ["cancelled"]
