"""Jobs for tests. Each records its effect as a row of `done`, so that a doubled effect is two rows."""

from __future__ import annotations

import enum
import os
import signal
import time
from collections.abc import Callable
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from shared.context import current
from shared.db import unit_of_work
from shared.jobs import GiveUp, Priority, Retry, Skip, Snooze, actor, completion, current_job, fan_out
from shared.jobs.verdict import Verdict


def record(key: str) -> None:
    """Write the effect in the open unit of work, or in one of its own."""
    with unit_of_work() as session:
        session.execute(
            text("INSERT INTO done (tenant_id, key, attempt) VALUES (:tenant, :key, :attempt)"),
            {"tenant": current().tenant_id, "key": key, "attempt": current().attempt},
        )


@actor(queue_name="work", transactional=True)
def write(key: str) -> None:
    record(key)


@actor(queue_name="leases", retry=(0.2, 0.4, 0.6))
def lease(key: str, seconds: float = 0.0) -> dict[str, str]:
    time.sleep(seconds)
    with completion({"key": key}):
        record(key)
    return {"key": key}


@actor(queue_name="work", transactional=True, retry=(0.2, 0.4, 0.6))
def fail_times(key: str, times: int) -> None:
    record(key)
    if current().attempt is not None and current().attempt <= times:  # type: ignore[operator]
        raise Retry("not_yet", "as the test wants it")


@actor(queue_name="calls", retry=(0.2, 0.4, 0.6), unique="key", subject="Lesson {key}")
def call_fails(key: str, code: str = "broken") -> None:
    raise Retry(code, "as the test wants it")


@call_fails.failed
def note_failure(verdict: Verdict, key: str, code: str = "broken") -> None:
    record(f"failed:{key}:{verdict.state}")


@actor(queue_name="calls")
def refuse(key: str) -> None:
    raise GiveUp("address_rejected", "no such street")


@actor(queue_name="work", transactional=True)
def skip(key: str) -> None:
    raise Skip("already_done")


@actor(queue_name="calls")
def snooze_once(key: str) -> None:
    with unit_of_work() as session:
        seen = session.execute(text("SELECT count(*) FROM done WHERE key = :key"), {"key": key}).scalar()
    if not seen:
        record(key)
        raise Snooze("later", delay=0.3)


@actor(queue_name="work", transactional=True, retry=(0.1,))
def kill_worker(key: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@actor(queue_name="default", retry=(0.2, 0.4, 0.6))
def slices(key: str, total: int) -> dict[str, int]:
    job = current_job()
    for number in range(job.checkpoint.get("number", 0), total):
        with unit_of_work():
            record(f"{key}:{number}")
            job.progress(number + 1, total, unit="pieces", checkpoint={"number": number + 1})
        job.breathe()
    return {"pieces": total}


@actor(queue_name="default")
def many(keys: list[str]) -> dict[str, Any]:
    return fan_out(write, [{"key": key} for key in keys], unit="keys")


SCRIPTS: dict[str, Callable[[], Any]] = {}
"""What `scripted` and `scripted_here` do, by key; for tests that run jobs in their own process."""

HOOKS: dict[str, Callable[[Verdict], None]] = {}


@actor(queue_name="default", retry=(10, 60, 600), subject="Script {key}")
def scripted(key: str) -> Any:
    """A leased job that does what the test wrote for it."""
    return SCRIPTS[key]()


@actor(queue_name="work", transactional=True, retry=(10, 60, 600))
def scripted_here(key: str) -> Any:
    """The same, transactional."""
    return SCRIPTS[key]()


@scripted.failed
def after_script(verdict: Verdict, key: str) -> None:
    HOOKS.get(key, lambda _: None)(verdict)


@scripted_here.failed
def after_script_here(verdict: Verdict, key: str) -> None:
    HOOKS.get(key, lambda _: None)(verdict)


@actor(queue_name="leases", retry=(0.1,))
def kill_worker_leased(key: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Flavor(enum.Enum):
    SWEET = "sweet"
    SOUR = "sour"


@actor(queue_name="default", unique=("number", "flavor"))
def typed(
    ident: UUID | None = None,
    at: datetime | None = None,
    day: date | None = None,
    flavor: Flavor = Flavor.SWEET,
    idents: list[UUID] | None = None,
    number: int = 0,
) -> dict[str, str]:
    """Say which types the arguments have when they arrive."""
    arguments = {"ident": ident, "at": at, "day": day, "flavor": flavor, "idents": (idents or [None])[0]}
    return {name: type(value).__name__ for name, value in arguments.items()}


@actor(queue_name="calls", unique="key")
def call(key: str) -> None:
    """A job of a queue whose provider may be down."""


@actor(queue_name="default", priority=Priority.URGENT)
def urgent(key: str) -> None:
    record(key)


@actor(queue_name="leases", time_limit=0.5, retry=())
def overruns(key: str) -> None:
    """Takes longer than it may."""
    while True:
        time.sleep(0.01)


@actor(queue_name="leases", retry=(0.1, 0.1, 0.1))
def hold(key: str) -> None:
    """Runs until somebody writes the effect `let go:<key>`."""
    while True:
        with unit_of_work() as session:
            statement = text("SELECT count(*) FROM done WHERE key = :key")
            if session.execute(statement, {"key": f"let go:{key}"}).scalar():
                break
        time.sleep(0.02)
    with completion():
        record(key)


@actor(queue_name="leases", retry=())
def patient(key: str, seconds: float) -> None:
    """Works for a while without the database, then writes its effect."""
    time.sleep(seconds)
    with completion():
        record(key)


@actor(queue_name="leases", retry=(12, 1, 1))
def climb(key: str) -> None:
    """Fails each time, and notes when this run was due and when it began, by the clock of the database."""
    with unit_of_work() as session:
        row = session.execute(
            text("SELECT run_at, started_at FROM jobs WHERE id = :id"), {"id": current_job().id}
        ).one()
        record(f"{key}|{current_job().attempt}|{row.run_at.isoformat()}|{row.started_at.isoformat()}")
    raise Retry("not_yet")
