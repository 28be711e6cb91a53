"""Who is alive: each worker process holds a PostgreSQL advisory lock for as long as it lives.

The lock goes the moment the process dies, however it dies, so a crash is noticed in a fraction of a
second. Its id is random per process, never a pod's name, so that a restarted pod is a new worker. A
heartbeat goes with it: a process that is suspended keeps its lock, and a database that restarted has
forgotten all locks, so only lock *and* heartbeat together tell. See `shared.jobs.recovery`.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from shared.db.database import SYSTEM_ROLE, Database

__all__ = ["HEARTBEAT", "LOCK_SPACE", "Liveness"]

HEARTBEAT = 0.5
"""Seconds between heartbeats."""

LOCK_SPACE = 0x6277  # "bw": the first key of the two-key advisory locks that workers hold

_CONFIRMED = 3.0
"""Seconds without a heartbeat after which a worker does not trust in being registered any more."""

log = logging.getLogger(__name__)

_REGISTER = """
INSERT INTO workers (id, host, pid, version, threads, queues, actors)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""

_BEAT = """
UPDATE workers SET heartbeat_at = clock_timestamp(), draining = %s WHERE id = %s RETURNING true
"""


class Liveness:
    """Says of this process, to the database, that it lives and what it can run."""

    def __init__(
        self, database: Database, *, threads: int, queues: Sequence[str], actors: Sequence[str], version: str
    ) -> None:
        self._database = database
        self._facts = (threads, list(queues), list(actors), version)
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self.worker_id = 0
        self.draining = False
        self.confirmed_at = 0.0
        """Monotonic moment of the last heartbeat that the database took."""
        self.turn: Callable[[], None] = lambda: None
        """Called in each round, whether or not the database answers, for a liveness probe."""

    def set_threads(self, threads: int) -> None:
        """Say how many jobs this worker runs at a time; before `start`."""
        self._facts = (threads, *self._facts[1:])

    def start(self, timeout: float = 30) -> None:
        """Take the lock and begin to beat; raises RuntimeError when the database is away for too long."""
        self._stop.clear()
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)
        self._thread.start()
        if not self._ready.wait(timeout):
            raise RuntimeError("the worker could not register itself with the database")

    def identity(self) -> int:
        """Return the id under which this worker may claim jobs.

        Raises psycopg.OperationalError while it has none that surely stands: before it is registered, while it is
        cut off, and after a time in which the whole process stood still. What it claimed then would be taken
        from it at once, as from a dead worker.
        """
        if not self.worker_id or self._connection is None or time.monotonic() - self.confirmed_at > _CONFIRMED:
            raise psycopg.OperationalError("this worker is not registered with the database at the moment")
        return self.worker_id

    def drain(self) -> None:
        """Say that this worker takes no new work."""
        self.draining = True

    def stop(self) -> None:
        """Take the worker off the list and let go of the lock."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
            self.worker_id = 0

    def _run(self) -> None:
        while not self._stop.is_set():
            self.turn()
            try:
                if self._connection is None:
                    self._connect()
                self._beat()
            except psycopg.Error as error:
                log.warning("heartbeat failed, the database may be away: %s", error)
                self._disconnect()
                self._stop.wait(0.2)
                continue
            self._stop.wait(HEARTBEAT)
        self._deregister()

    def _connect(self) -> None:
        connection = self._database.connect(role=SYSTEM_ROLE)
        worker_id = self.worker_id
        if worker_id:
            # Back after a cut: the same id if nobody has taken our jobs over meanwhile, else a new life.
            known = connection.execute("SELECT 1 FROM workers WHERE id = %s", (worker_id,)).fetchone()
            if known is None or not self._lock(connection, worker_id):
                worker_id = 0
        if not worker_id:
            worker_id = secrets.randbits(31)
            if not self._lock(connection, worker_id):
                raise psycopg.OperationalError("the worker's id is taken; trying another")
            threads, queues, actors, version = self._facts
            connection.execute(
                _REGISTER, (worker_id, socket.gethostname(), os.getpid(), version, threads, queues, actors)
            )
        self._connection = connection
        self.worker_id = worker_id

    @staticmethod
    def _lock(connection: psycopg.Connection[Any], worker_id: int) -> bool:
        row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCK_SPACE, worker_id)).fetchone()
        return bool(row and row[0])

    def _beat(self) -> None:
        assert self._connection is not None
        sent = time.monotonic()
        if self._connection.execute(_BEAT, (self.draining, self.worker_id)).fetchone() is None:
            log.warning("this worker was declared dead; it goes on under a new id")
            self._disconnect()
            self.worker_id = 0
            self._connect()
        self.confirmed_at = sent
        if not self._ready.is_set():
            self._ready.set()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _deregister(self) -> None:
        try:
            if self._connection is not None:
                self._connection.execute(
                    "DELETE FROM workers WHERE id = %s AND NOT EXISTS "
                    "(SELECT FROM jobs WHERE worker_id = %s AND state = 'running')",
                    (self.worker_id, self.worker_id),
                )
        except psycopg.Error as error:
            log.warning("the worker could not take itself off the list: %s", error)
        self._disconnect()
