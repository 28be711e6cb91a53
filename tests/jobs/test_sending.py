"""Sending a job: part of the unit of work, at most once where it says so, checked before it is promised."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from shared.context import use
from shared.db import signals, unit_of_work
from shared.jobs import actor, enqueue_many, operations
from shared.jobs.enqueue import NewJob, enqueue
from shared.jobs.models import ShownJob
from shared.testing.service import ServiceUnderTest
from tests.jobs.conftest import effects, raising
from tests.sample import jobs

Script = Callable[..., str]


class Undone(Exception):
    """Rolls back."""


def in_vain(step: Callable[[], Any]) -> None:
    """Do it in a unit of work that is rolled back."""
    with unit_of_work():
        step()
        raise Undone


def test_send_joins_the_unit_of_work(sample: ServiceUnderTest) -> None:
    """The job exists if and only if the business change does."""
    with unit_of_work():
        jobs.record("order")
        jobs.write.send(key="kept")
    with pytest.raises(Undone):
        in_vain(lambda: (jobs.record("another order"), jobs.write.send(key="gone")))

    assert [job.arguments["key"] for job in sample.jobs()] == ["kept"]
    assert effects(sample) == ["order"]


def test_send_outside_of_any_tenant_is_refused(sample: ServiceUnderTest) -> None:
    """A job belongs to a tenant; sending it outside of any says so."""
    with use(tenant_id=None), pytest.raises(RuntimeError, match="tenant"):
        jobs.write.send(key="a")


def test_a_job_remembers_who_wanted_it(sample: ServiceUnderTest) -> None:
    """The row carries principal, request and correlation, so that a trail leads back."""
    signals.start(sample.database)  # as an app does when it starts: a request may not
    with use(principal="user:ada", request_id="r-1", in_request=True):
        job = sample.job(jobs.write.send(key="a").message_id)

    assert (job.principal, job.request_id, job.correlation_id, job.causation_id) == ("user:ada", "r-1", "r-1", "r-1")
    assert job.origin == "request"


def test_fifty_concurrent_senders_make_one_job(sample: ServiceUnderTest) -> None:
    """Given fifty clicks at the same time, there is one job, and all get its id."""
    messages = sample.concurrently(50, lambda _: jobs.call_fails.send(key="the label"))

    assert len({message.message_id for message in messages}) == 1
    assert sum(not message.options["existing"] for message in messages) == 1
    assert len(sample.jobs()) == 1


def test_a_unique_job_may_be_sent_again_once_it_has_ended(sample: ServiceUnderTest) -> None:
    """Uniqueness is among the live: after its end, the same work is a new job."""
    first = jobs.call_fails.send(key="a").message_id
    assert jobs.call_fails.send(key="a").message_id == first
    assert jobs.call_fails.send(key="b").message_id != first

    sample.drain()

    assert jobs.call_fails.send(key="a").message_id != first


def test_uniqueness_is_within_the_tenant(sample: ServiceUnderTest) -> None:
    """Another tenant's job with the same key is another job."""
    assert sample.send(jobs.call_fails, key="a", tenant_id="acme") != sample.send(
        jobs.call_fails, key="a", tenant_id="globex"
    )


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({}, {"number": 0, "flavor": jobs.Flavor.SWEET}, True),
        ({"number": 1}, {"number": 2}, False),
        ({"flavor": jobs.Flavor.SOUR}, {}, False),
    ],
)
def test_defaults_count_for_uniqueness(
    sample: ServiceUnderTest, first: dict[str, Any], second: dict[str, Any], same: bool
) -> None:
    """An argument left out is the same as its default given."""
    assert (sample.send(jobs.typed, **first) == sample.send(jobs.typed, **second)) is same


def test_unique_keys_of_several_arguments_cannot_be_confused() -> None:
    """No value of one argument can look like the beginning of the next."""

    @actor(unique=("a", "b"))
    def two(a: str, b: str) -> None: ...

    assert two.unique_key({"a": "1&b=2", "b": "3"}) != two.unique_key({"a": "1", "b": "2&b=3"})
    assert two.unique_key({"a": '1"&b="2', "b": "3"}) != two.unique_key({"a": "1", "b": '2"&b="3'})


def test_long_unique_keys_fit_the_index(sample: ServiceUnderTest) -> None:
    """A key of any length works, and differs where the arguments differ at their very ends."""
    long = "x" * 5000

    ids = [sample.send(jobs.call_fails, key=key) for key in (long + "a", long + "b", long + "a")]

    assert ids[0] == ids[2] != ids[1]


def test_once_means_once_for_ever(sample: ServiceUnderTest) -> None:
    """A once key makes one job, also after that one has ended: the inbox of events rests on it."""

    def make(_: int = 0) -> tuple[ShownJob, bool]:
        return enqueue(NewJob(actor=jobs.write, arguments={"key": "a"}, once_key="event:1"))

    made = sample.concurrently(10, make)
    sample.drain()
    made.append(make())

    assert len({job.id for job, _ in made}) == 1
    assert sum(new for _, new in made) == 1
    assert effects(sample) == ["a"]


def test_delay_is_a_time_in_the_row(sample: ServiceUnderTest) -> None:
    """`delay` (Dramatiq's milliseconds) becomes `run_at`; no message waits anywhere."""
    before = datetime.now(UTC)

    job = sample.job(jobs.write.send_with_options(kwargs={"key": "a"}, delay=3_600_000).message_id)

    assert timedelta(seconds=3599) < job.run_at - before < timedelta(seconds=3660)
    assert job.state == "scheduled"


def test_options_of_one_message(sample: ServiceUnderTest) -> None:
    """Time, priority and subject may be given for one job."""
    moment = datetime(2030, 1, 1, tzinfo=UTC)

    message = jobs.write.send_with_options(kwargs={"key": "a"}, run_at=moment, priority=3, subject="The first")

    job = sample.job(message.message_id)
    assert (job.run_at, job.priority, job.subject) == (moment, 3, "The first")


def test_bulk_enqueue_writes_what_is_new(sample: ServiceUnderTest) -> None:
    """Many jobs in one statement; what is live already by its key is left alone, and the ids of the new return."""
    live = sample.send(jobs.call_fails, key="k3")

    made = enqueue_many(jobs.call_fails, [{"key": f"k{number}"} for number in range(5)], priority=3)

    assert len(made) == 4
    assert live not in made
    assert {(job.subject, job.priority) for job in sample.jobs() if job.id in made} == {
        (f"Lesson k{number}", 3) for number in (0, 1, 2, 4)
    }


def test_bulk_enqueue_joins_the_unit_of_work(sample: ServiceUnderTest) -> None:
    """Rolled back with the rest."""
    with pytest.raises(Undone):
        in_vain(lambda: enqueue_many(jobs.write, [{"key": "a"}, {"key": "b"}]))

    assert sample.jobs() == []


def test_arguments_arrive_in_the_types_that_the_function_declares(sample: ServiceUnderTest) -> None:
    """Ids, times, enums and lists of them travel as JSON, and arrive as what they were."""
    now = datetime.now(UTC)

    job = sample.run_job(
        jobs.typed, ident=uuid.uuid4(), at=now, day=date(2026, 2, 3), flavor=jobs.Flavor.SOUR, idents=[uuid.uuid4()]
    )
    bare = sample.run_job(jobs.typed)

    assert job.arguments["at"] == now.isoformat()
    assert job.result == {"ident": "UUID", "at": "datetime", "day": "date", "flavor": "Flavor", "idents": "UUID"}
    assert bare.result["ident"] == "NoneType"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, TypeError),
        ({"key": "a", "more": 1}, TypeError),
        ({"key": b"bytes"}, TypeError),
        ({"key": object()}, TypeError),
    ],
    ids=["missing", "unknown", "bytes", "object"],
)
def test_wrong_arguments_are_refused_at_send(
    sample: ServiceUnderTest, arguments: dict[str, Any], error: type[Exception]
) -> None:
    """What the function does not take, or JSON cannot carry, is refused before anything is promised."""
    with pytest.raises(error):
        jobs.write.send(**arguments)

    assert sample.jobs() == []


def test_decimals_travel_as_text() -> None:
    """Money keeps its digits."""

    @actor
    def pay(amount: Decimal) -> None: ...

    sent = pay.message_with_options(kwargs={"amount": Decimal("0.10")}).kwargs if pay._broker else {"amount": "0.10"}
    assert pay.converted(sent) == {"amount": Decimal("0.10")}


def test_functions_whose_arguments_have_no_name_are_refused() -> None:
    """`*args`, `**kwargs` and positional-only arguments cannot travel by name; a coroutine would never run."""

    def stars(*args: int) -> None: ...
    def double(**more: int) -> None: ...
    def bare(a: int, /) -> None: ...
    async def later() -> None: ...

    for function in (stars, double, bare, later):
        with pytest.raises(TypeError):
            actor(function)


def test_unique_names_arguments_that_exist() -> None:
    """A misspelt name in `unique` is found at import."""
    with pytest.raises(ValueError, match="ordre_id"):

        @actor(unique="ordre_id")
        def buy(order_id: int) -> None: ...


def test_retry_by_hand_is_refused_while_a_twin_is_live(sample: ServiceUnderTest, script: Script) -> None:
    """Given a failed job whose work was sent again, retrying it says which job does it already."""
    failed = sample.send(jobs.call_fails, key="a")
    sample.drain()
    twin = sample.send(jobs.call_fails, key="a")

    with pytest.raises(operations.NotPossible, match=str(twin)):
        sample.retry(failed)
    assert sample.job(failed).state == "failed"


def test_retry_by_hand_against_a_twin_that_is_just_being_sent(sample: ServiceUnderTest) -> None:
    """Given a twin that commits while the retry is under way, the retry is refused in words, not by an accident."""
    for round_number in range(5):
        key = f"k{round_number}"
        failed = sample.send(jobs.call_fails, key=key)
        sample.drain()
        refused = []

        def retry_or_send(
            number: int, failed: uuid.UUID = failed, key: str = key, refused: list[int] = refused
        ) -> None:
            if number == 0:
                jobs.call_fails.send(key=key)
            else:
                try:
                    sample.retry(failed)
                except operations.NotPossible:
                    refused.append(number)

        sample.concurrently(2, retry_or_send)
        live = [job for job in sample.jobs(unique_key=f"key={key}") if job.state == "scheduled"]
        assert len(live) == 1
        assert (live[0].id == failed) is (refused == [])


def test_only_ended_jobs_can_be_retried(sample: ServiceUnderTest) -> None:
    """A job that waits, or that has succeeded, is not run again by hand."""
    waiting = sample.send(jobs.write, key="a")
    with pytest.raises(operations.NotPossible, match="waiting"):
        sample.retry(waiting)
    sample.run(waiting)
    with pytest.raises(operations.NotPossible, match="done"):
        sample.retry(waiting)


def test_cancel_of_a_waiting_job_runs_its_hook(sample: ServiceUnderTest, script: Script) -> None:
    """A job that had not begun is cancelled at once, with its hook, and without alert; its message finds nothing."""
    states: list[str] = []
    key = script(raising(AssertionError("it must not run")), lambda verdict: states.append(verdict.state))
    job_id = sample.send(jobs.scripted, key=key)
    number = sample.hand_out(job_id)
    assert number is not None

    sample.cancel(job_id)
    sample.deliver(jobs_dispatch(job_id, number))

    assert (sample.job(job_id).state, states) == ("cancelled", ["cancelled"])
    assert sample.published("backroom.sample.job.failed.v1") == []


def jobs_dispatch(job_id: uuid.UUID, number: int) -> Any:
    from shared.jobs.actor import Dispatch

    return Dispatch([(job_id, number)])


def test_cancel_while_a_transactional_job_is_being_done(sample: ServiceUnderTest, script: Script) -> None:
    """Given a transactional job that holds its row, a cancel is refused in words within seconds."""
    begun, refused = threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        assert refused.wait(30)

    job_id = sample.send(jobs.scripted_here, key=script(run))

    def cancel() -> None:
        assert begun.wait(30)
        try:
            with pytest.raises(operations.NotPossible, match="at this very moment"):
                sample.cancel(job_id)
        finally:
            refused.set()

    steps: list[Callable[[], Any]] = [partial(sample.run, job_id), cancel]
    sample.concurrently(2, lambda number: steps[number]())

    assert sample.job(job_id).state == "succeeded"


def test_hasten_brings_forward_what_was_put_off(sample: ServiceUnderTest) -> None:
    """A job that was put off becomes due at once; one that waits for its retry keeps its time."""
    put_off = jobs.write.send_with_options(kwargs={"key": "a"}, delay=3_600_000).message_id
    retrying = sample.run_job(jobs.call_fails, key="b").id
    retry_at = sample.job(retrying).run_at

    with unit_of_work() as session:
        assert operations.hasten(session, uuid.UUID(put_off))
        assert not operations.hasten(session, retrying)

    assert sample.job(put_off).run_at < datetime.now(UTC)
    assert sample.job(retrying).run_at == retry_at


def test_the_row_lock_timeout_of_the_caller_is_left_as_it_was(sample: ServiceUnderTest) -> None:
    """Cancelling inside of a larger unit of work changes no setting of it."""
    job_id = sample.send(jobs.write, key="a")
    with unit_of_work() as session:
        before = session.execute(text("SHOW lock_timeout")).scalar()
        operations.cancel(session, job_id)
        assert session.execute(text("SHOW lock_timeout")).scalar() == before
