"""Claiming jobs: the one gate through which a job enters a worker.

A claim succeeds only for a job that is queued under exactly the dispatch number of the message; a
duplicate or stale message finds nothing. Leased claims of all threads of a process are gathered while
one is being committed, so that under load one commit claims many.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import Connection

from shared.db.database import SYSTEM_ROLE, Database
from shared.jobs.liveness import Liveness
from shared.jobs.models import QUEUED, RUNNING

__all__ = ["Claim", "ClaimBatcher", "lock_queued"]

_FIELDS = """
    id, tenant_id, actor, queue, subject, arguments, runs, failures, dispatch, run_at, created_at, checkpoint, progress,
    principal, request_id, correlation_id, causation_id, traceparent, cancel_requested_at, parent_id, once_key
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job in the hands of this worker. `runs` counts this run where the claim is committed."""

    id: uuid.UUID
    tenant_id: str
    actor: str
    queue: str
    subject: str | None
    arguments: dict[str, Any]
    runs: int
    failures: int
    dispatch: int
    run_at: datetime
    created_at: datetime
    checkpoint: dict[str, Any] | None
    progress: dict[str, Any] | None
    principal: str | None
    request_id: str | None
    correlation_id: str | None
    causation_id: str | None
    traceparent: str | None
    cancel_requested_at: datetime | None
    parent_id: uuid.UUID | None
    once_key: str | None
    worker_id: int | None
    """Under which id the claim was committed; None while it is but a lock."""


_LOCK = f"""
SELECT {_FIELDS}, NULL::bigint FROM jobs WHERE id = ANY(%s) AND {QUEUED} FOR UPDATE SKIP LOCKED
"""  # noqa: S608

# A claim whose commit was cut off may stand all the same: then the job is running, and it is ours already.
_CLAIM = f"""
UPDATE jobs SET state = 'running', worker_id = %(worker)s, runs = runs + (state = 'queued')::int, waiting_for = NULL,
                started_at = clock_timestamp(), updated_at = clock_timestamp()
FROM unnest(%(ids)s::uuid[], %(dispatches)s::int[]) AS message(job_id, number)
WHERE jobs.id = message.job_id AND jobs.dispatch = message.number
  AND ({QUEUED} OR ({RUNNING} AND jobs.worker_id = %(worker)s))
RETURNING {_FIELDS}, worker_id
"""  # noqa: S608


def lock_queued(connection: Connection, jobs: Sequence[tuple[uuid.UUID, int]]) -> list[Claim]:
    """Lock those jobs that are ours to run in the open transaction, in the order of the message.

    For transactional jobs: the lock is the claim, and it ends with the commit of the effect.
    """
    wanted = dict(jobs)
    rows = connection.exec_driver_sql(_LOCK, (list(wanted),))
    found = {row[0]: Claim(*row) for row in rows}
    return [found[job] for job, dispatch in jobs if job in found and found[job].dispatch == dispatch]


_Waiting = tuple[uuid.UUID, int, Future[Claim | None]]


class ClaimBatcher:
    """Commits leased claims from a thread of its own: those that come while one commit is under way share the next.

    These commits do not wait for the disk. A claim that a crash of the database undoes is a claim of which
    nothing durable can have come: whatever is committed later makes it durable first, since the log is one.
    """

    def __init__(self, database: Database, liveness: Liveness) -> None:
        self._database = database
        self._liveness = liveness
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        # By number, too: while a run that was taken over has not noticed yet, the job may come back under a new one.
        self._held: set[tuple[uuid.UUID, int]] = set()
        self._thread: threading.Thread | None = None
        self._connection: psycopg.Connection[Any] | None = None

    def start(self) -> None:
        """Start the thread. Claims begin it by themselves where nobody has."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="claims", daemon=True)
                self._thread.start()

    def claim(self, job_id: uuid.UUID, dispatch: int) -> Claim | None:
        """Claim a job; return it, or None when it is not ours to run. `release` it when its run is over.

        Raises psycopg.Error when the database is away; claiming again is then safe.
        """
        if self._thread is None:
            self.start()
        with self._lock:
            if (job_id, dispatch) in self._held:
                return None
            self._held.add((job_id, dispatch))
        future: Future[Claim | None] = Future()
        self._waiting.put((job_id, dispatch, future))
        try:
            claim = future.result()
        except BaseException:
            self.release(job_id, dispatch)
            raise
        if claim is None:
            self.release(job_id, dispatch)
        return claim

    def release(self, job_id: uuid.UUID, dispatch: int) -> None:
        """Let go of a claimed job whose run is over."""
        with self._lock:
            self._held.discard((job_id, dispatch))

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    batch.append(self._waiting.get_nowait())
            self._commit(batch)

    def _commit(self, batch: list[_Waiting]) -> None:
        try:
            # In one order, lest two processes that claim in bulk wait for each other.
            batch.sort(key=lambda item: item[0])
            rows = self._connected().execute(
                _CLAIM,
                {
                    "worker": self._liveness.identity(),
                    "ids": [item[0] for item in batch],
                    "dispatches": [item[1] for item in batch],
                },
            )
            claims = [Claim(*row) for row in rows]
            claimed = {(claim.id, claim.dispatch): claim for claim in claims}
            for job_id, dispatch, future in batch:
                future.set_result(claimed.get((job_id, dispatch)))
        except BaseException as error:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
            for _, _, future in batch:
                if not future.done():
                    future.set_exception(error)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            # In autocommit: one statement is the whole transaction, and one round trip.
            self._connection = self._database.connect(role=SYSTEM_ROLE, prepare_threshold=1)
            self._connection.execute("SET synchronous_commit = off")
        return self._connection
