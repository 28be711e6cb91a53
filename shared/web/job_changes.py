"""Jobs as they can be watched: one of them, or all of a tenant."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

from shared.db.signals import JOBS
from shared.jobs.models import FINAL, Job
from shared.web.jobs_view import Explain, job_view
from shared.web.sse import Message, Watch, event_id

__all__ = ["JobWatch"]

_MAX_TRACKED: Final = 500  # jobs that one stream of a whole tenant keeps an eye on

_COLUMNS: Final = ", ".join(f"jobs.{column.name}" for column in Job.__table__.columns)
_BY_ID: Final = f"SELECT {_COLUMNS} FROM jobs WHERE id = ANY(%s)"  # noqa: S608 - columns of the model
_IN_FLIGHT: Final = f"""
SELECT {_COLUMNS} FROM jobs WHERE id = ANY(%s)
UNION ALL
(SELECT {_COLUMNS} FROM jobs
 WHERE tenant_id = %s AND state IN ('queued', 'running') AND NOT id = ANY(%s) LIMIT {_MAX_TRACKED})
"""  # noqa: S608


class _Jobs:
    """The topic: reads the rows of jobs."""

    name = JOBS

    def read(
        self,
        connection: psycopg.Connection[Any],
        tenant_id: str,
        watches: Sequence[JobWatch],
        ids: set[uuid.UUID] | None,
    ) -> Callable[[], None]:
        cursor = connection.cursor(row_factory=class_row(SimpleNamespace))
        if ids is not None:
            cursor.execute(_BY_ID, (list(ids),))
        else:
            listed = list({job_id for watch in watches for job_id in watch.unfinished()})
            if any(watch.job_id is None for watch in watches):
                cursor.execute(_IN_FLIGHT, (listed, tenant_id, listed))
            else:
                cursor.execute(_BY_ID, (listed,))

        def offer() -> None:
            for job in cursor.fetchall():
                for watch in watches:
                    watch.offer(job)

        return offer


class JobWatch(Watch):
    """Waits for a job, or for all jobs of a tenant (of one principal where `principal` is set).

    `since` is the id of the last event that the client has.
    """

    topic = _Jobs()

    def __init__(
        self,
        tenant_id: str,
        job_id: uuid.UUID | None,
        principal: str | None,
        since: int,
        explain: Explain | None = None,
    ) -> None:
        super().__init__(tenant_id)
        self.job_id = job_id
        self._principal = principal
        self._since = since
        self._explain = explain
        self._seen: dict[uuid.UUID, tuple[int, str]] = {}
        self._last = 0

    def wants(self, thing: uuid.UUID) -> bool:
        return self.job_id is None or self.job_id == thing

    def offer(self, job: Any) -> None:
        """Take a job's row as it is now; older news than what the client has is dropped."""
        if not self.wants(job.id):
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

    def unfinished(self) -> list[uuid.UUID]:
        """Jobs that may still change."""
        if self.job_id is not None:
            return [self.job_id]
        with self._changed:
            return [job_id for job_id, (_, state) in self._seen.items() if state not in FINAL]

    def _news(self, pending: dict[uuid.UUID, Any]) -> list[tuple[str, Any]]:
        """Pairs of kind and job, in order of time."""
        news = []
        for job in sorted(pending.values(), key=lambda job: job.updated_at):
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

    def message(self, news: tuple[str, Any]) -> Message:
        kind, job = news
        # Two jobs may be committed in another order than they were stamped; ids never go back.
        self._last = max(self._last, event_id(job.updated_at))
        data = job_view(job, self._explain).model_dump_json()
        return Message(kind, self._last, data, last=kind == "end" and self.job_id is not None)
