"""From what a run raised to what becomes of its job."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dramatiq.middleware import Interrupt, Shutdown, TimeLimitExceeded
from sqlalchemy.exc import DBAPIError

from shared.jobs import outcomes
from shared.outbound import errors
from shared.telemetry import bounded, redact

__all__ = ["CANCELLED_BEFORE_RUN", "Verdict", "crashed", "hung", "judge"]


_TOO_LONG_IN_TRANSACTION = ("25P03", "25P04")
"""PostgreSQL cut a transaction that stood open too long: that is the job's own doing, and would come again."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`state` is where the job goes. `burns` tells whether the run counts as an attempt."""

    state: str
    outcome: str
    code: str
    burns: bool = True
    run_at: datetime | None = None
    waiting_for: str | None = None
    detail: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None


def judge(error: BaseException, *, failures: int, retry: Sequence[float], now: datetime | None = None) -> Verdict:
    """Decide. `failures` counts those before this one; `retry` holds the delays in seconds.

    Whatever is not known to be final is retried: an error that nobody foresaw is more often passing than not.
    """
    now = now or datetime.now(UTC)
    match error:
        case outcomes.Skip():
            return Verdict("succeeded", error.name, error.code, result={"skipped": error.code})
        case outcomes.Cancelled():
            return Verdict("cancelled", error.name, error.code, detail=error.detail)
        case outcomes.Snooze():
            return _later(error.name, error.code, max(error.until, now), str(error))
        case errors.RateLimited():
            return _later("snoozed", error.code, now + timedelta(seconds=error.retry_after), str(error))
        case errors.CircuitOpen():
            return _later("snoozed", error.code, max(error.retry_at, now), str(error))
        case errors.Unsettled():
            return _later("snoozed", error.code, max(error.until, now), str(error))
        case DBAPIError() if getattr(error.orig, "sqlstate", None) in _TOO_LONG_IN_TRANSACTION:
            return _again("error", "took_too_long", _trace(error), failures, retry, now)
        case DBAPIError() if error.connection_invalidated:
            return _later("interrupted", "database_away", now + timedelta(seconds=1), "the database went away")
        case Shutdown():
            return _later("interrupted", "shutdown", now, "the worker shut down")
        case outcomes.GiveUp():
            return Verdict("failed", error.name, error.code, detail=error.detail, fields=error.fields)
        case errors.Refused() | errors.NotAuthorized():
            return Verdict("failed", "gave_up", error.code, detail=str(error))
        case outcomes.Retry():
            return _again(error.name, error.code, error.detail, failures, retry, now, error.delay, error.fields)
        case errors.UnknownOutcome():
            return _again("unknown", error.code, str(error), failures, retry, now)
        case errors.ProviderError():
            return _again("retry", error.code, str(error), failures, retry, now)
        case TimeLimitExceeded():
            return _again("retry", "took_too_long", _trace(error), failures, retry, now)
        case Interrupt():
            return _later("interrupted", "shutdown", now, str(error))
    return _again("error", "unexpected", _trace(error), failures, retry, now)


CANCELLED_BEFORE_RUN = Verdict("cancelled", "cancelled", "cancelled", burns=False)


def crashed(*, failures: int, retry: Sequence[float], now: datetime | None = None) -> Verdict:
    """Decide about a job whose worker died. Once more at once; a job that keeps killing workers is set aside."""
    moment = now or datetime.now(UTC)
    detail = "the worker died or was cut off while it ran this job"
    if failures >= len(retry):
        return Verdict("failed", "crashed", "worker_died", detail=detail)
    return Verdict("scheduled", "crashed", "worker_died", run_at=moment, waiting_for="recovered", detail=detail)


def hung(*, failures: int, retry: Sequence[float], now: datetime | None = None) -> Verdict:
    """Decide about a job that runs far beyond its time limit, since nothing could interrupt it."""
    detail = "the job ran far beyond its time limit; its thread hangs where nothing interrupts it"
    return _again("retry", "took_too_long", detail, failures, retry, now or datetime.now(UTC))


def _later(outcome: str, code: str, until: datetime, detail: str) -> Verdict:
    return Verdict("scheduled", outcome, code, burns=False, run_at=until, waiting_for=code, detail=detail)


def _again(
    outcome: str,
    code: str,
    detail: str,
    failures: int,
    retry: Sequence[float],
    now: datetime,
    delay: float | None = None,
    fields: dict[str, Any] | None = None,
) -> Verdict:
    fields = fields or {}
    if failures >= len(retry):
        return Verdict("failed", outcome, code, detail=detail, fields=fields)
    run_at = now + timedelta(seconds=retry[failures] if delay is None else delay)
    return Verdict("scheduled", outcome, code, run_at=run_at, waiting_for="retry", detail=detail, fields=fields)


def _trace(error: BaseException) -> str:
    return bounded(redact("".join(traceback.format_exception(error))))
