"""The judgment: the ledger of the sandbox and the list of what was accepted, against each other.

The target's own records say which purchase is which and why a job failed; whether something was bought, and how
often, is the ledger's word alone.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pika

from tests.chaos.targets.base import AUDIT, JobRecord, Purchase

if TYPE_CHECKING:
    from tests.chaos.clients import Books
    from tests.chaos.targets.base import Target
    from tests.chaos.world import World

__all__ = ["Verdict", "Violation", "judge"]

_FINAL = ("succeeded", "failed", "cancelled")
_NO_REASON = {None, "", "unexpected"}
"""Codes of failures that explain nothing."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be. `kind` is one of lost, doubled, not ended, orphan charge, …"""

    kind: str
    what: str


@dataclass
class Verdict:
    """What was found."""

    violations: list[Violation] = field(default_factory=list)
    figures: dict[str, int | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, what: str) -> None:
        self.violations.append(Violation(kind, what))

    def count(self, *kinds: str) -> int:
        """Return how many violations are of these kinds."""
        return sum(violation.kind in kinds for violation in self.violations)


def judge(world: World, target: Target, books: Books, *, stuck: Sequence[str] = ()) -> Verdict:
    """Judge a run that has come to rest; `stuck` are sentences about what did not end."""
    verdict = Verdict()
    charges: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    entries = world.entries()
    for entry in entries:
        if entry["kind"] == "charge":
            charges[target.reference_of(entry)].append(entry)
    for sentence in stuck:
        verdict.add("not ended", sentence)
    for sentence in books.unanswered:
        verdict.add("unanswered", sentence)
    with world.connect() as connection:
        purchases = target.purchases(connection)
        jobs = {job.id: job for job in target.jobs(connection)}
        published = _published(connection) if target.durable else set()
    by_order: dict[str, list[Purchase]] = defaultdict(list)
    for purchase in purchases:
        by_order[purchase.order_id].append(purchase)
    if target.durable:
        _judge_accepted(verdict, books, by_order, jobs)
        _judge_jobs(verdict, jobs)
    _judge_money(verdict, books, by_order, charges, durable=target.durable)
    if target.durable:
        _judge_events(verdict, world, published)
    states = Counter(purchase.state for purchase in purchases)
    ends = Counter(job.state for job in jobs.values())
    verdict.figures |= {
        "orders accepted": len(books.orders),
        "purchases accepted": len(books.purchases) + len(books.parents),
        "refused requests": len(books.refused),
        "requests repeated by clients": sum(books.repeats.values()),
        "charges in the ledger": sum(len(found) for found in charges.values()),
        **{f"purchases {state}": states[state] for state in sorted(states)},
        **{f"jobs {state}": ends[state] for state in sorted(ends)},
        "lost": verdict.count("lost"),
        "charged twice": verdict.count("doubled"),
        "not ended": verdict.count("not ended"),
    }
    codes = Counter(job.code for job in jobs.values() if job.state == "failed")
    if codes:
        verdict.notes.append("failed for: " + ", ".join(f"{code} {count}" for code, count in codes.most_common()))
    if books.repeats:
        verdict.notes.append("repeated for: " + ", ".join(f"{why} {n}" for why, n in books.repeats.most_common()))
    if books.refused:
        verdict.notes.append(f"first refusal: {books.refused[0]}")
    return verdict


def _judge_accepted(
    verdict: Verdict, books: Books, by_order: Mapping[str, list[Purchase]], jobs: Mapping[str, JobRecord]
) -> None:
    """Everything that was answered with 2xx exists; however often it was asked for, it is one job."""
    for accepted in books.purchases.values():
        if accepted.order_id not in by_order:
            verdict.add("lost", f"order {accepted.order_id}: a purchase was accepted, and there is none")
        for job_id in accepted.job_ids:
            if job_id not in jobs:
                verdict.add("lost", f"order {accepted.order_id}: job {job_id} was accepted, and is gone")
        # Who asks again after a failure gets a new job, and is right to.
        alive = [job_id for job_id in accepted.job_ids if job_id in jobs and jobs[job_id].state != "failed"]
        if len(alive) > 1:
            verdict.add("doubled job", f"order {accepted.order_id}: {', '.join(sorted(alive))}")
    for parent in books.parents:
        if parent not in jobs:
            verdict.add("lost", f"job {parent} (many purchases) was accepted, and is gone")


def _judge_jobs(verdict: Verdict, jobs: Mapping[str, JobRecord]) -> None:
    """Every job has ended, and whatever failed says why, once."""
    for job in jobs.values():
        if job.state not in _FINAL:
            verdict.add("not ended", f"job {job.id} ({job.actor}) is {job.state}")
        if job.state == "failed":
            if job.code in _NO_REASON:
                verdict.add(
                    "no reason",
                    f"job {job.id} ({job.actor}) failed with code {job.code!r}: {(job.detail or '')[-600:]}",
                )
            if job.alerts != 1:
                verdict.add("alerts", f"job {job.id} ({job.actor}) failed and sent {job.alerts} alerts")
        elif job.alerts:
            verdict.add("alerts", f"job {job.id} ({job.actor}) is {job.state} and sent {job.alerts} alerts")


def _judge_money(
    verdict: Verdict,
    books: Books,
    by_order: Mapping[str, list[Purchase]],
    charges: Mapping[str, list[Mapping[str, Any]]],
    *,
    durable: bool,
) -> None:
    """One charge for what was bought, none for what was not, and never two for one order."""
    known: set[str] = set()
    for order_id, purchases in by_order.items():
        known.update(purchase.reference for purchase in purchases)
        paid = [charge for purchase in purchases for charge in charges.get(purchase.reference, ())]
        if len(paid) > 1:
            transactions = ", ".join(charge["transaction"] for charge in paid)
            verdict.add("doubled", f"order {order_id}: {len(paid)} charges: {transactions}")
        for purchase in purchases:
            mine = charges.get(purchase.reference, [])
            where = f"order {order_id}, job {purchase.job_id}, {purchase.reference}"
            if purchase.state == "purchased" and not mine:
                verdict.add("lost", f"{where}: purchased by our records, and never charged")
            if mine and purchase.state not in ("purchased", "needs_review") and durable:
                verdict.add("orphan charge", f"{where}: charged, and {purchase.state} by our records")
            if purchase.transaction and mine and purchase.transaction not in {c["transaction"] for c in mine}:
                verdict.add("orphan charge", f"{where}: our records name transaction {purchase.transaction}")
            if purchase.state == "needs_review":
                verdict.notes.append(f"needs review: {where}, charged {len(mine)} times")
        if not durable and order_id in books.purchases and not paid:
            verdict.add("lost", f"order {order_id}: accepted, and never bought")
    for reference, found in charges.items():
        if reference not in known:
            verdict.add("orphan charge", f"{len(found)} charges for {reference!r}, which our records do not know")


def _published(connection: Any) -> set[str]:
    return {str(row[0]) for row in connection.execute("SELECT id FROM outbox WHERE published_at IS NOT NULL")}


def _judge_events(verdict: Verdict, world: World, published: set[str]) -> None:
    """What the outbox calls published has reached a queue outside of the system."""
    arrived: Counter[str] = Counter()
    broker = pika.BlockingConnection(pika.URLParameters(world.rabbit.url))
    channel = broker.channel()
    while True:
        method, _, body = channel.basic_get(AUDIT, auto_ack=True)
        if method is None:
            break
        arrived[json.loads(body)["id"]] += 1
    broker.close()
    for event in sorted(published - set(arrived)):
        verdict.add("lost event", f"event {event} is marked as published, and never arrived")
    verdict.figures["events published"] = len(published)
    verdict.figures["events that came more than once"] = sum(count > 1 for count in arrived.values())
