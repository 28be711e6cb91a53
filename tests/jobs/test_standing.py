"""What a workspace's standing means for its jobs: they wait, go on, or end; and nothing new is made of a closed one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest

from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.events.contracts.workspaces import CredentialRevoked, WorkspaceStateChanged
from shared.jobs import enqueue_many
from shared.jobs.library import clean_up_revocations, export_workspace
from shared.jobs.reconcile import queue_again
from shared.testing.events import deliver
from shared.testing.service import ServiceUnderTest
from tests.jobs.test_fairness import Round, fill, hand_out  # noqa: F401 - a fixture
from tests.sample import jobs

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def changed(state: str, previous: str = "active") -> WorkspaceStateChanged:
    return WorkspaceStateChanged(state=state, previous=previous, reason="lifecycle", changed_at=NOW)  # type: ignore[arg-type]


def revoked(**changes: Any) -> CredentialRevoked:
    return CredentialRevoked.example().model_copy(update=changes)


def standing(sample: ServiceUnderTest, state: str, sequence: int = 1, tenant_id: str = "acme") -> None:
    """Have the service told, and its handler run."""
    event_id = deliver(sample, changed(state), sequence=sequence, tenant_id=tenant_id)
    (job,) = sample.query("SELECT id FROM jobs WHERE once_key LIKE '%' || :id", id=event_id)
    sample.run(job.id)


# -- what is kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations([1, 2, 3])))
def test_what_is_newest_counts_in_whatever_order_it_comes(sample: ServiceUnderTest, order: tuple[int, ...]) -> None:
    states = {1: "frozen", 2: "suspended", 3: "active"}
    for number in order:
        standing(sample, states[number], number)

    assert [tuple(row) for row in sample.query("SELECT tenant_id, state, sequence FROM standings")] == [
        ("acme", "active", 3)
    ]


def test_every_service_knows_without_doing_anything(sample: ServiceUnderTest) -> None:
    """The sample has no handlers of its own, and each of these is received by it."""
    names = {actor.actor_name for handlers in sample.app.handlers.values() for actor in handlers}
    assert {"follow_workspace", "honor_revocation", "retry_failed"} <= names
    assert WorkspaceStateChanged.type in sample.app.relay().event_types


def test_a_revocation_that_comes_twice_is_one_and_is_forgotten_in_time(sample: ServiceUnderTest) -> None:
    early, late = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    deliver(sample, revoked(revoked_at=late, forget_at=late))
    deliver(sample, revoked(revoked_at=early, forget_at=early))
    sample.drain()
    assert [tuple(row) for row in sample.query("SELECT tenant_id, kind, revoked_at, forget_at FROM revocations")] == [
        ("acme", "session", late, late)
    ]
    deliver(sample, revoked(credential_id=uuid4(), forget_at=datetime(2100, 1, 1, tzinfo=UTC)))
    sample.drain()

    with use(tenant_id=SYSTEM):
        done = sample.run_job(clean_up_revocations, tenant_id=SYSTEM)

    assert done.result == {"revocations": 1}
    assert len(sample.query("SELECT FROM revocations")) == 1


# -- what waits ------------------------------------------------------------------------------------------------


def test_a_suspended_workspace_waits_and_the_others_do_not(sample: ServiceUnderTest, hand_out: Round) -> None:  # noqa: F811
    """Jobs that may call out are held; those that touch their own database alone run."""
    standing(sample, "suspended")
    held = fill("acme", jobs.lease, 3)
    inside = fill("acme", jobs.write, 3)
    neighbor = fill("globex", jobs.lease, 2)

    assert {job.id for job in hand_out()} == {*inside, *neighbor}
    assert sample.why(held[0]).reason == "workspace_suspended"
    assert sample.why(inside[0]).reason == "handed_out"

    standing(sample, "active", 2)
    assert {job.id for job in hand_out()} == set(held)


def test_what_goes_on_is_found_among_what_waits(sample: ServiceUnderTest, hand_out: Round) -> None:  # noqa: F811
    """In one line: ninety jobs that wait, and behind them one that goes on."""
    standing(sample, "suspended")
    fill("acme", jobs.scripted, 90, priority=export_workspace.priority)
    job_id = sample.send(export_workspace)

    assert [job.id for job in hand_out()] == [job_id]


def test_what_waited_until_the_end_does_not_go_then(sample: ServiceUnderTest, hand_out: Round) -> None:  # noqa: F811
    """Archived after its suspension: nothing slips out before it is cancelled; only what archives is handed out."""
    standing(sample, "suspended")
    held = fill("acme", jobs.lease, 3)
    standing(sample, "archived", 2)

    (handed,) = hand_out()

    assert handed.actor == "archive_workspace"
    sample.execute("UPDATE jobs SET state = 'scheduled' WHERE id = :id", id=handed.id)
    assert sample.run(handed.id).result["cancelled"] == 3
    assert {sample.job(job_id).state for job_id in held} == {"cancelled"}


@pytest.mark.parametrize("state", ["canceled", "frozen"])
def test_what_was_begun_goes_on_while_frozen(sample: ServiceUnderTest, hand_out: Round, state: str) -> None:  # noqa: F811
    standing(sample, state)
    begun = fill("acme", jobs.lease, 2)
    assert {job.id for job in hand_out()} == set(begun)


@pytest.fixture
def running(fresh_sample: ServiceUnderTest) -> Iterator[ServiceUnderTest]:
    fresh_sample.start()
    yield fresh_sample
    fresh_sample.stop()


def test_reactivation_lets_go_at_once(running: ServiceUnderTest) -> None:
    """Through the real relay: what waited starts without anybody looking after it."""
    deliver(running, changed("suspended"), sequence=1)
    running.wait_until(lambda: running.query("SELECT FROM standings WHERE state = 'suspended'"))
    held = running.send(jobs.lease, key="held")
    inside = running.send(jobs.write, key="inside")
    running.wait_for(inside)
    assert running.job(held).state == "scheduled"

    deliver(running, changed("active", "suspended"), sequence=2)

    assert running.wait_for(held).state == "succeeded"


# -- what is not made any more ---------------------------------------------------------------------------------


def test_sweeps_pass_an_archived_workspace_over(sample: ServiceUnderTest) -> None:
    sample.execute("INSERT INTO standings VALUES ('acme', 'archived', 1, now()), ('frozen', 'frozen', 1, now())")
    found = [(tenant, {"key": tenant}) for tenant in ("acme", "frozen", "globex")]
    with use(tenant_id=SYSTEM), unit_of_work(system=True):
        assert queue_again(jobs.call, found) == 2
    assert {job.tenant_id for job in sample.jobs(actor="call")} == {"frozen", "globex"}
    assert enqueue_many(jobs.call, [{"key": "more"}]) == []
