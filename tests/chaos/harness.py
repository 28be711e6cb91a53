"""One run: load and faults together, then rest, then judgment."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.clients import Books, Caller, load
from tests.chaos.faults import KINDS, SANDBOX_RULES, Injector, schedule
from tests.chaos.judge import Verdict, judge
from tests.chaos.pace import Pace
from tests.chaos.targets.base import AUDIT, Target
from tests.chaos.world import SUSPENDED, World

__all__ = ["Outcome", "Plan", "run"]

_WATCHED = 60.0
"""Seconds without any change after which what is still open counts as stuck."""


@dataclass(frozen=True)
class Plan:
    """What to do. Two runs of one plan break the same things in the same order."""

    orders: int = 500
    faults: int = 20
    seed: int = 1
    tenants: int = 6
    clients: int = 8
    kinds: dict[str, int] = field(default_factory=lambda: dict(KINDS))
    sandbox_rules: list[dict[str, Any]] = field(default_factory=lambda: list(SANDBOX_RULES))
    gap: float = 1.0
    """Seconds from one fault to the next, at least. With too few, most orders would be bought when all is over."""
    rest: float = 600.0
    """Seconds after the last fault within which all must have ended."""
    directory: Path | None = None
    """Where logs are kept; a directory that goes with the run if None."""


@dataclass
class Outcome:
    """What a run found. `phases` are durations in seconds."""

    plan: Plan
    target: str
    verdict: Verdict
    faults: Counter[str]
    missed: Counter[str]
    phases: dict[str, float]
    restarts: dict[str, int]
    sandbox: dict[str, int]

    @property
    def holds(self) -> bool:
        return not self.verdict.violations


def run(target: Target, plan: Plan, *, quiet: bool = False) -> Outcome:
    """Run a plan against a target and judge what became of it."""

    def say(line: str) -> None:
        line = f"{datetime.now(UTC):%H:%M:%S} {time.monotonic() - began:7.1f} s  {line}"
        if not quiet:
            print(line, file=sys.stderr, flush=True)
        if plan.directory is not None:
            with (plan.directory / "chaos.log").open("a") as log:
                log.write(f"{line}\n")

    began = time.monotonic()
    phases: dict[str, float] = {}
    with World(target, seed=plan.seed, faults=plan.sandbox_rules, directory=plan.directory) as world:
        books = Books()
        tenants = [f"tenant-{number}" for number in range(1, plan.tenants + 1)]
        for tenant in tenants:
            target.enroll(world, Caller(world, tenant, books))
        phases["start"] = time.monotonic() - began
        say(f"{target.name} is up; seed {plan.seed}, {plan.orders} orders, {plan.faults} faults")
        pace = Pace(plan.orders, max(1, plan.faults))
        faults = schedule(plan.seed, plan.faults, plan.kinds)
        injector = Injector(world, faults, pace, suspended=SUSPENDED, gap=plan.gap)
        failures: list[BaseException] = []

        def inject() -> None:
            try:
                injector.run(say)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=inject, name="faults")
        thread.start()
        try:
            load(
                world,
                target,
                books,
                orders=plan.orders,
                tenants=tenants,
                seed=plan.seed,
                threads=plan.clients,
                pace=pace,
            )
        except BaseException:
            injector.stopped.set()
            raise
        phases["load"] = time.monotonic() - began - sum(phases.values())
        thread.join()
        if failures:
            raise failures[0]
        phases["faults"] = time.monotonic() - began - sum(phases.values())
        say(f"all accepted ({len(books.purchases)} orders), no more faults; waiting until everything has ended")
        stuck = _rest(world, target, books, plan, say)
        world.sandbox.settle()
        phases["rest"] = time.monotonic() - began - sum(phases.values())
        sandbox: Counter[str] = Counter()
        for row in world.sandbox.calls()["counts"]:
            if row["fault"]:
                sandbox[f"{row['route']} {row['fault']}"] += row["count"]
        verdict = judge(world, target, books, stuck=stuck)
        restarts = {program.name: program.starts - 1 for program in world.supervisor.programs}
    phases["judgment"] = time.monotonic() - began - sum(phases.values())
    return Outcome(plan, target.name, verdict, injector.done, injector.missed, phases, restarts, dict(sandbox))


def _rest(world: World, target: Target, books: Books, plan: Plan, say: Any) -> list[str]:
    """Wait until nothing is under way; return what is still open when nothing moves any more, or time is up."""
    deadline = time.monotonic() + plan.rest
    seen: Any = None
    changed_at = time.monotonic()
    told_at = 0.0
    while True:
        now = time.monotonic()
        try:
            with world.connect() as connection:
                open_now, mark = target.progress(connection, world)
                situation = target.situation(connection)
        except psycopg.OperationalError:
            time.sleep(0.5)
            continue
        if open_now == 0:
            return []
        if mark != seen:
            seen, changed_at = mark, now
        if now - told_at > 10:
            told_at = now
            say(f"{open_now} under way: {situation}")
        if now - changed_at > _WATCHED or now > deadline:
            why = "nothing has changed for a minute" if now < deadline else "time is up"
            return [f"{open_now} under way and {why}", *_stuck(world), *_in_the_broker(world)]
        time.sleep(0.5)


def _in_the_broker(world: World) -> list[str]:
    """Say what RabbitMQ holds: a message that nobody acknowledges is a different matter from one that is gone."""
    columns = ("name", "messages_ready", "messages_unacknowledged", "consumers")
    try:
        lines = world.rabbit.control("list_queues", "--no-table-headers", *columns).splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        return [f"RabbitMQ does not say what it holds: {error}"]
    return [f"queue {line}" for line in lines if line.split()[1:3] != ["0", "0"] and not line.startswith(AUDIT)]


def _stuck(world: World) -> list[str]:
    """Say of some jobs that did not end why, in the system's own words."""
    said = []
    with world.connect() as connection:
        rows = connection.execute(
            "SELECT id::text, tenant_id, actor, state, dispatch, runs, waiting_for, run_at FROM jobs "
            "WHERE state IN ('scheduled', 'queued', 'running') ORDER BY id LIMIT 10"
        ).fetchall()
    for job_id, tenant, actor, state, dispatch, runs, waiting_for, run_at in rows:
        why = Caller(world, tenant, Books()).get(f"/v1/jobs/{job_id}/why") or {}
        said.append(
            f"job {job_id} ({actor}, {tenant}) is {state}, dispatch {dispatch}, runs {runs}, due {run_at}, "
            f"waiting for {waiting_for}: {why.get('reason', 'no answer')}: {why.get('detail', '')}"
        )
    return said
