"""Retrying what failed of one cause, because an event asks for it: all of it, once, and nothing else."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Row

from shared.db import unit_of_work
from shared.events.contracts.notifications import RetryRequested
from shared.jobs import enqueue_many
from shared.jobs.library import retrying
from shared.testing.events import deliver
from shared.testing.service import ServiceUnderTest
from tests.sample import jobs

_FAIL = """
UPDATE jobs SET state = 'failed', outcome = 'gave_up', failure = '{"code": "broken", "fields": {}}', runs = 4,
    failures = 4, finished_at = clock_timestamp(), principal = 'user:bob'
WHERE state = 'scheduled' AND actor = :actor
"""


def fail(sample: ServiceUnderTest, actor: Any, keys: list[str], tenant_id: str = "acme") -> list[uuid.UUID]:
    """Have jobs failed for the cause `broken`."""
    made = sample.outside(lambda: enqueue_many(actor, [{"key": key} for key in keys]), tenant_id=tenant_id)
    sample.execute(_FAIL, actor=actor.actor_name)
    return made


def wanted(**changes: Any) -> RetryRequested:
    values = {
        "service": "sample",
        "actor": "call_fails",
        "code": "broken",
        "failed_before": datetime.now(UTC) + timedelta(seconds=5),
        "requested_by": "user:eve",
        **changes,
    }
    return RetryRequested(**values)


def ask(sample: ServiceUnderTest, event: RetryRequested) -> Row[Any] | None:
    """Have the event come, its handler run, and what that sends; return the job, if there was one."""
    event_id = deliver(sample, event)
    (handler,) = sample.query("SELECT id FROM jobs WHERE once_key LIKE '%' || :id", id=event_id)
    assert sample.run(handler.id).state == "succeeded"
    sent = sample.jobs(actor="retry_failed_jobs", state="scheduled")
    return sample.run(sent[0].id) if sent else None


def test_five_thousand_jobs_of_one_cause_are_retried(sample: ServiceUnderTest) -> None:
    """The storm of one outage, retried by one button; as each would be retried by hand."""
    failed = fail(sample, jobs.call_fails, [str(number) for number in range(5000)])
    others = fail(sample, jobs.call_fails, ["theirs"], tenant_id="globex") + fail(sample, jobs.refuse, ["other actor"])

    done = ask(sample, wanted())

    assert done is not None
    assert (done.state, done.result) == ("succeeded", {"retried": 5000, "failed": 5000})
    assert (done.progress["done"], done.progress["total"], done.principal) == (5000, 5000, "user:eve")
    retried = sample.jobs(actor="call_fails", state="scheduled")
    assert {job.id for job in retried} == set(failed)
    one = retried[0]
    by_hand = sample.job(others[1])
    sample.retry(by_hand.id)
    by_hand = sample.job(by_hand.id)
    same = ("state", "waiting_for", "failures", "deferrals", "runs", "outcome", "failure", "finished_at", "dispatch")
    assert {name: getattr(one, name) for name in same} == {name: getattr(by_hand, name) for name in same}
    assert {job.principal for job in retried} == {"user:eve"}
    assert sample.job(others[0]).state == "failed"


def test_asking_twice_retries_nothing_twice(sample: ServiceUnderTest) -> None:
    """What is under way again is no failure any more, and what failed anew failed later."""
    before = datetime.now(UTC) + timedelta(seconds=1)
    fail(sample, jobs.call_fails, ["a", "b"])
    first = ask(sample, wanted(failed_before=before))
    assert first is not None
    assert first.result["retried"] == 2
    sample.execute("UPDATE jobs SET state = 'failed', finished_at = now() + interval '2 s' WHERE actor = 'call_fails'")

    again = ask(sample, wanted(failed_before=before))

    assert again is not None
    assert again.result == {"retried": 0, "failed": 0}


def test_another_services_jobs_are_none_of_ours(sample: ServiceUnderTest) -> None:
    fail(sample, jobs.call_fails, ["a"])
    assert ask(sample, wanted(service="shipping")) is None
    assert len(sample.jobs(actor="call_fails", state="failed")) == 1


@pytest.mark.parametrize(("code", "retried"), [("broken", 2), ("other", 1), (None, 3), ("none", 0)])
def test_only_what_failed_with_the_code(sample: ServiceUnderTest, code: str | None, retried: int) -> None:
    (other, *_) = fail(sample, jobs.call_fails, ["a", "b", "c"])
    sample.execute("UPDATE jobs SET failure = jsonb_set(failure, '{code}', '\"other\"') WHERE id = :id", id=other)

    done = ask(sample, wanted(code=code))

    assert done is not None
    assert done.result["retried"] == retried


def test_of_twins_the_newest_is_retried_and_none_beside_one_that_is_live(
    sample: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unique key holds, also across slices: at most one live job of a kind."""
    monkeypatch.setattr(retrying, "_SLICE", 2)
    fail(sample, jobs.call_fails, ["a"])
    fail(sample, jobs.call_fails, ["a"])
    (newest,) = fail(sample, jobs.call_fails, ["a"])
    fail(sample, jobs.call_fails, ["b"])
    (alone,) = fail(sample, jobs.call_fails, ["c"])
    live = sample.send(jobs.call_fails, key="b")

    done = ask(sample, wanted())

    assert done is not None
    assert done.result == {"retried": 2, "failed": 5}
    assert {job.id for job in sample.jobs(actor="call_fails", state="scheduled")} == {newest, alone, live}


def test_a_twin_that_is_sent_this_very_moment_wins(sample: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent after the look and before the write: that job is left alone, and the others are retried."""
    fail(sample, jobs.call_fails, ["a", "b"])
    cause = retrying.Cause("call_fails", None, datetime.now(UTC) + timedelta(seconds=5))
    with unit_of_work() as session:
        nested, sent = session.begin_nested, []

        def begin() -> Any:
            if not sent:
                sent.append(sample.outside(lambda: jobs.call_fails.send(key="a")))
            return nested()

        monkeypatch.setattr(session, "begin_nested", begin)
        retried, _ = retrying.retry_slice(session, cause, None, limit=10)
    assert retried == 1
    assert sorted(job.arguments["key"] for job in sample.jobs(actor="call_fails", state="scheduled")) == ["a", "b"]
    assert [job.arguments["key"] for job in sample.jobs(actor="call_fails", state="failed")] == ["a"]
