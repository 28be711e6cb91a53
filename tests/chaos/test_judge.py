"""The judge itself: each kind of wrong is seen, and what is right is not called wrong. No processes here."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.clients import Books
from tests.chaos.faults import KINDS, schedule
from tests.chaos.judge import Verdict, _judge_accepted, _judge_jobs, _judge_money
from tests.chaos.targets.base import Answered, JobRecord, Purchase


def charge(reference: str, transaction: str = "tx-1") -> dict[str, Any]:
    return {"kind": "charge", "metadata": reference, "transaction": transaction}


def purchase(state: str = "purchased", **fields: Any) -> Purchase:
    return Purchase(**{"order_id": "o-1", "reference": "label-1", "state": state, "job_id": "j-1", **fields})


def job(state: str = "succeeded", **fields: Any) -> JobRecord:
    record = {"id": "j-1", "tenant": "t", "actor": "buy", "state": state, "outcome": None, "code": None, "alerts": 0}
    return JobRecord(**{**record, **fields})


def books(*job_ids: str | None) -> Books:
    """One order, accepted once per job id."""
    kept = Books()
    kept.order("o-1", "1", "t")
    for job_id in job_ids:
        kept.purchase("t", Answered({"o-1": job_id}))
    return kept


def kinds(verdict: Verdict) -> list[str]:
    return sorted(violation.kind for violation in verdict.violations)


@pytest.mark.parametrize(
    ("purchases", "charges", "expected"),
    [
        ([purchase()], [charge("label-1")], []),
        ([purchase("failed")], [], []),
        ([purchase("needs_review")], [charge("label-1")], []),
        ([purchase("needs_review")], [], []),
        ([purchase()], [], ["lost"]),
        ([purchase()], [charge("label-1"), charge("label-1", "tx-2")], ["doubled"]),
        ([purchase("failed")], [charge("label-1")], ["orphan charge"]),
        ([purchase("open")], [charge("label-1")], ["orphan charge"]),
        ([purchase(transaction="tx-9")], [charge("label-1")], ["orphan charge"]),
        ([], [charge("label-7")], ["orphan charge"]),
        # A failed label and the one that was bought after it are one order, charged once.
        ([purchase("failed", reference="label-0"), purchase()], [charge("label-1")], []),
        (
            [purchase(reference="label-0"), purchase()],
            [charge("label-0"), charge("label-1", "tx-2")],
            ["doubled"],
        ),
    ],
)
def test_money(purchases: list[Purchase], charges: list[dict[str, Any]], expected: list[str]) -> None:
    verdict = Verdict()
    by_reference: dict[str, list[Any]] = {}
    for entry in charges:
        by_reference.setdefault(entry["metadata"], []).append(entry)
    by_order = {"o-1": purchases} if purchases else {}
    _judge_money(verdict, books("j-1"), by_order, by_reference, durable=True)
    assert kinds(verdict) == expected


def test_without_records_of_jobs_what_was_accepted_and_never_bought_is_lost() -> None:
    verdict = Verdict()
    _judge_money(verdict, books(None), {"o-1": [purchase("open", job_id=None)]}, {}, durable=False)
    assert kinds(verdict) == ["lost"]


@pytest.mark.parametrize(
    ("accepted", "jobs", "expected"),
    [
        (books("j-1", "j-1"), [job()], []),
        (books("j-1"), [], ["lost"]),
        (books("j-1", "j-2"), [job(), job(id="j-2")], ["doubled job"]),
        (books("j-1", "j-2"), [job("failed"), job(id="j-2")], []),
    ],
)
def test_what_was_accepted_exists_and_is_one_job(accepted: Books, jobs: list[JobRecord], expected: list[str]) -> None:
    verdict = Verdict()
    _judge_accepted(verdict, accepted, {"o-1": [purchase()]}, {one.id: one for one in jobs})
    assert kinds(verdict) == expected


def test_an_accepted_purchase_without_a_trace_is_lost() -> None:
    verdict = Verdict()
    _judge_accepted(verdict, books("j-1"), {}, {"j-1": job()})
    assert kinds(verdict) == ["lost"]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (job(), []),
        (job("cancelled"), []),
        (job("failed", code="address_rejected", alerts=1), []),
        (job("failed", code="address_rejected"), ["alerts"]),
        (job("failed", code="address_rejected", alerts=2), ["alerts"]),
        (job("failed", code="unexpected", alerts=1), ["no reason"]),
        (job("failed", alerts=1), ["no reason"]),
        (job(alerts=1), ["alerts"]),
        (job("running"), ["not ended"]),
        (job("scheduled"), ["not ended"]),
    ],
)
def test_every_job_ends_and_says_why_once(record: JobRecord, expected: list[str]) -> None:
    verdict = Verdict()
    _judge_jobs(verdict, {record.id: record})
    assert kinds(verdict) == expected


def test_a_seed_gives_the_same_faults_again() -> None:
    assert schedule(7, 50) == schedule(7, 50)
    assert schedule(7, 50) != schedule(8, 50)


def test_every_kind_of_fault_is_in_a_short_run() -> None:
    for seed in range(20):
        assert {fault.kind for fault in schedule(seed, 20)} == set(KINDS)
