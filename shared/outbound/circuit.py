"""Circuit breaker: while a provider is down nobody hammers it, its jobs wait, and one alert says so.

The state is a row of `circuits`, shared by all processes of a service:

    closed ── `failures` in a row, within `window` ──▶ open ── `retry_at` passes, one probe goes ──▶ half_open
       ▲                                                 ▲                                              │
       │                                                 └── the probe fails: a longer wait ────────────┤
       └──────────────────────────────────────── the probe is answered ─────────────────────────────────┘

Opening and closing each happen once, whatever the number of processes: they are decided under the row's
lock, and the hook that writes the event runs in the same transaction. A probe that fails continues the
same opening. A probe that never reports back is replaced after `probe_lease`.

A happy call costs no query: what a process knows may be `cache` seconds old.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shared.db.database import current_database
from shared.outbound.errors import CircuitOpen, ProviderError, Unavailable, UnknownOutcome
from shared.outbound.transactions import ANY_TENANT, NOW, Clock, system_transaction, tenant_or_any, utc_now
from shared.telemetry import get_logger, metrics

__all__ = ["CircuitBreaker", "CircuitSettings", "Ticket", "breaker"]

log = get_logger(__name__)

_MEMORY: Final = timedelta(minutes=1)
"""A circuit that opens again this soon after it opened waits longer, as if it had not closed between. Short, since a
provider that fails now and then but works must not be left alone for longer and longer."""


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """When a circuit opens and for how long. Times in seconds; `scale` stretches all waits.

    So many failures in a row, over all processes, are an outage: where every third call fails they come once in
    sixty thousand calls.
    """

    failures: int = 10
    window: float = 60.0
    first_wait: float = 5.0
    longest_wait: float = 300.0
    probe_lease: float = 60.0
    cache: float = 0.5
    scale: float = 1.0

    def wait(self, openings: int) -> timedelta:
        """Return how long to stay open, having opened so many times in a row: doubled with each."""
        seconds = min(self.first_wait * 2 ** min(openings - 1, 20), self.longest_wait)
        return timedelta(seconds=seconds * self.scale)


class OnOpen(Protocol):
    def __call__(self, session: Session, *, provider: str, tenant_id: str, last_error: str, waiting: int) -> None: ...


class OnClose(Protocol):
    def __call__(self, session: Session, *, provider: str, tenant_id: str, opened_at: datetime) -> None: ...


class CountWaiting(Protocol):
    def __call__(self, session: Session, *, provider: str, tenant_id: str) -> int: ...


@dataclass(frozen=True, slots=True)
class _Known:
    """What this process knows of a circuit, good until `until` on the monotonic clock."""

    state: str
    failures: int
    retry_at: datetime | None
    until: float


class CircuitBreaker:
    """All circuits of the current database. Safe to share between threads, services and forks.

    The hooks are plain attributes, set by whoever assembles the process. `on_open` and `on_close` get the
    session of the transaction that changes the circuit, within which a unit of work of the tenant SYSTEM
    is open; when they raise, the circuit stays as it was. `count_waiting` tells `on_open` how many jobs
    now wait for the provider.
    """

    def __init__(self, settings: CircuitSettings | None = None, *, clock: Clock | None = None) -> None:
        self.settings = settings or CircuitSettings()
        self.on_open: OnOpen | None = None
        self.on_close: OnClose | None = None
        self.count_waiting: CountWaiting | None = None
        self._clock = clock
        self._known: dict[tuple[str, str, str], _Known] = {}
        self._lock = threading.Lock()

    def before(self, provider: str, *, per_tenant: bool = False) -> Ticket:
        """Ask to call the provider now; tell the ticket how it went.

        Raises CircuitOpen while nobody may.
        """
        tenant_id = tenant_or_any(per_tenant)
        known = self._fresh(provider, tenant_id)
        if known.state == "closed":
            return Ticket(self, provider, tenant_id, probe=False)
        if known.retry_at is not None and known.retry_at <= utc_now(self._clock):
            with system_transaction() as session:
                row = session.execute(
                    text(f"""
                        UPDATE circuits SET state = 'half_open', retry_at = {NOW} + :lease, updated_at = {NOW}
                        WHERE provider = :provider AND tenant_id = :tenant_id
                          AND state IN ('open', 'half_open') AND retry_at <= {NOW}
                        RETURNING state, failures, retry_at
                    """),  # noqa: S608 - NOW is ours
                    {
                        **self._key(provider, tenant_id),
                        "lease": timedelta(seconds=self.settings.probe_lease * self.settings.scale),
                    },
                ).first()
            if row is not None:
                self._note(provider, tenant_id, row)
                return Ticket(self, provider, tenant_id, probe=True)
            known = self._read(provider, tenant_id)
            if known.state == "closed":
                return Ticket(self, provider, tenant_id, probe=False)
        retry_at = known.retry_at or utc_now(self._clock)
        raise CircuitOpen(f"no calls before {retry_at.isoformat()}", provider=provider, retry_at=retry_at)

    def _succeeded(self, ticket: Ticket) -> None:
        known = self._fresh(ticket.provider, ticket.tenant_id)
        if known.state == "closed" and known.failures == 0:
            return
        with system_transaction() as session:
            row = self._locked(session, ticket)
            # A call from before the opening proves nothing by its late answer; a probe does.
            if row is None or (row.state != "closed" and not ticket.probe):
                return
            self._store(session, ticket, state="closed", failures=0, openings=row.openings)
            if row.state == "closed":
                return
            if self.on_close is not None:
                self.on_close(session, provider=ticket.provider, tenant_id=ticket.tenant_id, opened_at=row.opened_at)
        log.info("circuit_closed", provider=ticket.provider, circuit_tenant=ticket.tenant_id)

    def _failed(self, ticket: Ticket, error: ProviderError) -> None:
        opened = False
        with system_transaction() as session:
            session.execute(
                text("""
                    INSERT INTO circuits (provider, tenant_id, state) VALUES (:provider, :tenant_id, 'closed')
                    ON CONFLICT DO NOTHING
                """),
                self._key(ticket.provider, ticket.tenant_id),
            )
            row = self._locked(session, ticket)
            now: datetime = row.now
            if row.state == "closed":
                recent = row.failures > 0 and now - row.updated_at <= timedelta(seconds=self.settings.window)
                failures = row.failures + 1 if recent else 1
                opened = failures >= self.settings.failures
                if opened:
                    again = row.opened_at is not None and now - row.opened_at < _MEMORY
                    openings = row.openings + 1 if again else 1
                    self._store(
                        session,
                        ticket,
                        state="open",
                        failures=failures,
                        openings=openings,
                        opened_at=now,
                        retry_at=now + self.settings.wait(openings),
                        last_error=str(error),
                    )
                    self._opened(session, ticket, error)
                else:
                    self._store(
                        session,
                        ticket,
                        state="closed",
                        failures=failures,
                        openings=row.openings,
                        last_error=str(error),
                    )
            elif row.state == "half_open" and ticket.probe:
                self._store(
                    session,
                    ticket,
                    state="open",
                    failures=row.failures + 1,
                    openings=row.openings + 1,
                    retry_at=now + self.settings.wait(row.openings + 1),
                    last_error=str(error),
                )
        if opened:
            log.warning("circuit_opened", provider=ticket.provider, circuit_tenant=ticket.tenant_id, error=str(error))

    def _opened(self, session: Session, ticket: Ticket, error: ProviderError) -> None:
        if self.on_open is None:
            return
        key = {"provider": ticket.provider, "tenant_id": ticket.tenant_id}
        waiting = self.count_waiting(session, **key) if self.count_waiting is not None else 0
        self.on_open(session, **key, last_error=str(error), waiting=waiting)

    def _locked(self, session: Session, ticket: Ticket) -> Any:
        return session.execute(
            text(f"""
                SELECT *, {NOW} AS now FROM circuits
                WHERE provider = :provider AND tenant_id = :tenant_id FOR UPDATE
            """),  # noqa: S608 - NOW is ours
            self._key(ticket.provider, ticket.tenant_id),
        ).first()

    def _store(
        self,
        session: Session,
        ticket: Ticket,
        *,
        state: str,
        failures: int,
        openings: int,
        opened_at: datetime | None = None,
        retry_at: datetime | None = None,
        last_error: str | None = None,
    ) -> None:
        row = session.execute(
            text(f"""
                UPDATE circuits SET state = :state, failures = :failures, openings = :openings,
                    opened_at = COALESCE(:opened_at, opened_at), retry_at = :retry_at,
                    last_error = COALESCE(:last_error, last_error), updated_at = {NOW}
                WHERE provider = :provider AND tenant_id = :tenant_id
                RETURNING state, failures, retry_at
            """),  # noqa: S608 - NOW is ours
            {
                **self._key(ticket.provider, ticket.tenant_id),
                "state": state,
                "failures": failures,
                "openings": openings,
                "opened_at": opened_at,
                "retry_at": retry_at,
                "last_error": last_error,
            },
        ).one()
        self._note(ticket.provider, ticket.tenant_id, row)

    def _fresh(self, provider: str, tenant_id: str) -> _Known:
        known = self._known.get((current_database().url, provider, tenant_id))
        if known is not None and time.monotonic() < known.until:
            return known
        return self._read(provider, tenant_id)

    def _read(self, provider: str, tenant_id: str) -> _Known:
        with system_transaction() as session:
            row = session.execute(
                text("""
                    SELECT state, failures, retry_at FROM circuits
                    WHERE provider = :provider AND tenant_id = :tenant_id
                """),
                {"provider": provider, "tenant_id": tenant_id},
            ).first()
        return self._note(provider, tenant_id, row)

    def _note(self, provider: str, tenant_id: str, row: Any) -> _Known:
        until = time.monotonic() + self.settings.cache
        known = (
            _Known("closed", 0, None, until) if row is None else _Known(row.state, row.failures, row.retry_at, until)
        )
        key = (current_database().url, provider, tenant_id)
        with self._lock:
            former = self._known.get(key)
            if len(self._known) > 10_000:  # one per tenant with a server of its own: not for ever
                self._known.clear()
            self._known[key] = known
        is_open = known.state != "closed"
        if tenant_id == ANY_TENANT and is_open != (former is not None and former.state != "closed"):
            metrics.circuit_changed(provider, is_open)
        return known

    def _key(self, provider: str, tenant_id: str) -> dict[str, Any]:
        return {"provider": provider, "tenant_id": tenant_id, "now": self._clock and self._clock()}


class Ticket:
    """Leave to make one call. Say how it went: a ticket that stays silent changes nothing.

    Neither method raises when the database is away: the outcome of the call matters more.
    """

    __slots__ = ("_breaker", "probe", "provider", "tenant_id")

    def __init__(self, breaker: CircuitBreaker, provider: str, tenant_id: str, *, probe: bool) -> None:
        self._breaker = breaker
        self.provider = provider
        self.tenant_id = tenant_id
        self.probe = probe
        """Whether this call is the one that finds out if the provider is back."""

    def succeeded(self) -> None:
        """The provider answered: failures no longer count, and a probe closes the circuit."""
        try:
            self._breaker._succeeded(self)
        except (SQLAlchemyError, psycopg.Error) as error:
            log.warning("circuit_not_updated", provider=self.provider, error=str(error))

    def failed(self, error: ProviderError) -> None:
        """Count the failure, unless it is an answer: a provider that refuses is there."""
        if not isinstance(error, Unavailable | UnknownOutcome):
            self.succeeded()
            return
        try:
            self._breaker._failed(self, error)
        except (SQLAlchemyError, psycopg.Error) as failure:
            log.warning("circuit_not_updated", provider=self.provider, error=str(failure))


breaker: Final = CircuitBreaker()
"""The breaker that providers use unless they are told otherwise; its hooks are set at assembly."""
