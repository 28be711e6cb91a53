"""Random walks of a few jobs through everything that may happen to them, against the real database.

The model knows what has been promised: which jobs were sent, and how often each effect may be there.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from shared.jobs import Cancelled, GiveUp, Retry, Snooze, operations
from shared.jobs.actor import Dispatch
from shared.jobs.models import FINAL
from shared.testing.service import ServiceUnderTest
from tests.jobs.test_states import arrows, crash, hand_out_anew, shut_down
from tests.sample import jobs
from tests.sample.jobs import HOOKS, SCRIPTS

WALKED = {(before, after) for before, after, _ in arrows()}
ENDS: dict[str, Any] = {
    "done": lambda: None,
    "retry": lambda: Retry("broken"),
    "unexpected": lambda: RuntimeError("a bug"),
    "give up": lambda: GiveUp("no_use"),
    "snooze": lambda: Snooze("later"),
    "stop": Cancelled,
}


class JobMachine(RuleBasedStateMachine):
    """Each rule does to a job what a request, a relay, a worker or an accident does."""

    sample: ClassVar[ServiceUnderTest]
    sent = Bundle("sent")
    messages = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        self.sample.clear()
        self.numbers = itertools.count()
        self.states: dict[uuid.UUID, str] = {}
        self.keys: dict[uuid.UUID, str] = {}
        self.next_end = "done"

    # -- what happens ------------------------------------------------------------------------------

    @rule(target=sent, kind=st.sampled_from([jobs.scripted, jobs.scripted_here]))
    def send(self, kind: Any) -> uuid.UUID:
        key = f"job {next(self.numbers)}"
        SCRIPTS[key] = lambda: self.work(key)
        HOOKS[key] = lambda verdict: jobs.record(f"{verdict.state}: {key}")
        job_id = self.sample.send(kind, key=key)
        self.states[job_id], self.keys[job_id] = "scheduled", key
        return job_id

    def work(self, key: str) -> None:
        jobs.record(f"done: {key}")
        end = ENDS[self.next_end]()
        if end is not None:
            raise end

    @rule(target=messages, job=sent)
    def hand_out(self, job: uuid.UUID) -> Any:
        number = self.sample.hand_out(job)
        return multiple() if number is None else (job, number)

    @rule(message=messages, end=st.sampled_from(list(ENDS)), redelivered=st.booleans())
    def deliver_and_keep(self, message: tuple[uuid.UUID, int], end: str, redelivered: bool) -> None:
        """The message stays, to come once more at any later time."""
        self.next_end = end
        self.sample.deliver(Dispatch([message], redelivered))

    @rule(message=consumes(messages), end=st.sampled_from(list(ENDS)))
    def deliver(self, message: tuple[uuid.UUID, int], end: str) -> None:
        self.next_end = end
        self.sample.deliver(Dispatch([message]))

    @rule(message=messages)
    def claim_and_crash(self, message: tuple[uuid.UUID, int]) -> None:
        claim = self.sample.app.runner.claims.claim(*message)
        if claim is not None:
            self.observe()
            self.sample.app.runner.claims.release(*message)
            crash(self.sample, message[0])

    @rule(message=messages)
    def claim_and_shut_down(self, message: tuple[uuid.UUID, int]) -> None:
        claim = self.sample.app.runner.claims.claim(*message)
        if claim is not None:
            self.observe()
            self.sample.app.runner.claims.release(*message)
            shut_down(self.sample, message[0])

    @rule(job=sent)
    def lose_the_message(self, job: uuid.UUID) -> None:
        hand_out_anew(self.sample, job)

    @rule(job=sent)
    def cancel(self, job: uuid.UUID) -> None:
        with contextlib.suppress(operations.NotPossible):
            self.sample.cancel(job)

    @rule(job=sent)
    def retry_by_hand(self, job: uuid.UUID) -> None:
        with contextlib.suppress(operations.NotPossible):
            self.sample.retry(job)

    # -- what must hold ----------------------------------------------------------------------------

    def observe(self) -> None:
        """See which arrows the jobs have taken."""
        for job in self.sample.jobs():
            before = self.states[job.id]
            # One rule may take several arrows: claimed and failed, for example.
            assert before == job.state or (before, job.state) in WALKED | self.two_steps(), (before, job.state)
            self.states[job.id] = job.state

    @staticmethod
    def two_steps() -> set[tuple[str, str]]:
        return {(a, d) for a, b in WALKED for c, d in WALKED if b == c}

    @invariant()
    def only_known_arrows(self) -> None:
        self.observe()

    @invariant()
    def effects_stand_for_ends(self) -> None:
        """An effect is there once for each success, a hook once for each other end, an alert once for each failure."""
        effects = Counter(key for (key,) in self.sample.query("SELECT key FROM done"))
        alerts = Counter(event.subject for event in self.sample.published())
        for job in self.sample.jobs():
            key = self.keys[job.id]
            attempts = self.sample.attempts(job.id)
            succeeded = sum(attempt.outcome == "done" for attempt in attempts)
            # A leased job's effect is a commit of its own, before the end of the run.
            effect = effects[f"done: {key}"]
            assert effect == succeeded if job.actor == "scripted_here" else effect >= succeeded
            assert succeeded == (job.state == "succeeded")
            assert alerts[str(job.id)] == effects[f"failed: {key}"]
            assert (job.state == "failed") <= (alerts[str(job.id)] >= 1)
            assert (job.finished_at is not None) == (job.state in FINAL)
            assert job.runs - (job.state == "running") == len(attempts)
            assert job.failures <= 4
            assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))


@pytest.fixture
def scripts() -> Iterator[None]:
    yield
    SCRIPTS.clear()
    HOOKS.clear()


def test_random_walks(sample: ServiceUnderTest, scripts: None) -> None:
    """Whatever happens in whatever order: known arrows only, effects exactly as often as they count, no lost end."""
    if not sample.app.liveness.worker_id:
        sample.app.liveness.start()
    JobMachine.sample = sample
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        JobMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
