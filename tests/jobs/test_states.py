"""The state machine of a job: every arrow of its diagram is walked, and there is no other."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from shared.context import SYSTEM
from shared.db.database import SYSTEM_ROLE
from shared.jobs import Cancelled, Continue, GiveUp, Retry, Snooze, operations, recovery
from shared.jobs.actor import Dispatch
from shared.jobs.models import FINAL, LIVE, STATES
from shared.jobs.record import Finished, done
from shared.jobs.relay import _HAND_OUT_ANEW
from shared.runtime import app as runtime
from shared.testing.service import ServiceUnderTest
from tests.jobs.conftest import raising
from tests.sample import jobs

Script = Callable[..., str]

DIAGRAM = Path(__file__).resolve().parents[2] / "docs" / "reference" / "job-states.md"
ARROW = re.compile(r"^\s+(\S+) --> (\S+): (.+)$", re.MULTILINE)


def arrows() -> set[tuple[str, str, str]]:
    """Return (from, to, name) of each arrow in the diagram; `[*]` is the world outside."""
    return {(a, b, name) for a, b, name in ARROW.findall(DIAGRAM.read_text())}


# -- operations: each takes a job as it is, and does one thing to it ------------------------------------


def hand_out(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    sample.hand_out(job_id)


def hand_out_anew(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    with sample.database.connect(role=SYSTEM_ROLE) as connection:
        connection.execute(_HAND_OUT_ANEW, {"lost": 1, "after": 0})


def hand_back(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    sample.app.runner.hand_back(Dispatch([(job_id, sample.job(job_id).dispatch)]))


def claim(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    sample.app.liveness.start() if not sample.app.liveness.worker_id else None
    claims, number = sample.app.runner.claims, sample.job(job_id).dispatch
    claims.claim(job_id, number)
    claims.release(job_id, number)


def complete(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    job = sample.job(job_id)
    with sample.database.system.begin() as connection:
        done(connection, [Finished(job_id, job.dispatch, job.worker_id or 1, job.run_at, job.run_at)])


def conclude(error: Callable[[], BaseException]) -> Callable[[ServiceUnderTest, uuid.UUID], None]:
    def concluded(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
        job = sample.job(job_id)
        actor = sample.app.actors[job.actor]
        verdict = sample.app.runner._judge(actor, job, error())
        sample.app.conclusions.conclude(actor, job, verdict, worker_id=job.worker_id, started_at=job.run_at)

    return concluded


def crash(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    sample.execute("UPDATE jobs SET worker_id = 1 WHERE id = :id AND state = 'running'", id=job_id)
    with sample.database.connect(role=SYSTEM_ROLE) as connection:
        recovery.recover(sample.database, connection, sample.app.conclusions, sample.app.actors)


def shut_down(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    sample.execute("UPDATE jobs SET worker_id = 1 WHERE id = :id AND state = 'running'", id=job_id)
    sample.execute(runtime._RELEASE, worker=1)


def cancel(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    try:
        sample.cancel(job_id)
    except operations.NotPossible:
        assert sample.job(job_id).state in FINAL


def retry(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    try:
        sample.retry(job_id)
    except operations.NotPossible:
        assert sample.job(job_id).state not in ("failed", "cancelled")


def deliver(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    sample.deliver(Dispatch([(job_id, sample.job(job_id).dispatch)]))


def delete_old(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    sample.run_job(sample.app.actors["clean_up_jobs"], tenant_id=SYSTEM)


OPERATIONS: dict[str, Callable[[ServiceUnderTest, uuid.UUID], None]] = {
    "hand out": hand_out,
    "hand out anew": hand_out_anew,
    "hand back": hand_back,
    "claim": claim,
    "complete": complete,
    "retry": conclude(lambda: Retry("broken")),
    "give up": conclude(lambda: GiveUp("no_use")),
    "snooze": conclude(lambda: Snooze("later", delay=60)),
    "stop": conclude(Cancelled),
    "crash": crash,
    "shutdown": shut_down,
    "cancel": cancel,
    "retry by hand": retry,
    "deliver": deliver,
    "delete what is old": delete_old,
}


# -- walks: how a job comes to each state, and by which operation it takes each arrow -------------------


def bring(sample: ServiceUnderTest, state: str, key: str, actor: Any = jobs.scripted) -> uuid.UUID:
    """Make a job and bring it into a state, by operations alone."""
    job_id = sample.send(actor, key=key)
    paths: dict[str, list[str]] = {
        "scheduled": [],
        "queued": ["hand out"],
        "running": ["hand out", "claim"],
        "succeeded": ["hand out", "claim", "complete"],
        "failed": ["hand out", "claim", "give up"],
        "cancelled": ["cancel"],
    }
    for name in paths[state]:
        OPERATIONS[name](sample, job_id)
    assert sample.job(job_id).state == state
    return job_id


Walk = tuple[Any, Callable[[], Any], Callable[[ServiceUnderTest, uuid.UUID], None]]


def nothing() -> None: ...


def last_retry(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
    sample.execute("UPDATE jobs SET failures = 3")
    conclude(lambda: Retry("broken"))(sample, job_id)


def age(days: int) -> Callable[[ServiceUnderTest, uuid.UUID], None]:
    def aged(sample: ServiceUnderTest, job_id: uuid.UUID) -> None:
        old = uuid.UUID(int=(job_id.int & ((1 << 80) - 1)) | (1 << 80))
        sample.execute("DELETE FROM job_attempts")
        for days_old, there in ((days - 1, 1), (days + 1, 0)):
            sample.execute(
                "UPDATE jobs SET id = :old, finished_at = clock_timestamp() - make_interval(days => :days) "
                "WHERE id = ANY(:ids)",
                old=old,
                days=days_old,
                ids=[job_id, old],
            )
            delete_old(sample, old)
            assert len(sample.jobs(id=old)) == there

    return aged


WALKS: dict[tuple[str, str, str], Walk] = {
    ("scheduled", "queued", "handed out"): (jobs.scripted, nothing, hand_out),
    ("scheduled", "cancelled", "cancelled"): (jobs.scripted, nothing, cancel),
    ("queued", "running", "claimed"): (jobs.scripted, nothing, claim),
    ("queued", "succeeded", "done in one commit"): (jobs.scripted_here, nothing, deliver),
    ("queued", "failed", "given up in one commit"): (jobs.scripted_here, raising(GiveUp("no_use")), deliver),
    ("queued", "cancelled", "cancelled"): (jobs.scripted, nothing, cancel),
    ("queued", "scheduled", "failed in one commit"): (jobs.scripted_here, raising(Retry("broken")), deliver),
    ("queued", "scheduled", "handed out anew"): (jobs.scripted, nothing, hand_out_anew),
    ("queued", "scheduled", "handed back"): (jobs.scripted, nothing, hand_back),
    ("running", "succeeded", "done"): (jobs.scripted, nothing, complete),
    ("running", "failed", "given up"): (jobs.scripted, nothing, conclude(lambda: GiveUp("no_use"))),
    ("running", "failed", "last retry failed"): (jobs.scripted, nothing, last_retry),
    ("running", "cancelled", "stopped"): (jobs.scripted, nothing, conclude(Cancelled)),
    ("running", "scheduled", "retry"): (jobs.scripted, nothing, conclude(lambda: Retry("broken"))),
    ("running", "scheduled", "snooze"): (jobs.scripted, nothing, conclude(lambda: Snooze("later"))),
    ("running", "scheduled", "continue"): (jobs.scripted, nothing, conclude(Continue)),
    ("running", "scheduled", "crash"): (jobs.scripted, nothing, crash),
    ("running", "scheduled", "shutdown"): (jobs.scripted, nothing, shut_down),
    ("failed", "scheduled", "retried by hand"): (jobs.scripted, nothing, retry),
    ("cancelled", "scheduled", "retried by hand"): (jobs.scripted, nothing, retry),
    ("succeeded", "[*]", "deleted after 30 days"): (jobs.scripted, nothing, age(30)),
    ("cancelled", "[*]", "deleted after 30 days"): (jobs.scripted, nothing, age(30)),
    ("failed", "[*]", "deleted after 90 days"): (jobs.scripted, nothing, age(90)),
}


def test_the_diagram_and_the_walks_are_the_same() -> None:
    """The diagram cannot lie: each arrow in it has a walk below, and each walk an arrow."""
    assert arrows() - {("[*]", "scheduled", "sent")} == set(WALKS)
    assert {state for a, b, _ in arrows() for state in (a, b)} == {*STATES, "[*]"}


@pytest.mark.parametrize("arrow", WALKS, ids=[f"{a} to {b}, {name}" for a, b, name in WALKS])
def test_arrow(sample: ServiceUnderTest, script: Script, arrow: tuple[str, str, str]) -> None:
    """The job takes this arrow, by the operation that its name says."""
    before, after, _ = arrow
    actor, does, operation = WALKS[arrow]
    job_id = bring(sample, before, script(does), actor)

    operation(sample, job_id)

    if after == "[*]":
        assert sample.jobs(id=job_id) == []
    else:
        job = sample.job(job_id)
        assert job.state == after
        assert (job.finished_at is not None) == (after in FINAL)


@pytest.mark.parametrize("before", STATES)
def test_no_operation_takes_another_arrow(sample: ServiceUnderTest, script: Script, before: str) -> None:
    """Each operation, tried in each state, leaves the job where it is or takes an arrow of the diagram."""
    drawn = {(a, b) for a, b, _ in arrows()}
    walked = set()
    for name, operation in OPERATIONS.items():
        job_id = bring(sample, before, script(nothing))
        operation(sample, job_id)
        after = sample.job(job_id).state
        assert before == after or (before, after) in drawn, f"{name}: {before} to {after}"
        walked.add(after)
    assert before in walked


@pytest.mark.parametrize("state", STATES)
def test_a_job_has_ended_if_and_only_if_it_says_when(sample: ServiceUnderTest, state: str) -> None:
    """The database refuses a final state without its time, and a live one with it."""
    job_id = sample.send(jobs.write, key="a")
    wrong = "NULL" if state in FINAL else "now()"

    with pytest.raises(IntegrityError, match="finished_iff_final"):
        sample.execute(f"UPDATE jobs SET state = :state, finished_at = {wrong} WHERE id = :id", state=state, id=job_id)


def test_there_are_no_other_states(sample: ServiceUnderTest) -> None:
    """The database refuses a state that is not in the diagram."""
    sample.send(jobs.write, key="a")

    assert set(LIVE) | set(FINAL) == set(STATES)
    with pytest.raises(IntegrityError, match="state_known"), sample.database.system.begin() as connection:
        connection.execute(text("UPDATE jobs SET state = 'pending'"))
