"""Server-Sent Events: what becomes of jobs, told as it happens.

One `Hub` per process listens to PostgreSQL and reads what changed; streams only wait for what it finds,
so a stream costs a thread of the server but no connection to the database. NOTIFY is a hint: the hub
also re-reads all that is watched every two seconds, in one round trip, under the row-level security of each
tenant. A slow reader gets the newest state of each job, not all the states in between.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

from shared.db.database import APP_ROLE, Database
from shared.db.signals import CHANGES
from shared.jobs.models import FINAL, Job
from shared.outbound.guard import allowed
from shared.telemetry.logs import get_logger
from shared.web.jobs_view import Explain, job_view
from shared.web.problems import Unavailable

__all__ = ["Hub", "Watch", "event_id"]

log = get_logger(__name__)

HEARTBEAT: Final = 15.0
"""Seconds of silence before a comment is sent: keeps proxies from giving up, and finds those who left."""

MAX_LIFE: Final = 300.0
"""Seconds after which a stream ends and the client connects anew: no stream outlives a deploy or a token."""

RETRY: Final = 3000
"""Milliseconds after which a browser connects anew."""

REREAD: Final = 2.0
"""Seconds between two looks at everything that is watched; NOTIFY is faster, but only a hint."""

_LOOK: Final = 1.0  # seconds between two looks whether the client is still there

_MAX_TRACKED: Final = 500  # jobs that one stream of a whole tenant keeps an eye on

_COLUMNS: Final = ", ".join(f"jobs.{column.name}" for column in Job.__table__.columns)
_ENTER: Final = "SELECT set_config('backroom.tenant', %s, true)"
_BY_ID: Final = f"SELECT {_COLUMNS} FROM jobs WHERE id = ANY(%s)"  # noqa: S608 - columns of the model
_IN_FLIGHT: Final = f"""
SELECT {_COLUMNS} FROM jobs WHERE id = ANY(%s)
UNION ALL
(SELECT {_COLUMNS} FROM jobs
 WHERE tenant_id = %s AND state IN ('queued', 'running') AND NOT id = ANY(%s) LIMIT {_MAX_TRACKED})
"""  # noqa: S608

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def event_id(moment: datetime) -> int:
    """Return the id of an event: the job's `updated_at` in microseconds since the epoch."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


class Watch:
    """What one client waits for: a job, or all jobs of a tenant (of one principal where `principal` is set)."""

    def __init__(self, tenant_id: str, job_id: uuid.UUID | None, principal: str | None, since: int) -> None:
        self.tenant_id = tenant_id
        self.job_id = job_id
        self._principal = principal
        self._since = since
        self._seen: dict[uuid.UUID, tuple[int, str]] = {}
        self._pending: dict[uuid.UUID, Any] = {}
        self._changed = threading.Condition()
        self._closed = False

    def offer(self, job: Any) -> None:
        """Take a job's row as it is now; older news than what the client has is dropped."""
        if self.job_id is not None and job.id != self.job_id:
            return
        if self._principal is not None and job.principal != self._principal:
            return
        version = event_id(job.updated_at)
        with self._changed:
            if version <= self._seen.get(job.id, (self._since, ""))[0]:
                return
            if job.id in self._pending and version <= event_id(self._pending[job.id].updated_at):
                return
            self._pending[job.id] = job
            self._changed.notify()

    def take(self, seconds: float) -> list[tuple[str, Any]]:
        """Wait up to so long for news; return (kind, job) in order of time, empty when there were none."""
        with self._changed:
            if not self._pending and not self._closed:
                self._changed.wait(seconds)
            jobs = sorted(self._pending.values(), key=lambda job: job.updated_at)
            self._pending.clear()
            news = []
            for job in jobs:
                before = self._seen.get(job.id)
                self._seen.pop(job.id, None)  # to the end: the first of the dict is the one longest unchanged
                self._seen[job.id] = (event_id(job.updated_at), job.state)
                kind = "end" if job.state in FINAL else "progress"
                if kind == "progress" and (before is None or before[1] != job.state):
                    kind = "state"
                news.append((kind, job))
            while len(self._seen) > _MAX_TRACKED:
                del self._seen[next(iter(self._seen))]
            return news

    def close(self) -> None:
        """Wake whoever waits: there will be nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def unfinished(self) -> list[uuid.UUID]:
        """Jobs that may still change."""
        if self.job_id is not None:
            return [self.job_id]
        with self._changed:
            return [job_id for job_id, (_, state) in self._seen.items() if state not in FINAL]


class Hub:
    """The one listener of a process, and those who watch. Its thread starts with the first of them."""

    def __init__(self, database: Database, *, max_streams: int) -> None:
        self._database = database
        self._max_streams = max_streams
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._streams = 0
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return self._streams

    def watch(self, watch: Watch) -> None:
        """Tell this watch about changes from now on."""
        with self._lock:
            self._watches.add(watch)
            if self._stopped.is_set():
                watch.close()
            elif self._thread is None:
                self._thread = threading.Thread(target=self._run, name="job changes", daemon=True)
                with allowed("the process has one listener for all requests; it starts with the first"):
                    self._thread.start()

    def forget(self, watch: Watch) -> None:
        with self._lock:
            self._watches.discard(watch)

    def stop(self) -> None:
        """End all streams and waits, and the listener."""
        self._stopped.set()
        with self._lock:
            for watch in self._watches:
                watch.close()

    def open_stream(
        self,
        watch: Watch,
        first: Iterable[Any],
        explain: Explain | None,
        *,
        life: float = MAX_LIFE,
        client: socket.socket | None = None,
    ) -> Stream:
        """Return the stream of this watch, beginning with the jobs in `first`.

        `client` is the connection, looked at now and then to find out who left. `watch` must be watching
        already, so that nothing falls between reading `first` and here.
        Raises Unavailable beyond the limit of open streams; the client then polls.
        """
        with self._lock:
            if self._streams >= self._max_streams or self._stopped.is_set():
                self._watches.discard(watch)
                raise Unavailable("Too many streams are open here. Poll the job instead.", retry_after=5)
            self._streams += 1
        for job in first:
            watch.offer(job)
        return Stream(self, watch, explain, min(life, MAX_LIFE), client)

    def close_stream(self, watch: Watch) -> None:
        with self._lock:
            self._watches.discard(watch)
            self._streams -= 1

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._connect() as connection:
                    connection.execute(f"LISTEN {CHANGES}")
                    self._listen(connection)
            except psycopg.Error as error:
                log.warning("job_changes_not_heard", reason=str(error))
                self._stopped.wait(1.0)

    def _connect(self) -> psycopg.Connection[Any]:
        # Under the app's role: not even the hub reaches over the wall between tenants.
        return self._database.connect(
            options=f"-c role={APP_ROLE} -c TimeZone=UTC -c statement_timeout=5s",
            application_name="backroom job changes",
        )

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        reread_at = 0.0  # at once: something may have changed while we were not connected
        while not self._stopped.is_set():
            now = time.monotonic()
            if now >= reread_at:
                self._read(connection, self._all_watched())
                reread_at = now + REREAD
            heard: dict[str, set[uuid.UUID]] = {}
            for notification in connection.notifies(timeout=max(reread_at - now, 0.01), stop_after=1):
                for tenant_id, job_id in _parse(notification.payload):
                    heard.setdefault(tenant_id, set()).add(job_id)
            if heard:
                self._read(connection, self._watched_among(heard))

    def _all_watched(self) -> dict[str, tuple[set[uuid.UUID], bool]]:
        wanted: dict[str, tuple[set[uuid.UUID], bool]] = {}
        with self._lock:
            for watch in self._watches:
                ids, whole = wanted.get(watch.tenant_id, (set(), False))
                wanted[watch.tenant_id] = (ids | set(watch.unfinished()), whole or watch.job_id is None)
        return wanted

    def _watched_among(self, heard: dict[str, set[uuid.UUID]]) -> dict[str, tuple[set[uuid.UUID], bool]]:
        wanted: dict[str, tuple[set[uuid.UUID], bool]] = {}
        with self._lock:
            for watch in self._watches:
                ids = heard.get(watch.tenant_id, set())
                if watch.job_id is not None:
                    ids = ids & {watch.job_id}
                if ids:
                    wanted[watch.tenant_id] = (wanted.get(watch.tenant_id, (set(), False))[0] | ids, False)
        return wanted

    def _read(self, connection: psycopg.Connection[Any], wanted: dict[str, tuple[set[uuid.UUID], bool]]) -> None:
        if not wanted:
            return
        cursors = []
        # All tenants in one round trip, each in a transaction that sees its own rows only.
        with connection.pipeline():
            for tenant_id, (ids, whole) in wanted.items():
                with connection.transaction():
                    connection.execute(_ENTER, (tenant_id,))
                    cursor = connection.cursor(row_factory=class_row(SimpleNamespace))
                    listed = list(ids)
                    if whole:
                        cursor.execute(_IN_FLIGHT, (listed, tenant_id, listed))
                    else:
                        cursor.execute(_BY_ID, (listed,))
                    cursors.append((tenant_id, cursor))
        with self._lock:
            watches = list(self._watches)
        for tenant_id, cursor in cursors:
            for job in cursor.fetchall():
                for watch in watches:
                    if watch.tenant_id == tenant_id:
                        watch.offer(job)


class Stream:
    """The bytes of one `text/event-stream` (WHATWG HTML, section Server-sent events)."""

    def __init__(
        self, hub: Hub, watch: Watch, explain: Explain | None, life: float, client: socket.socket | None
    ) -> None:
        self._hub = hub
        self._watch = watch
        self._explain = explain
        self._client = client
        self._ends = time.monotonic() + life
        self._last = 0
        self._open = True
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[bytes]:
        yield f"retry: {RETRY}\n\n".encode()
        beat_at = time.monotonic() + HEARTBEAT
        while not self._watch.closed:
            now = time.monotonic()
            if now >= self._ends or self._left():
                return
            if now >= beat_at:
                yield b": still here\n\n"
                beat_at = now + HEARTBEAT
            news = self._watch.take(min(_LOOK, beat_at - now, self._ends - now))
            for kind, job in news:
                yield self._event(kind, job)
                if kind == "end" and self._watch.job_id is not None:
                    return
            if news:
                beat_at = time.monotonic() + HEARTBEAT

    def _left(self) -> bool:
        """Whether the client is gone. A write would tell only by the second heartbeat."""
        if self._client is None:
            return False
        try:
            poll = select.poll()
            poll.register(self._client, select.POLLIN)
            return bool(poll.poll(0)) and self._client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except (OSError, ValueError):
            return True

    def _event(self, kind: str, job: Any) -> bytes:
        # Two jobs may be committed in another order than they were stamped; ids never go back.
        self._last = max(self._last, event_id(job.updated_at))
        data = job_view(job, self._explain).model_dump_json()
        return f"id: {self._last}\nevent: {kind}\ndata: {data}\n\n".encode()

    def close(self) -> None:
        """Give the place back; the server calls it when the client is gone or the stream is over."""
        with self._lock:
            if not self._open:
                return
            self._open = False
        self._hub.close_stream(self._watch)


def _parse(payload: str) -> list[tuple[str, uuid.UUID]]:
    try:
        return [(str(tenant_id), uuid.UUID(job_id)) for tenant_id, job_id in json.loads(payload)]
    except (ValueError, TypeError, AttributeError):
        return []
