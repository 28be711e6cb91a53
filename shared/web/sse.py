"""Server-Sent Events: what changes, told as it happens.

One `Hub` per process listens to PostgreSQL and reads what changed; streams only wait for what it finds,
so a stream costs a thread of the server but no connection to the database. NOTIFY is a hint: the hub
also re-reads all that is watched every two seconds, in one round trip, under the row-level security of each
tenant. A slow reader gets the newest state of each thing, not all the states in between.

What can be watched is a `Topic`, and who waits for it a `Watch`: jobs in `shared.web.job_changes`, and whatever
a service adds. `shared.web.streams.stream` answers a request with one.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, NamedTuple, Protocol

import psycopg

from shared.db.database import APP_ROLE, Database
from shared.db.signals import CHANGES
from shared.outbound.guard import allowed
from shared.telemetry.logs import get_logger
from shared.web.problems import Unavailable

__all__ = ["Hub", "Message", "Topic", "Watch", "event_id"]

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

_ENTER: Final = "SELECT set_config('backroom.tenant', %s, true)"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def event_id(moment: datetime) -> int:
    """Return the id of an event of that moment: microseconds since the epoch."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


class Message(NamedTuple):
    """One event of a stream. `last` ends it."""

    kind: str
    id: int
    data: str
    """JSON, without line breaks."""
    last: bool = False


class Topic(Protocol):
    """A kind of thing that can be watched; one instance, of which the watches are."""

    name: str
    """As `shared.db.signals.changed_after_commit` tells of it."""

    def read(
        self, connection: psycopg.Connection[Any], tenant_id: str, watches: Sequence[Any], ids: set[uuid.UUID] | None
    ) -> Callable[[], None]:
        """Send the queries for what these watches of a tenant wait for; return what offers them the answers.

        `ids` are the things of which hints told, None when all is to be looked at. The queries of all tenants are
        sent before any answer is fetched, so nothing may be fetched here.
        """


class Watch(ABC):
    """What one client waits for. A topic's own kind of watch says what it wants and how it is told."""

    topic: ClassVar[Topic]

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self._pending: dict[Any, Any] = {}
        self._changed = threading.Condition()
        self._closed = False

    def wants(self, thing: uuid.UUID) -> bool:
        """Whether a hint about this thing concerns this watch."""
        return True

    def take(self, seconds: float) -> list[Any]:
        """Wait up to so long for news; return them in order, none if there were none."""
        with self._changed:
            if not self._pending and not self._closed:
                self._changed.wait(seconds)
            news = self._news(self._pending)
            self._pending.clear()
            return news

    @abstractmethod
    def _news(self, pending: dict[Any, Any]) -> list[Any]:
        """Return what is pending in the order in which it is told; called under the lock."""

    @abstractmethod
    def message(self, news: Any) -> Message:
        """Return how a stream tells of one of the news."""

    def close(self) -> None:
        """Wake whoever waits: there will be nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed


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
                self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
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
        *,
        life: float = MAX_LIFE,
        client: socket.socket | None = None,
        admitted: Callable[[], bool] = lambda: True,
    ) -> Stream:
        """Return the stream of this watch, which must be watching already.

        `client` is the connection, looked at now and then to find out who left; `admitted` tells whether whoever
        listens still may.
        Raises Unavailable beyond the limit of open streams; the client then polls.
        """
        with self._lock:
            if self._streams >= self._max_streams or self._stopped.is_set():
                self._watches.discard(watch)
                raise Unavailable("Too many streams are open here. Poll instead.", retry_after=5)
            self._streams += 1
        return Stream(self, watch, min(life, MAX_LIFE), client, admitted)

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
                log.warning("changes_not_heard", reason=str(error))
                self._stopped.wait(1.0)

    def _connect(self) -> psycopg.Connection[Any]:
        # Under the app's role: not even the hub reaches over the wall between tenants.
        return self._database.connect(
            options=f"-c role={APP_ROLE} -c TimeZone=UTC -c statement_timeout=5s",
            application_name="backroom changes",
        )

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        reread_at = 0.0  # at once: something may have changed while we were not connected
        while not self._stopped.is_set():
            now = time.monotonic()
            if now >= reread_at:
                self._read(connection)
                reread_at = now + REREAD
            heard: dict[tuple[str, str], set[uuid.UUID]] = {}
            for notification in connection.notifies(timeout=max(reread_at - now, 0.01), stop_after=1):
                for topic, tenant_id, thing in _parse(notification.payload):
                    heard.setdefault((topic, tenant_id), set()).add(thing)
            if heard:
                self._read(connection, heard)

    def _read(
        self, connection: psycopg.Connection[Any], heard: dict[tuple[str, str], set[uuid.UUID]] | None = None
    ) -> None:
        """Read what is watched: of what was heard only, or all of it."""
        groups: dict[tuple[Topic, str], list[Watch]] = {}
        with self._lock:
            for watch in self._watches:
                groups.setdefault((watch.topic, watch.tenant_id), []).append(watch)
        offers = []
        # All tenants in one round trip, each in a transaction that sees its own rows only.
        with connection.pipeline():
            for (topic, tenant_id), watches in groups.items():
                ids: set[uuid.UUID] | None = None
                if heard is not None:
                    told = heard.get((topic.name, tenant_id), set())
                    ids = {thing for thing in told if any(watch.wants(thing) for watch in watches)}
                    if not ids:
                        continue
                with connection.transaction():
                    connection.execute(_ENTER, (tenant_id,))
                    offers.append(topic.read(connection, tenant_id, watches, ids))
        for offer in offers:
            offer()


class Stream:
    """The bytes of one `text/event-stream` (WHATWG HTML, section Server-sent events)."""

    def __init__(
        self,
        hub: Hub,
        watch: Watch,
        life: float,
        client: socket.socket | None,
        admitted: Callable[[], bool],
    ) -> None:
        self._hub = hub
        self._watch = watch
        self._client = client
        self._admitted = admitted
        self._ends = time.monotonic() + life
        self._open = True
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[bytes]:
        yield f"retry: {RETRY}\n\n".encode()
        beat_at = time.monotonic() + HEARTBEAT
        while not self._watch.closed:
            now = time.monotonic()
            if now >= self._ends or self._left() or not self._admitted():
                return
            if now >= beat_at:
                yield b": still here\n\n"
                beat_at = now + HEARTBEAT
            news = self._watch.take(min(_LOOK, beat_at - now, self._ends - now))
            for one in news:
                message = self._watch.message(one)
                yield f"id: {message.id}\nevent: {message.kind}\ndata: {message.data}\n\n".encode()
                if message.last:
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

    def close(self) -> None:
        """Give the place back; the server calls it when the client is gone or the stream is over."""
        with self._lock:
            if not self._open:
                return
            self._open = False
        self._hub.close_stream(self._watch)


def _parse(payload: str) -> list[tuple[str, str, uuid.UUID]]:
    try:
        topic, things = json.loads(payload)
        return [(str(topic), str(tenant_id), uuid.UUID(thing)) for tenant_id, thing in things]
    except (ValueError, TypeError, AttributeError):
        return []
