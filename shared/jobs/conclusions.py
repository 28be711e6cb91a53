"""Concluding runs that did not simply succeed: the record, the domain's own reaction, the one alert.

A job that fails for good does three things in one transaction: its row says so, the actor's `failed`
hook puts the domain right (a label becomes failed), and one event `job.failed` goes out, which is the
alert. Workers and the recovery of crashed jobs come through here alike.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from shared.context import SYSTEM, use
from shared.db.database import Database, Work, adopt, enter_tenant, leave_tenant
from shared.events import outbox
from shared.jobs.actor import Actor
from shared.jobs.failures import FailureText, explain
from shared.jobs.models import QUEUED, RUNNING
from shared.jobs.operations import cancel_children
from shared.jobs.record import conclude
from shared.jobs.verdict import Verdict
from shared.telemetry import get_logger, metrics, trace_id

__all__ = ["Claimed", "Conclusions"]

log = get_logger(__name__)

_HOOK_TRIES = 5

_MOST_DEFERRALS = 10_000
"""So often may a job say "not yet"; a slice each two minutes for two weeks."""

_MOST_CUTS = 1_000
"""So often may the database go away under a job; one that always breaks its connection has to end, too."""

_SO_FAR = f"""
SELECT cancel_requested_at IS NOT NULL AS cancel_requested, deferrals FROM jobs
WHERE id = %s AND dispatch = %s AND ({QUEUED} OR {RUNNING}) FOR UPDATE
"""  # noqa: S608 - constants


class Claimed(Protocol):
    """What must be known of a job to conclude its run."""

    @property
    def id(self) -> uuid.UUID: ...
    @property
    def tenant_id(self) -> str: ...
    @property
    def actor(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def subject(self) -> str | None: ...
    @property
    def arguments(self) -> dict[str, Any]: ...
    @property
    def dispatch(self) -> int: ...
    @property
    def correlation_id(self) -> str | None: ...
    @property
    def principal(self) -> str | None: ...


class Conclusions:
    """Writes the ends of runs of one service. `retry_scale` shortens all retry delays, for demonstrations."""

    def __init__(
        self, service: str, database: Database, failures: Mapping[str, FailureText], retry_scale: float = 1.0
    ) -> None:
        self.service = service
        self.database = database
        self.failures = failures
        self.retry_scale = retry_scale

    def conclude(
        self,
        declared: Actor[Any, Any],
        claim: Claimed,
        verdict: Verdict,
        *,
        worker_id: int | None,
        started_at: datetime | None,
    ) -> bool:
        """Conclude in a transaction of its own; return whether the job was still ours to conclude.

        Raises sqlalchemy.exc.DBAPIError while the database is away. Nothing else keeps a job from its end: a
        hook that raises is left out, and so is a text that cannot be written.
        """
        verdict = replace(verdict, detail=_writable(verdict.detail))
        hook, busy = True, 0
        while True:
            try:
                with self.database.system.begin() as connection:
                    return self._conclude(connection, declared, claim, verdict, worker_id, started_at, hook=hook)
            except _HookFailed as error:
                cause = error.__cause__
                if isinstance(cause, OperationalError) and busy < _HOOK_TRIES:
                    # A deadlock, or a lock that somebody holds: that passes.
                    busy += 1
                    continue
                log.error("the actor's failed hook raised; the job ends without it", error=repr(cause))
                hook = False
            except Exception as error:
                plain = replace(verdict, detail=type(error).__name__, fields={}, result=None)
                if plain == verdict or (isinstance(error, DBAPIError) and not isinstance(error, DataError)):
                    raise
                log.exception("the end of a run could not be written as it was; it is written without its details")
                verdict = plain

    def _conclude(
        self,
        connection: Connection,
        declared: Actor[Any, Any],
        claim: Claimed,
        verdict: Verdict,
        worker_id: int | None,
        started_at: datetime | None,
        *,
        hook: bool,
    ) -> bool:
        if verdict.state == "scheduled":
            verdict = self._reconsidered(connection, claim, verdict)
        text = explain(self.failures, verdict.code, verdict.fields)
        runs = conclude(
            connection,
            claim.id,
            claim.dispatch,
            verdict,
            worker_id=worker_id,
            started_at=started_at,
            public=text.what,
            trace_id=trace_id(),
        )
        if runs is None:
            log.warning("superseded: the job was taken over before its end was written down", job=str(claim.id))
            return False
        log.info(
            "job concluded",
            job=str(claim.id),
            outcome=verdict.outcome,
            code=verdict.code,
            state=verdict.state,
        )
        if verdict.state == "failed" and declared.job.event_type is not None:
            metrics.event_handled(declared.job.event_type, "failed")
        if verdict.state in ("failed", "cancelled"):
            with use(
                tenant_id=claim.tenant_id,
                principal=claim.principal,
                correlation_id=claim.correlation_id,
                job_id=str(claim.id),
                job_actor=claim.actor,
            ):
                if hook and declared.on_failed is not None:
                    self._run_hook(connection, declared, claim, verdict)
                if verdict.state == "cancelled":
                    self._within(connection, claim, lambda: cancel_children(connection, claim.id, claim.tenant_id))
                if verdict.state == "failed":
                    self._alert(connection, claim, verdict, text, runs)
        return True

    @staticmethod
    def _reconsidered(connection: Connection, claim: Claimed, verdict: Verdict) -> Verdict:
        """Return what becomes of a job that is to run again: not so if it was cancelled, or put off for ever."""
        row = connection.exec_driver_sql(_SO_FAR, (claim.id, claim.dispatch)).first()
        if row is None:
            return verdict
        if row.cancel_requested:
            return replace(verdict, state="cancelled", outcome="cancelled", code="cancelled", waiting_for=None)
        most = _MOST_CUTS if verdict.code == "database_away" else _MOST_DEFERRALS
        if not verdict.burns and verdict.code != "waiting_for_children" and row.deferrals >= most:
            detail = f"put off {row.deferrals} times, the last time because of {verdict.code}: {verdict.detail}"
            return Verdict("failed", "gave_up", "too_many_deferrals", detail=detail)
        return verdict

    def _run_hook(self, connection: Connection, declared: Actor[Any, Any], claim: Claimed, verdict: Verdict) -> None:
        assert declared.on_failed is not None
        hook = partial(declared.on_failed, verdict)
        try:
            self._within(connection, claim, lambda: hook(**declared.converted(claim.arguments)))
        except Exception as error:
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise
            raise _HookFailed from error

    def _within(self, connection: Connection, claim: Claimed, step: Callable[[], None]) -> None:
        """Do a step in a unit of work of the job's tenant that is part of the open transaction."""
        session = Session(connection, join_transaction_mode="rollback_only", expire_on_commit=False)
        if claim.tenant_id != SYSTEM:
            enter_tenant(connection, claim.tenant_id)
        with adopt(Work(self.database, session, claim.tenant_id, system=claim.tenant_id == SYSTEM)):
            step()
            session.flush()
        leave_tenant(connection)

    def _alert(self, connection: Connection, claim: Claimed, verdict: Verdict, text: FailureText, runs: int) -> None:
        data = {
            "job_id": str(claim.id),
            "actor": claim.actor,
            "queue": claim.queue,
            "subject": claim.subject,
            "code": verdict.code,
            "attempts": runs,
            "what": text.what,
            "meaning": text.meaning,
            "doing": text.doing,
            "action": text.action,
        }
        outbox.append(
            connection,
            tenant_id=claim.tenant_id,
            type=f"backroom.{self.service}.job.failed.v1",
            events=[(str(claim.id), runs, data)],
        )


def _writable(text: str) -> str:
    """Return text that PostgreSQL takes: without NUL and without halves of characters."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")


class _HookFailed(Exception):
    """The domain's reaction to a failed job failed itself."""
