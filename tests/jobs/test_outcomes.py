"""How a run may end: what it raised, and what becomes of its job."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dramatiq.middleware import Interrupt, Shutdown, TimeLimitExceeded
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from shared.context import current
from shared.db import unit_of_work
from shared.jobs import Cancelled, Continue, GiveUp, Retry, Skip, Snooze, Unknown, completion, current_job
from shared.jobs.outcomes import Superseded
from shared.jobs.verdict import Verdict, judge
from shared.outbound import errors
from shared.testing.service import ServiceUnderTest
from tests.jobs.conftest import effects, raising
from tests.sample import jobs

Script = Callable[..., str]
KINDS = [jobs.scripted, jobs.scripted_here]
FAILED = "backroom.sample.job.failed.v1"
SOON = datetime(2100, 1, 1, tzinfo=UTC)


def away() -> OperationalError:
    return OperationalError("SELECT 1", {}, Exception("server closed the connection"), connection_invalidated=True)


# What is raised: state, outcome, code of the attempt (None: no attempt burnt), seconds until the next run.
OUTCOMES: dict[str, tuple[Callable[[], BaseException], str, str, str | None, float | None]] = {
    "skip": (lambda: Skip("already_done"), "succeeded", "skipped", "already_done", None),
    "retry": (lambda: Retry("broken"), "scheduled", "retry", "broken", 10),
    "retry with a delay": (lambda: Retry("broken", delay=42), "scheduled", "retry", "broken", 42),
    "unknown": (lambda: Unknown("no_answer"), "scheduled", "unknown", "no_answer", 10),
    "give up": (lambda: GiveUp("address_rejected"), "failed", "gave_up", "address_rejected", None),
    "snooze": (lambda: Snooze("later", delay=30), "scheduled", "snoozed", None, 30),
    "continue": (lambda: Continue(), "scheduled", "continued", None, 0),
    "cancelled": (lambda: Cancelled(), "cancelled", "cancelled", "cancelled", None),
    "time limit": (lambda: TimeLimitExceeded(), "scheduled", "retry", "took_too_long", 10),
    "shutdown": (lambda: Shutdown(), "scheduled", "interrupted", None, 0),
    "another interrupt": (lambda: Interrupt(), "scheduled", "interrupted", None, 0),
    "anything else": (lambda: ZeroDivisionError("1/0"), "scheduled", "error", "unexpected", 10),
    "database away": (lambda: away(), "scheduled", "interrupted", None, 1),
    "provider refused": (lambda: errors.Refused(), "failed", "gave_up", "provider_refused", None),
    "not authorized": (lambda: errors.NotAuthorized(), "failed", "gave_up", "provider_not_authorized", None),
    "unavailable": (lambda: errors.Unavailable(), "scheduled", "retry", "provider_unavailable", 10),
    "unknown outcome": (lambda: errors.UnknownOutcome(), "scheduled", "unknown", "provider_unknown_outcome", 10),
    "rate limited": (lambda: errors.RateLimited(retry_after=30), "scheduled", "snoozed", None, 30),
}


@pytest.mark.parametrize("kind", KINDS, ids=["leased", "transactional"])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_outcome(sample: ServiceUnderTest, script: Script, kind: Any, outcome: str) -> None:
    """Each outcome takes the job where it belongs, burns an attempt or not, and names the next run's time."""
    error, state, name, code, delay = OUTCOMES[outcome]

    job = sample.run_job(kind, key=script(raising(error)))

    assert (job.state, job.outcome) == (state, name)
    attempts = sample.attempts(job.id)
    assert [(attempt.outcome, attempt.code, attempt.number) for attempt in attempts] == (
        [] if code is None else [(name, code, 1)]
    )
    assert job.runs == len(attempts)
    assert len(sample.published(FAILED)) == (state == "failed")
    if delay is not None:
        assert delay - 5 <= (job.run_at - job.updated_at).total_seconds() <= delay + 0.1
        assert job.failures == (code is not None)


@pytest.mark.parametrize("kind", KINDS, ids=["leased", "transactional"])
def test_done(sample: ServiceUnderTest, script: Script, kind: Any) -> None:
    """A run that returns has succeeded; what it returns is the job's result, its attempt says when and who."""
    job = sample.run_job(kind, key=script(lambda: {"rows": 3}))

    assert (job.state, job.outcome, job.result, job.runs) == ("succeeded", "done", {"rows": 3}, 1)
    (attempt,) = sample.attempts(job.id)
    assert attempt.worker_id == sample.app.liveness.worker_id
    assert attempt.started_at <= attempt.ended_at


@pytest.mark.parametrize("kind", KINDS, ids=["leased", "transactional"])
def test_retry_ladder(sample: ServiceUnderTest, script: Script, kind: Any) -> None:
    """One run and three retries after 10, 60 and 600 seconds; then failed, with exactly one event and one hook."""
    hooks: list[Verdict] = []
    job_id = sample.send(kind, key=script(raising(Retry("broken")), hooks.append))

    delays = []
    for _ in range(4):
        job = sample.run(job_id)
        delays.append(round((job.run_at - job.updated_at).total_seconds()) if job.state == "scheduled" else None)

    assert delays == [10, 60, 600, None]
    assert (job.state, job.runs, job.failures) == ("failed", 4, 4)
    assert [attempt.number for attempt in sample.attempts(job_id)] == [1, 2, 3, 4]
    (event,) = sample.published(FAILED)
    assert (event.tenant_id, event.data["code"], event.data["attempts"]) == ("acme", "broken", 4)
    assert [verdict.state for verdict in hooks] == ["failed"]


def test_retry_by_hand_begins_the_ladder_anew(sample: ServiceUnderTest, script: Script) -> None:
    """Given a failed job, when somebody retries it, it has all its retries again, and can alert once more."""
    job_id = sample.send(jobs.scripted, key=script(raising(Retry("broken"))))
    sample.drain()

    sample.retry(job_id)

    assert (sample.job(job_id).state, sample.job(job_id).failures) == ("scheduled", 0)
    assert sample.job(job_id).waiting_for == "retried_by_hand"
    sample.drain()
    assert (sample.job(job_id).state, sample.job(job_id).runs) == ("failed", 8)
    assert len(sample.published(FAILED)) == 2


def test_the_alert_speaks_to_people(sample: ServiceUnderTest, script: Script) -> None:
    """The event of a failed job carries the four sentences, filled in, and what the job is about."""
    sample.run_job(jobs.scripted, key=script(raising(GiveUp("provider_refused", order="1042"))))

    (event,) = sample.published(FAILED)
    assert event.data["what"] == "The other company's system refused the request."
    assert event.data["subject"].startswith("Script ")
    assert set(event.data) >= {"job_id", "actor", "queue", "meaning", "doing", "action"}


@pytest.mark.parametrize("kind", KINDS, ids=["leased", "transactional"])
def test_the_hook_is_part_of_the_end(sample: ServiceUnderTest, script: Script, kind: Any) -> None:
    """The failed hook writes in the transaction that ends the job, within the job's tenant and context."""
    seen: list[Any] = []

    def hook(verdict: Verdict) -> None:
        seen.append((verdict.code, current().tenant_id, current().job_id))
        jobs.record("put right")

    job = sample.run_job(kind, key=script(raising(GiveUp("no_use")), hook), tenant_id="globex")

    assert seen == [("no_use", "globex", str(job.id))]
    assert sample.query("SELECT tenant_id, key FROM done") == [("globex", "put right")]


def test_a_hook_that_raises_does_not_keep_the_job_from_its_end(sample: ServiceUnderTest, script: Script) -> None:
    """Given a hook that raises, the job is failed all the same, with its alert, and without what the hook wrote."""

    def hook(verdict: Verdict) -> None:
        jobs.record("half done")
        raise RuntimeError("the hook is broken")

    job = sample.run_job(jobs.scripted, key=script(raising(GiveUp("no_use")), hook))

    assert job.state == "failed"
    assert effects(sample) == []
    assert len(sample.published(FAILED)) == 1


def cut(session: Session) -> None:
    """Break the connection under a session, as a network does."""
    raw = session.connection().connection.dbapi_connection
    assert raw is not None
    raw.close()


def test_a_hook_cut_off_from_the_database_is_run_again(sample: ServiceUnderTest, script: Script) -> None:
    """Given a connection that breaks under the hook, the end of the job is written anew, hook included."""
    tries: list[int] = []

    def hook(verdict: Verdict) -> None:
        tries.append(1)
        with unit_of_work() as session:
            if len(tries) == 1:
                cut(session)
            jobs.record("put right")

    job = sample.run_job(jobs.scripted, key=script(raising(GiveUp("no_use")), hook))

    assert (job.state, len(tries), effects(sample)) == ("failed", 2, ["put right"])


@pytest.mark.parametrize("kind", KINDS, ids=["leased", "transactional"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("a NUL: \x00"),
        ValueError("half a character: \ud800"),
        GiveUp("no_use", "\x00", field="\x00"),
        Retry("broken", field=object()),
        Snooze("later", until=datetime(2030, 1, 1)),
        Retry("broken", delay=float("nan")),
        Superseded("which is not so"),
    ],
    ids=["NUL", "surrogate", "NUL in a field", "object", "naive time", "NaN", "superseded"],
)
def test_nothing_that_a_run_raises_leaves_it_running(
    sample: ServiceUnderTest, script: Script, kind: Any, error: BaseException
) -> None:
    """Whatever a run raises, its job does not stay in the hands of a worker that has forgotten it."""
    job = sample.run_job(kind, key=script(raising(error)))

    assert job.state in ("scheduled", "failed")
    assert job.runs == 1


@pytest.mark.parametrize("result", ["a NUL: \x00", float("nan"), {"x": {1, 2}}], ids=["NUL", "NaN", "set"])
def test_nothing_that_a_run_returns_leaves_it_running(sample: ServiceUnderTest, script: Script, result: Any) -> None:
    """A result that cannot be written is a failure like any other, not a job without an end."""
    job = sample.run_job(jobs.scripted, key=script(lambda: result))

    assert job.state in ("scheduled", "succeeded")


def test_a_sentence_that_does_not_fit_its_values_does_not_keep_the_job(
    sample: ServiceUnderTest, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a failure's text with a placeholder that its value does not fit, the job fails and alerts all the same."""
    from shared.jobs.failures import FailureText

    texts = {"odd": FailureText(what="{number:d} is odd.", meaning="{a.b}", doing="{0}", action="{")}
    monkeypatch.setattr(sample.app.runner.conclusions, "failures", texts)

    job = sample.run_job(jobs.scripted, key=script(raising(GiveUp("odd", number="three"))))

    assert job.state == "failed"
    assert len(sample.published(FAILED)) == 1


def test_time_limit_in_the_middle_of_the_conclusion(
    sample: ServiceUnderTest, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a time limit that strikes while a failure is being written down, the failure is written down."""
    conclusions, struck = sample.app.runner.conclusions, []
    original = type(conclusions).conclude

    def conclude(*args: Any, **kwargs: Any) -> bool:
        if not struck:
            struck.append(1)
            raise TimeLimitExceeded
        return original(conclusions, *args, **kwargs)

    monkeypatch.setattr(conclusions, "conclude", conclude)

    job = sample.run_job(jobs.scripted, key=script(raising(Retry("broken"))))

    assert (job.state, job.outcome, struck) == ("scheduled", "retry", [1])


def test_the_current_job_is_known_in_both_kinds(sample: ServiceUnderTest, script: Script) -> None:
    """`current_job` tells leased and transactional jobs alike which run this is and how many may follow."""
    seen: list[Any] = []

    def look() -> None:
        job = current_job()
        seen.append((job.attempt, job.retries_left, current().attempt))
        raise Retry("broken")

    for kind in KINDS:
        job_id = sample.send(kind, key=script(look))
        sample.run(job_id)
        sample.run(job_id, redelivered=True)

    # A transactional job that failed in its chunk has been run once more, alone, before the failure counted.
    assert seen == [(1, 3, 1), (2, 2, 2), (1, 3, 1), (1, 3, 1), (2, 2, 2)]


def test_breathe_inside_of_a_unit_of_work_is_refused(sample: ServiceUnderTest, script: Script) -> None:
    """A transactional job cannot hand itself on: what it did would be rolled back, and begin again for ever."""
    job = sample.run_job(jobs.scripted_here, key=script(lambda: current_job().breathe()))

    assert "between units of work" in sample.attempts(job.id)[0].detail


def test_completion_makes_effect_and_end_one_commit(sample: ServiceUnderTest, script: Script) -> None:
    """What is raised after `completion()` changes nothing any more; what is raised inside undoes both."""

    def after() -> None:
        with completion({"ok": 1}):
            jobs.record("a")
        raise RuntimeError("too late")

    def inside() -> None:
        with completion({"ok": 1}):
            jobs.record("b")
            raise RuntimeError("in time")

    done = sample.run_job(jobs.scripted, key=script(after))
    undone = sample.run_job(jobs.scripted, key=script(inside))

    assert (done.state, done.result) == ("succeeded", {"ok": 1})
    assert (undone.state, undone.outcome) == ("scheduled", "error")
    assert effects(sample) == ["a"]


def test_a_cancel_that_came_while_it_ran_does_not_wait_for_the_retry(sample: ServiceUnderTest, script: Script) -> None:
    """Given a running job that was asked to stop and then fails, it is cancelled, not tried again in ten minutes."""
    hooks: list[Verdict] = []
    ids: list[uuid.UUID] = []

    def run() -> None:
        sample.cancel(ids[0])
        raise Retry("broken")

    ids.append(sample.send(jobs.scripted, key=script(run, hooks.append)))
    job = sample.run(ids[0])

    assert (job.state, [verdict.state for verdict in hooks]) == ("cancelled", ["cancelled"])
    assert sample.published(FAILED) == []


def test_judge_counts_from_the_given_moment() -> None:
    """The next run's time is counted from the end of the run, exactly by the schedule, without any jitter."""
    now = datetime(2026, 1, 1, tzinfo=UTC)

    times = [judge(Retry("x"), failures=n, retry=(10, 60, 600), now=now).run_at for n in range(4)]

    assert times == [now + timedelta(seconds=10), now + timedelta(seconds=60), now + timedelta(seconds=600), None]


def test_details_are_bounded_and_redacted(sample: ServiceUnderTest, script: Script) -> None:
    """The private detail of an attempt holds no secret and no megabytes."""
    job = sample.run_job(
        jobs.scripted, key=script(raising(ValueError("Authorization: Bearer abcdef0123456789 " + "x" * 100_000)))
    )

    (attempt,) = sample.attempts(job.id)
    assert len(attempt.detail) < 20_000
    assert "abcdef0123456789" not in attempt.detail
    assert "abcdef0123456789" not in json.dumps(job.failure)


@pytest.mark.parametrize(("code", "already"), [("later", 10_000), ("database_away", 1_000)])
def test_no_job_is_put_off_for_ever(sample: ServiceUnderTest, script: Script, code: str, already: int) -> None:
    """A job that says "not yet" again and again ends at last, with its alert; a retry by hand counts anew."""
    job_id = sample.send(jobs.scripted, key=script(raising(Snooze(code))))
    sample.execute("UPDATE jobs SET deferrals = :already - 1", already=already)

    assert sample.run(job_id).state == "scheduled"
    job = sample.run(job_id)

    assert (job.state, job.outcome, job.failure["code"]) == ("failed", "gave_up", "too_many_deferrals")
    assert len(sample.published(FAILED)) == 1
    sample.retry(job_id)
    assert sample.job(job_id).deferrals == 0


def test_a_parent_may_wait_for_its_children_as_long_as_they_take(sample: ServiceUnderTest, script: Script) -> None:
    """Each child ends, so the parent does."""
    job_id = sample.send(jobs.scripted, key=script(raising(Snooze("waiting_for_children"))))
    sample.execute("UPDATE jobs SET deferrals = 1000000")

    assert sample.run(job_id).state == "scheduled"


@pytest.mark.parametrize("kind", KINDS, ids=["leased", "transactional"])
def test_a_transaction_that_stands_open_too_long_burns_an_attempt(
    sample: ServiceUnderTest, script: Script, kind: Any
) -> None:
    """Given a job that PostgreSQL cuts off for idling in its transaction, it does not come back unburnt for ever."""

    def idle() -> None:
        with unit_of_work() as session:
            session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
            time.sleep(0.3)
            jobs.record("too late")

    job = sample.run_job(kind, key=script(idle))

    assert (job.state, job.failures, [a.code for a in sample.attempts(job.id)]) == ("scheduled", 1, ["took_too_long"])
