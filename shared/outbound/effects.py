"""The effect journal: what must not happen twice does not, even when the other side cannot help.

    def buy(): return shippo.buy(rate, reference).as_json()
    def find(): return found.as_json() if (found := shippo.find(rate, reference)) else None
    answer = once(f"label:{label_id}", call=buy, look_up=find, settle=120)

An intent is committed before the call and the answer after it. Whoever finds an intent without an answer
knows that a call may have gone out, and looks at the provider before it leaps again: by our reference in
the provider's records, and not before `settle` seconds have passed, within which a request that was sent
may still be under way.

    (none) ── intent committed, call ──▶ intent ── answer ──▶ done          stored; returned ever after
                                           │ ├── a definite no ──▶ refused  the next `once` calls anew
                                           │ ├── never sent ──▶ (none)      the next `once` calls anew
                                           │ └── no answer ──▶ unknown ─┐
                                           └── a crash ─────────────────┴▶ after `settle`: look up;
                                                                           found ▶ done, else ▶ intent

What remains, stated so that nobody relies on more:
- A provider that carries a request out later than `settle` after it was sent. Choose `settle` well above
  twice the call's total time-out plus what the provider itself may take.
- A process suspended between its last look at the clocks and the first byte of its call, for longer than
  the other half of `settle`, while somebody else looked up and called anew.
- A look-up that does not show what exists. Its listing must be consistent after `settle`.
An effect found to have happened twice is logged as `effect_doubled`, for people to mend.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shared.context import current
from shared.db.database import current_work, unit_of_work
from shared.outbound.errors import (
    CircuitOpen,
    NotAuthorized,
    ProviderError,
    RateLimited,
    Refused,
    Superseded,
    Unavailable,
    UnknownOutcome,
    Unsettled,
)
from shared.outbound.guard import RuleViolation
from shared.outbound.transactions import NOW, Clock
from shared.telemetry import get_logger

__all__ = ["JSON", "Effect", "find", "forget", "once"]

log = get_logger(__name__)

JSON = Any
"""What `json.dumps` takes: stored as it is, returned as it comes back."""

_NEVER_SENT: Final = (Unavailable, RateLimited, CircuitOpen, Unsettled)


@dataclass(frozen=True, slots=True)
class Effect:
    """A row of the journal. `tries` counts the calls that may have gone out, and fences their writers."""

    key: str
    state: str
    tries: int
    started_at: datetime
    settled_at: datetime | None
    answer: JSON


def once(
    key: str,
    *,
    call: Callable[[], JSON],
    look_up: Callable[[], JSON | None],
    settle: float,
    clock: Clock | None = None,
) -> JSON:
    """Bring the effect of this key about, once for the current tenant, and return the answer.

    `call` does it and returns the answer; `look_up` returns the answer of a call that went through
    earlier, None if there is none. Neither may run in a transaction, so this one refuses to. `settle` is
    in seconds.

    Raises what `call` or `look_up` raised; Unsettled while it is too early to look; UnknownOutcome when
    this process was suspended before the call; Superseded when a later run of this job was here already;
    RuleViolation inside of an open unit of work.
    """
    if current_work() is not None:
        raise RuleViolation("an effect inside of an open unit of work: its intent could be rolled back")
    journal = _Journal(key, settle, clock)
    since = _Moment()
    effect = journal.begin()
    previous: datetime | None = None
    if effect.state == "done":
        return effect.answer
    if effect.state == "unknown":
        found = look_up()
        if found is not None:
            log.info("effect_adopted", effect=key, tries=effect.tries)
            return journal.finish(effect.tries, found, adopted=True)
        previous, since = effect.started_at, _Moment()
        effect = journal.begin_again(effect)
    if (gap := since.gap()) > settle / 2:
        journal.settle(effect.tries, "unknown")
        raise UnknownOutcome(f"suspended for {gap:.1f} s before the call of effect {key}")
    try:
        answer = call()
    except (Refused, NotAuthorized) as error:
        journal.after(error, effect.tries, "refused")
        raise
    except _NEVER_SENT as error:
        if error.unanswered:  # raised for a call that was not marked as an effect, but is one
            journal.after(error, effect.tries, "unknown")
        else:
            journal.after(error, effect.tries, "never_sent", previous)
        raise
    except BaseException as error:
        journal.after(error, effect.tries, "unknown")
        raise
    return journal.finish(effect.tries, answer)


def find(key: str) -> Effect | None:
    """Return what the journal of the current tenant says about an effect; joins an open unit of work."""
    with unit_of_work() as session:
        return _row(session, key)


def forget(key: str) -> bool:
    """Remove an effect, so that the next `once` brings it about anew; True if it was there.

    For an effect that was undone (a label refunded). Joins an open unit of work.
    """
    with unit_of_work() as session:
        deleted = session.execute(
            text("DELETE FROM effects WHERE tenant_id = :tenant_id AND key = :key RETURNING 1"),
            {"tenant_id": current().tenant_id, "key": key},
        )
        return deleted.first() is not None


# Counts on while the machine sleeps, which the monotonic clock of Linux does not.
_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class _Moment:
    """A moment on two clocks: one that nobody sets, and one that is set right after a machine's sleep."""

    __slots__ = ("_boot", "_wall")

    def __init__(self) -> None:
        self._boot, self._wall = time.clock_gettime(_BOOT), time.time()

    def gap(self) -> float:
        """Return the seconds since then, by the clock that says more."""
        return max(time.clock_gettime(_BOOT) - self._boot, time.time() - self._wall)


class _Journal:
    """The writes of one run of `once`, each a short transaction in the current tenant."""

    def __init__(self, key: str, settle: float, clock: Clock | None) -> None:
        self._key = key
        self._settle = timedelta(seconds=settle)
        self._clock = clock

    def _values(self, **more: Any) -> dict[str, Any]:
        context = current()
        return {
            "tenant_id": context.tenant_id,
            "key": self._key,
            "job_id": context.job_id,
            "dispatch": context.dispatch,
            "now": self._clock and self._clock(),
            **more,
        }

    def begin(self) -> Effect:
        """Commit an `intent` of this run, or return what stands in its way: `done`, or `unknown` and old
        enough to look. Raises Unsettled while it is too young."""
        with unit_of_work() as session:
            new = session.execute(
                text(f"""
                    INSERT INTO effects (tenant_id, key, state, job_id, dispatch, started_at)
                    VALUES (:tenant_id, :key, 'intent', CAST(:job_id AS uuid), :dispatch, {NOW})
                    ON CONFLICT DO NOTHING RETURNING tries
                """),  # noqa: S608 - NOW is ours
                self._values(),
            ).first()
            row = _row(session, self._key, lock=True)
            assert row is not None, "a row that exists or was just written"
            if new is not None or row.state == "done":
                return row
            self._fence(session)
            if row.state == "refused":
                return self._intend(session, row)
            now = session.execute(text(f"SELECT {NOW}"), self._values()).scalar_one()
        if now < row.started_at + self._settle:
            raise Unsettled(
                f"effect {self._key}: sent at {row.started_at.isoformat()}, outcome not to be known yet",
                until=row.started_at + self._settle,
            )
        return Effect(row.key, "unknown", row.tries, row.started_at, None, None)

    def begin_again(self, seen: Effect) -> Effect:
        """Commit a new intent in place of one that came to nothing, unless somebody else was faster."""
        with unit_of_work() as session:
            row = _row(session, self._key, lock=True)
            if row is not None and row.tries == seen.tries and row.state in ("intent", "unknown"):
                self._fence(session)
                return self._intend(session, row)
            now = session.execute(text(f"SELECT {NOW}"), self._values()).scalar_one()
        # Whatever it was, the next run of this job sees it from the start.
        raise Unsettled(f"effect {self._key}: another run has taken it up", until=now + timedelta(seconds=1))

    def _intend(self, session: Session, row: Effect) -> Effect:
        session.execute(
            text(f"""
                UPDATE effects SET state = 'intent', tries = tries + 1, started_at = {NOW}, settled_at = NULL,
                    job_id = CAST(:job_id AS uuid), dispatch = :dispatch
                WHERE tenant_id = :tenant_id AND key = :key
            """),  # noqa: S608 - NOW is ours
            self._values(),
        )
        return Effect(row.key, "intent", row.tries + 1, row.started_at, None, None)

    def _fence(self, session: Session) -> None:
        """Raise Superseded when the row was written by a later run of this very job."""
        later = session.execute(
            text("""
                SELECT 1 FROM effects WHERE tenant_id = :tenant_id AND key = :key
                    AND job_id = CAST(:job_id AS uuid) AND dispatch > :dispatch
            """),
            self._values(),
        ).first()
        if later is not None:
            raise Superseded(f"effect {self._key}: a later run of this job was here")

    def finish(self, tries: int, answer: JSON, *, adopted: bool = False) -> JSON:
        """Commit the answer, which was `adopted` if a look-up brought it; return it as it was stored.

        Not fenced: an answer is proof, whoever holds the row by now.
        """
        stored = json.dumps(answer)
        with unit_of_work() as session:
            row = _row(session, self._key, lock=True)
            if row is not None and row.state == "done":
                if not adopted and row.answer != json.loads(stored):
                    log.error("effect_doubled", effect=self._key, tries=row.tries, answer=stored)
                return row.answer
            session.execute(
                text(f"""
                    INSERT INTO effects (tenant_id, key, state, job_id, dispatch, tries, started_at,
                        settled_at, answer)
                    VALUES (:tenant_id, :key, 'done', CAST(:job_id AS uuid), :dispatch, :tries, {NOW}, {NOW},
                        CAST(:answer AS jsonb))
                    ON CONFLICT (tenant_id, key) DO UPDATE SET state = 'done', settled_at = {NOW},
                        answer = excluded.answer
                """),  # noqa: S608 - NOW is ours
                self._values(tries=tries, answer=stored),
            )
        return json.loads(stored)

    def settle(self, tries: int, state: str, previous: datetime | None = None) -> None:
        """Note how a call without an answer ended, unless somebody else has taken the effect up.

        `never_sent` undoes the intent. Where an earlier try is still behind it, that one stays, so that
        the next run looks again before it calls, but need not wait.
        """
        values = self._values(tries=tries, state=state, previous=previous)
        mine = "tenant_id = :tenant_id AND key = :key AND tries = :tries AND state = 'intent'"
        if state == "never_sent" and previous is None:
            statement = f"DELETE FROM effects WHERE {mine}"  # noqa: S608
        elif state == "never_sent":
            statement = f"UPDATE effects SET state = 'unknown', started_at = :previous WHERE {mine}"  # noqa: S608
        else:
            settled = NOW if state == "refused" else "NULL"
            statement = f"UPDATE effects SET state = :state, settled_at = {settled} WHERE {mine}"  # noqa: S608
        with unit_of_work() as session:
            session.execute(text(statement), values)

    def after(self, error: BaseException, tries: int, state: str, previous: datetime | None = None) -> None:
        """As `settle`, while `error` is on its way up, which matters more than a database that is away."""
        try:
            self.settle(tries, state, previous)
        except (SQLAlchemyError, psycopg.Error) as failure:
            # The intent stays and is looked up next time: the careful way out of any state.
            code = error.code if isinstance(error, ProviderError) else type(error).__name__
            log.warning("effect_not_settled", effect=self._key, state=state, code=code, error=str(failure))


def _row(session: Session, key: str, *, lock: bool = False) -> Effect | None:
    row = session.execute(
        text(f"""
            SELECT key, state, tries, started_at, settled_at, answer FROM effects
            WHERE tenant_id = :tenant_id AND key = :key {"FOR UPDATE" if lock else ""}
        """),  # noqa: S608 - a constant
        {"tenant_id": current().tenant_id, "key": key},
    ).first()
    return None if row is None else Effect(**row._mapping)
