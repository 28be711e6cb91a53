"""Limits per minute that all processes keep together, so that a provider need not remind us.

A bucket is a row of `rate_limits` per provider, tenant and name (`write`, `list`). In no 60 seconds are
more calls granted than `per_minute`: a fifth of them may come in a burst, the rest trickles in evenly.
(A plain bucket of N tokens refilled at N a minute lets nearly 2 N through in its first minute.)

A process that calls often takes several tokens at once, so that a call is not a query; what it does not use
within a second is lost, never granted late.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.db.database import current_database
from shared.outbound.errors import LONGEST_WAIT, RateLimited
from shared.outbound.transactions import ANY_TENANT, NOW, Clock, system_transaction, tenant_or_any
from shared.telemetry import get_logger

__all__ = ["Limiter", "limiter"]

log = get_logger(__name__)

_BURST: Final = 0.2
_BATCH_LIFE: Final = 1.0
_PERIOD: Final = 60.0 + _BATCH_LIFE
"""A token is used up to a second after it was taken: what is taken in 61 seconds may be used in 60."""

_HIGH_RATE: Final = 120.0
"""Calls per minute from which on tokens are taken in batches, of up to half a second's worth."""

# Leaves a row without tokens to take untouched, and then returns nothing. The millionth is for rounding:
# whoever waited as long as it was told finds its token, and the debt stays in the row.
_TAKE: Final = f"""
    INSERT INTO rate_limits AS r (provider, tenant_id, bucket, tokens, refilled_at)
    SELECT :provider, :tenant_id, :bucket, CAST(:capacity AS float8) - :count, {NOW}
    WHERE NOT EXISTS (SELECT FROM rate_limits AS b WHERE b.provider = :provider AND b.tenant_id = :tenant_id
        AND b.bucket = '*' AND b.blocked_until > {NOW})
    ON CONFLICT (provider, tenant_id, bucket) DO UPDATE SET
        tokens = LEAST(:capacity, r.tokens + :rate * GREATEST(0,
            EXTRACT(EPOCH FROM excluded.refilled_at - r.refilled_at)::float8)) - :count,
        refilled_at = GREATEST(r.refilled_at, excluded.refilled_at)
    WHERE LEAST(:capacity, r.tokens + :rate * GREATEST(0,
            EXTRACT(EPOCH FROM excluded.refilled_at - r.refilled_at)::float8)) >= :count - 1e-6
      AND COALESCE(r.blocked_until <= excluded.refilled_at, true)
    RETURNING tokens
"""  # noqa: S608 - NOW is ours

_LOOK: Final = f"""
    SELECT max(tokens + :rate * GREATEST(0, EXTRACT(EPOCH FROM {NOW} - refilled_at)::float8))
            FILTER (WHERE bucket = :bucket) AS available,
        max(EXTRACT(EPOCH FROM blocked_until - {NOW})::float8) AS blocked_for
    FROM rate_limits WHERE provider = :provider AND tenant_id = :tenant_id AND bucket IN (:bucket, '*')
"""  # noqa: S608 - NOW is ours

_BLOCK: Final = f"""
    INSERT INTO rate_limits AS r (provider, tenant_id, bucket, tokens, refilled_at, blocked_until)
    VALUES (:provider, :tenant_id, :bucket, 0, {NOW}, {NOW} + :duration)
    ON CONFLICT (provider, tenant_id, bucket) DO UPDATE SET
        blocked_until = GREATEST(r.blocked_until, excluded.blocked_until)
"""  # noqa: S608 - NOW is ours


@dataclass(slots=True)
class _Batch:
    """Tokens in this process's hands, good until `until` on the monotonic clock."""

    tokens: int
    size: int
    until: float


class Limiter:
    """All limits of the current database. Safe to share between threads, services and forks."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock
        self._batches: dict[tuple[str, str, str, str], _Batch] = {}
        self._lock = threading.Lock()

    def take(self, provider: str, bucket: str, *, per_minute: float, per_tenant: bool = True) -> None:
        """Take one token of the current tenant's bucket, or of everybody's with `per_tenant=False`.

        `per_minute` must be at least 2. Raises RateLimited when there is none, with the time until there
        will be one.
        """
        if per_minute < 2:
            raise ValueError("a limit below 2 a minute cannot be kept evenly")
        tenant_id = tenant_or_any(per_tenant)
        key = (current_database().url, provider, tenant_id, bucket)
        with self._lock:
            batch = self._batches.get(key)
            fresh = batch is not None and time.monotonic() < batch.until
            if batch is not None and fresh and batch.tokens > 0:
                batch.tokens -= 1
                return
        # Only who has used up a batch within its life gets a larger one; a slow caller would waste it.
        size = 1
        if per_minute >= _HIGH_RATE and batch is not None and fresh:
            size = min(batch.size * 2, max(1, int(per_minute / 120)))
        taken = self._take(provider, tenant_id, bucket, per_minute, size)
        with self._lock:
            if len(self._batches) > 10_000:
                self._batches.clear()
            self._batches[key] = _Batch(taken - 1, taken, time.monotonic() + _BATCH_LIFE)

    def _take(self, provider: str, tenant_id: str, bucket: str, per_minute: float, size: int) -> int:
        capacity = max(1.0, float(int(per_minute * _BURST)))
        values: dict[str, Any] = {
            "provider": provider,
            "tenant_id": tenant_id,
            "bucket": bucket,
            "capacity": capacity,
            "rate": (per_minute - capacity) / _PERIOD,
            "now": self._clock and self._clock(),
        }
        with system_transaction() as session:
            for count in (size, 1):
                count = min(count, int(capacity))
                if session.execute(text(_TAKE), {**values, "count": count}).first():
                    return count
            row = session.execute(text(_LOOK), values).one()
        refill = 0.0 if row.available is None else (1 - row.available) / values["rate"]
        wait = max(row.blocked_for or 0.0, refill)
        raise RateLimited(
            f"our own limit of {per_minute:g} a minute for {bucket}",
            provider=provider,
            retry_after=max(wait, 0.05),
        )

    def block(self, provider: str, seconds: float, *, bucket: str = ANY_TENANT, per_tenant: bool = True) -> None:
        """Note that the provider wants to be left alone for so long; never shortens an earlier block.

        `bucket` is `*` where the provider did not say for which calls. A database that is away is logged
        and otherwise ignored: whoever was told to wait waits anyhow.
        """
        tenant_id = tenant_or_any(per_tenant)
        with self._lock:
            self._batches.pop((current_database().url, provider, tenant_id, bucket), None)
        try:
            with system_transaction() as session:
                session.execute(
                    text(_BLOCK),
                    {
                        "provider": provider,
                        "tenant_id": tenant_id,
                        "bucket": bucket,
                        "duration": timedelta(seconds=min(max(seconds, 0.0), LONGEST_WAIT)),
                        "now": self._clock and self._clock(),
                    },
                )
        except (SQLAlchemyError, psycopg.Error) as error:
            log.warning("block_not_stored", provider=provider, error=str(error))


limiter: Final = Limiter()
"""The limiter that providers use unless they are told otherwise."""
