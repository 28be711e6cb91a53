"""Running jobs: claim, call the actor, write down what became of it.

Two ways. A *transactional* job's claim, effect and completion are one commit, so its effect happens
exactly once by construction; short ones share a transaction, and if one of a chunk fails the whole is
rolled back and each is run alone. A *leased* job's claim is committed before the actor runs, so that a
crash is seen, counted and taken over; every later write is fenced by the dispatch number.

The claim lives here, around the call, and not in a middleware: Dramatiq swallows what a middleware
raises, and would run an actor whose claim failed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
from dramatiq.middleware import Interrupt
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from shared.context import SYSTEM, Context, use
from shared.db.database import (
    Database,
    Work,
    adopt,
    commit_checks,
    enter_tenant,
    leave_tenant,
)
from shared.db.signals import jobs_changed, wake_relay
from shared.jobs.actor import Actor, Dispatch
from shared.jobs.claims import Claim, ClaimBatcher, lock_queued
from shared.jobs.conclusions import Conclusions
from shared.jobs.current import CurrentJob, _current
from shared.jobs.failures import FailureText
from shared.jobs.liveness import Liveness
from shared.jobs.models import QUEUED
from shared.jobs.outcomes import Cancelled, Skip, Superseded
from shared.jobs.record import Finished, done
from shared.jobs.verdict import Verdict, judge
from shared.jobs.wire import Delivery
from shared.telemetry import get_logger, job_span, metrics, trace_id

__all__ = ["CHUNK", "Runner"]

CHUNK = 25
"""How many transactional jobs travel in one message and share one commit."""

_NO_OUTGOING = "a transactional job touches its own database only"

_HAND_BACK = f"""
UPDATE jobs SET state = 'scheduled', waiting_for = 'no_worker', run_at = clock_timestamp() + interval '2 seconds',
                updated_at = clock_timestamp()
WHERE id = %s AND dispatch = %s AND {QUEUED}
"""  # noqa: S608 - a constant

log = get_logger(__name__)


class Runner:
    """Runs the jobs of one service in one worker process."""

    def __init__(
        self,
        service: str,
        database: Database,
        liveness: Liveness,
        *,
        failures: Mapping[str, FailureText] | None = None,
        retry_scale: float = 1.0,
    ) -> None:
        self.service = service
        self.database = database
        self.liveness = liveness
        self.claims = ClaimBatcher(database, liveness)
        self.conclusions = Conclusions(service, database, failures or {}, retry_scale)
        self.stopping = threading.Event()

    def run(self, declared: Actor[Any, Any], dispatch: Dispatch) -> None:
        """Run the jobs that a message announces. Returns when each is settled, or marks the message for requeue."""
        token = self.database.bind()
        try:
            if declared.job.transactional and not dispatch.redelivered and self._run_chunk(declared, dispatch):
                return
            for job_id, number in dispatch.jobs:
                # The time limit is that of the message: after it has struck, the rest goes back to get its own.
                if dispatch.requeue or self.stopping.is_set():
                    dispatch.requeue = True
                    return
                self.guarded(dispatch, partial(self._run_one, declared, job_id, number, dispatch))
        except Interrupt:
            # Struck between two steps; what was concluded is not found again.
            dispatch.requeue = True
        finally:
            self.database.unbind(token)

    def hand_back(self, dispatch: Dispatch) -> None:
        """Put jobs whose actor this worker does not know back into their line, for one that does."""
        with self.database.system.begin() as connection:
            for job_id, number in dispatch.jobs:
                connection.exec_driver_sql(_HAND_BACK, (job_id, number))

    def guarded(self, dispatch: Dispatch | Delivery, step: Callable[[], None]) -> None:
        """Do a step that needs the database; wait while it is away rather than let go of the message.

        Raises at once what waiting will not mend: a message that holds what no column takes.
        """
        pause = 0.1
        try:
            while True:
                try:
                    return step()
                except (DataError, IntegrityError, psycopg.DataError, psycopg.IntegrityError):
                    raise
                except (psycopg.Error, DBAPIError, PoolTimeout) as error:
                    log.warning("database away, waiting", error=str(error)[:200])
                    if self.stopping.wait(pause):
                        dispatch.requeue = True
                        return None
                    pause = min(pause * 2, 2.0)
        except Interrupt:
            # Its time is over before it could even begin. That is no fault of the message: it comes again.
            dispatch.requeue = True

    # -- transactional ---------------------------------------------------------------------------------

    def _run_chunk(self, declared: Actor[Any, Any], dispatch: Dispatch) -> bool:
        """Run all jobs of the message in one transaction; return False when they have to run one by one."""
        finished: list[tuple[Claim, Finished]] = []
        try:
            with self.database.system.begin() as connection:
                claims = lock_queued(connection, dispatch.jobs)
                if not claims:
                    return True
                if any(claim.cancel_requested_at for claim in claims):
                    return False
                self._effects(declared, connection, claims, finished)
                self._complete(connection, finished)
        except Interrupt:
            # One of them, or all together, took too long. Handed back they come again one by one.
            dispatch.requeue = True
            return True
        except Exception:
            # Alone, each finds out whether it was the one; what was rolled back did not happen.
            return False
        self._tell(declared, finished)
        return True

    def _effects(
        self,
        declared: Actor[Any, Any],
        connection: Connection,
        claims: Sequence[Claim],
        finished: list[tuple[Claim, Finished]],
        *,
        committed: bool = False,
    ) -> None:
        """Run the actor for each claim inside the open transaction, each under its tenant's wall.

        `committed` tells that the claim was committed before, which counted this run already.
        """
        tenant: str | None = None
        for claim in claims:
            if claim.tenant_id != tenant:
                tenant = claim.tenant_id
                if tenant == SYSTEM:
                    leave_tenant(connection)
                else:
                    enter_tenant(connection, tenant)
            finished.append((claim, self._effect(declared, connection, claim, committed)))
        leave_tenant(connection)

    def _effect(self, declared: Actor[Any, Any], connection: Connection, claim: Claim, committed: bool) -> Finished:
        started = datetime.now(UTC)
        job = self._job(declared, claim, leased=False, attempt=claim.runs if committed else claim.runs + 1)
        session = Session(connection, join_transaction_mode="rollback_only", expire_on_commit=False)
        work = Work(self.database, session, claim.tenant_id, system=claim.tenant_id == SYSTEM)
        outcome, code, result = "done", None, None
        with (
            self._context(claim, job, no_outgoing=_NO_OUTGOING),
            job_span(
                declared.actor_name,
                claim.queue,
                str(claim.id),
                job.attempt,
                claim.traceparent,
                claim.created_at,
            ) as span,
            adopt(work),
            _at_work(job),
        ):
            metrics.job_started(declared.actor_name, max(0.0, (started - claim.run_at).total_seconds()))
            try:
                result = declared.call(claim.arguments)
            except Skip as skip:
                outcome, code, result = "skipped", skip.code, {"skipped": skip.code}
            session.flush()
            span.outcome(outcome)
            traced = trace_id()
        session.close()
        return Finished(
            claim.id,
            claim.dispatch,
            job.worker_id,
            started,
            datetime.now(UTC),
            result,
            outcome,
            code,
            traced,
            work.after_commit,
        )

    def _complete(self, connection: Connection, finished: Sequence[tuple[Claim, Finished]]) -> None:
        ours = done(connection, [run for _, run in finished])
        if len(ours) != len(finished):
            raise Superseded("a job of this transaction was taken over")

    def _tell(self, declared: Actor[Any, Any], finished: Sequence[tuple[Claim, Finished]]) -> None:
        jobs_changed({claim.id: claim.tenant_id for claim, _ in finished})
        for callback in dict.fromkeys(callback for _, run in finished for callback in run.after_commit):
            callback()
        for _, run in finished:
            metrics.job_finished(declared.actor_name, run.outcome, (run.ended_at - run.started_at).total_seconds())
        wake_relay()

    # -- one by one ------------------------------------------------------------------------------------

    def _run_one(self, declared: Actor[Any, Any], job_id: Any, number: int, dispatch: Dispatch) -> None:
        careful = dispatch.redelivered
        if declared.job.transactional and not careful:
            return self._run_transactional(declared, job_id, number, dispatch)
        claim = self.claims.claim(job_id, number)
        if claim is None:
            return None
        if not declared.job.transactional:
            return self._run_leased(declared, claim)
        try:
            return self._run_claimed_transactional(declared, claim, dispatch)
        finally:
            self.claims.release(claim.id, claim.dispatch)

    def _run_transactional(self, declared: Actor[Any, Any], job_id: Any, number: int, dispatch: Dispatch) -> None:
        finished: list[tuple[Claim, Finished]] = []
        claim: Claim | None = None
        started = datetime.now(UTC)
        try:
            with self.database.system.begin() as connection:
                claims = lock_queued(connection, [(job_id, number)])
                if not claims:
                    return
                claim = claims[0]
                if claim.cancel_requested_at is not None:
                    raise Cancelled
                self._effects(declared, connection, claims, finished)
                self._complete(connection, finished)
        except BaseException as error:
            if claim is None:
                raise
            self._conclude(declared, claim, error, started)
            self._after_failure(dispatch, error)
            return
        self._tell(declared, finished)

    def _run_claimed_transactional(self, declared: Actor[Any, Any], claim: Claim, dispatch: Dispatch) -> None:
        """A transactional job whose message came back: its claim is committed, so that a crash counts."""
        started = datetime.now(UTC)
        finished: list[tuple[Claim, Finished]] = []
        try:
            with self.database.system.begin() as connection:
                if claim.cancel_requested_at is not None:
                    raise Cancelled
                self._effects(declared, connection, [claim], finished, committed=True)
                self._complete(connection, finished)
        except BaseException as error:
            self._conclude(declared, claim, error, started)
            self._after_failure(dispatch, error)
            return
        self._tell(declared, finished)

    @staticmethod
    def _after_failure(dispatch: Dispatch, error: BaseException) -> None:
        if isinstance(error, Interrupt):
            dispatch.requeue = True
        elif not isinstance(error, Exception):
            raise error

    def _run_leased(self, declared: Actor[Any, Any], claim: Claim) -> None:
        job = self._job(declared, claim, leased=True)
        started = job.started_at
        began = time.perf_counter()
        outcome = "done"
        checks = commit_checks.set((job.fence,))
        try:
            with (
                _at_work(job),
                self._context(claim, job, no_outgoing=None),
                job_span(
                    declared.actor_name,
                    claim.queue,
                    str(claim.id),
                    job.attempt,
                    claim.traceparent,
                    claim.created_at,
                ) as span,
            ):
                metrics.job_started(declared.actor_name, max(0.0, (started - claim.run_at).total_seconds()))
                try:
                    if claim.cancel_requested_at is not None:
                        raise Cancelled
                    result = declared.call(claim.arguments)
                    if not job.completed:
                        run = Finished(
                            claim.id,
                            claim.dispatch,
                            job.worker_id,
                            started,
                            datetime.now(UTC),
                            result,
                            trace_id=trace_id(),
                        )
                        with self.database.system.begin() as connection:
                            self._complete(connection, [(claim, run)])
                except BaseException as error:
                    if job.completed:
                        log.error("the actor raised after its completion", error=repr(error))
                    else:
                        outcome = self._conclude(declared, claim, error, started)
                        span.fail(type(error).__name__, "")
                        if not isinstance(error, Exception) and not isinstance(error, Interrupt):
                            raise
                span.outcome(outcome)
        finally:
            commit_checks.reset(checks)
            self.claims.release(claim.id, claim.dispatch)
        metrics.job_finished(declared.actor_name, outcome, time.perf_counter() - began)
        jobs_changed({claim.id: claim.tenant_id})
        # A place is free: the relay may hand out the next job.
        wake_relay()

    # -- shared ----------------------------------------------------------------------------------------

    def _conclude(self, declared: Actor[Any, Any], claim: Claim, error: BaseException, started: datetime) -> str:
        """Write down that the run did not succeed; return the outcome. Waits while the database is away.

        Whatever happens here, the job must not stay `running` in the hands of a worker that has forgotten it.
        """
        while True:
            try:
                return self._concluded(declared, claim, error, started)
            except Interrupt:
                # The time limit is for the work, not for saying what became of it. It strikes once.
                continue

    def _concluded(self, declared: Actor[Any, Any], claim: Claim, error: BaseException, started: datetime) -> str:
        try:
            verdict = self._judge(declared, claim, error)
        except Exception as mistaken:
            log.exception("what a run raised could not be judged")
            verdict = self._judge(declared, claim, RuntimeError(f"{type(error).__name__}: {type(mistaken).__name__}"))
        pause = 0.1
        while True:
            try:
                ours = self.conclusions.conclude(
                    declared, claim, verdict, worker_id=self._worker(claim), started_at=started
                )
                break
            except (DataError, IntegrityError):
                raise
            except (psycopg.Error, DBAPIError, PoolTimeout) as away:
                # Recovery will find the job if we never get to say what became of it.
                log.warning("the outcome could not be written down yet", error=str(away)[:200])
                if self.stopping.is_set() and pause >= 2.0:
                    return verdict.outcome
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
        jobs_changed({claim.id: claim.tenant_id})
        wake_relay()
        return verdict.outcome if ours else "superseded"

    def _judge(self, declared: Actor[Any, Any], claim: Claim, error: BaseException) -> Verdict:
        retry = [delay * self.conclusions.retry_scale for delay in declared.job.retry]
        return judge(error, failures=claim.failures, retry=retry)

    def _worker(self, claim: Claim) -> int:
        return self.liveness.worker_id if claim.worker_id is None else claim.worker_id

    def _job(self, declared: Actor[Any, Any], claim: Claim, *, leased: bool, attempt: int | None = None) -> CurrentJob:
        return CurrentJob(
            job_id=claim.id,
            tenant_id=claim.tenant_id,
            dispatch=claim.dispatch,
            attempt=claim.runs if attempt is None else attempt,
            retries_left=max(0, len(declared.job.retry) - claim.failures),
            checkpoint=claim.checkpoint,
            progress=claim.progress,
            worker_id=self._worker(claim),
            leased=leased,
            must_stop=self.stopping.is_set,
            parent_id=claim.parent_id,
        )

    def _context(
        self, claim: Claim, job: CurrentJob, *, no_outgoing: str | None
    ) -> contextlib.AbstractContextManager[Context]:
        return use(
            service=self.service,
            tenant_id=claim.tenant_id,
            principal=claim.principal,
            request_id=claim.request_id,
            correlation_id=claim.correlation_id,
            causation_id=claim.causation_id,
            traceparent=claim.traceparent,
            job_id=str(claim.id),
            job_actor=claim.actor,
            queue=claim.queue,
            attempt=job.attempt,
            dispatch=claim.dispatch,
            in_request=False,
            no_outgoing=no_outgoing,
        )


@contextlib.contextmanager
def _at_work(job: CurrentJob) -> Iterator[None]:
    """Make this what `current_job()` returns."""
    token = _current.set(job)
    try:
        yield
    finally:
        _current.reset(token)
