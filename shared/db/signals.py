"""Hints between processes, over NOTIFY: "there is work" to the relay, "these things changed" to watchers.

Hints only: whoever listens also looks by itself now and then, so a lost one costs a moment. They are
sent by one thread per process on a connection of its own, after the commits that they speak of, because
a NOTIFY inside a transaction serializes all commits of the database behind one lock; and it gathers
what comes in while it sends, so that a thousand changes cost a few notifications.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
import weakref
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.db.database import Database, Work, current_database, current_work

__all__ = [
    "CHANGES",
    "JOBS",
    "REFUSALS",
    "RELAY",
    "Signals",
    "changed_after_commit",
    "jobs_changed",
    "refusals_changed",
    "wake_relay",
    "wake_relay_after",
]

RELAY = "backroom_relay"
CHANGES = "backroom_changes"
"""One channel for all that is watched; each hint says of which topic it is: `["jobs", [[tenant, id], …]]`."""
JOBS = "jobs"
REFUSALS = "backroom_refusals"
_PER_NOTIFICATION = 90  # of 78 bytes each: PostgreSQL takes payloads below 8,000 bytes

log = logging.getLogger(__name__)


class Signals:
    """The hints of one process about one database."""

    def __init__(self, database: Database) -> None:
        self._database = weakref.ref(database)
        self._pending = threading.Event()
        self._lock = threading.Lock()
        self._wake = False
        self._changed: dict[tuple[str, uuid.UUID], str] = {}
        self._thread: threading.Thread | None = None

    # Only the first of what the thread has not yet seen rouses it: the rest goes with that, and a thread roused by
    # every job would take the interpreter from those that run them.

    def wake(self) -> None:
        self.start()
        if not self._wake:
            self._wake = True
            self._pending.set()

    def changed(self, topic: str, things: Mapping[uuid.UUID, str]) -> None:
        self.start()
        with self._lock:
            first = not self._changed
            self._changed.update({(topic, thing): tenant for thing, tenant in things.items()})
        if first:
            self._pending.set()

    def start(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="signals", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        wake_at = changes_at = 0.0
        while True:
            if not self._wake and not self._changed:
                self._pending.wait()
            elif self._wake:
                # Under load a hint every few milliseconds says as much as one for every job.
                time.sleep(max(0.0, wake_at - time.monotonic()))
            else:
                self._pending.wait(max(0.0, changes_at - time.monotonic()))
            self._pending.clear()
            database = self._database()
            if database is None:
                return
            now = time.monotonic()
            wake, self._wake = self._wake, False
            changed: dict[tuple[str, uuid.UUID], str] = {}
            if now >= changes_at:
                with self._lock:
                    changed, self._changed = self._changed, {}
            try:
                if connection is None or connection.closed:
                    connection = database.connect()
                if wake:
                    wake_at = now + 0.008
                    connection.execute("SELECT pg_notify(%s, '')", (RELAY,))
                if changed:
                    _send_changes(connection, changed)
                    # People watch jobs, and need no more than twenty updates a second.
                    changes_at = now + 0.05
            except psycopg.Error as error:
                log.warning("hints not sent: %s", error)
                connection = None
                time.sleep(0.5)


def _send_changes(connection: psycopg.Connection[Any], changed: Mapping[tuple[str, uuid.UUID], str]) -> None:
    by_topic: dict[str, list[list[str]]] = {}
    for (topic, thing), tenant in changed.items():
        by_topic.setdefault(topic, []).append([tenant, str(thing)])
    for topic, items in by_topic.items():
        for start in range(0, len(items), _PER_NOTIFICATION):
            payload = json.dumps([topic, items[start : start + _PER_NOTIFICATION]], separators=(",", ":"))
            connection.execute("SELECT pg_notify(%s, %s)", (CHANGES, payload))


_by_database: weakref.WeakKeyDictionary[Database, Signals] = weakref.WeakKeyDictionary()
_by_database_lock = threading.Lock()


def _of(database: Database) -> Signals:
    signals = _by_database.get(database)
    if signals is None:
        with _by_database_lock:
            signals = _by_database.setdefault(database, Signals(database))
    return signals


def start(database: Database) -> None:
    """Start the thread that sends the hints about this database; requests may not start threads themselves."""
    _of(database).start()


def wake_relay() -> None:
    """Tell the relay of the current database that jobs or events wait to be handed out."""
    _of(current_database()).wake()


def wake_relay_after(work: Work) -> None:
    """Wake the relay once this unit of work has committed; more than once is as good as once."""
    if wake_relay not in work.after_commit:
        work.after_commit.append(wake_relay)


def jobs_changed(jobs: Mapping[uuid.UUID, str]) -> None:
    """Tell whoever watches that these jobs changed; maps each job's id to its tenant."""
    _of(current_database()).changed(JOBS, jobs)


def changed_after_commit(topic: str, things: Mapping[uuid.UUID, str]) -> None:
    """Tell whoever watches that these changed, once the open unit of work has committed; maps ids to tenants.

    Raises RuntimeError outside of any unit of work.
    """
    work = current_work()
    if work is None:
        raise RuntimeError("what changed is told after a commit; there is no open unit of work")
    if things:
        work.after_commit.append(lambda: _of(work.database).changed(topic, things))


def refusals_changed(session: Session) -> None:
    """Tell whoever serves requests that other workspaces or credentials are to be refused, once this has committed.

    In the transaction, unlike the others: it is rare, and then worth that no hint is lost with its process.
    """
    session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": REFUSALS})
