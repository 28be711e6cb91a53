"""Watches are checked every fifteen minutes, those that are due, without any model.

Each check is a transaction: what matches, what was told of it, the notice and the event stand or fall together, so that
a check that is repeated tells nothing twice. What goes wrong with one watch stops no other; three times in a row, and
it is paused and its member told. Of a workspace or a member that is not active nothing is checked, only passed over.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, column, delete, exists, select, table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from services.notifications.models import Member
from services.notifications.notices import tell
from services.notifications.settings import settings
from services.notifications.watches.checking import check, next_slot
from services.notifications.watches.models import Watch, WatchMatch
from shared.db import unit_of_work
from shared.jobs import Priority, actor, cron, current_job
from shared.jobs.outcomes import Outcome, Superseded
from shared.jobs.reconcile import queue_again
from shared.telemetry import get_logger

__all__ = ["check_watches", "check_watches_of_workspace", "clean_up_watches"]

log = get_logger(__name__)

_PATIENCE: Final = 3
"""So many errors in a row, and a watch is paused."""
_BATCH: Final = 500
_STANDINGS: Final = table("standings", column("tenant_id"), column("state"))
"""What workspaces may do, as the library keeps it; one without a row is active."""


@actor(
    queue_name="default",
    unique=(),
    subject="Check the watches that are due",
    periodic=cron("*/15 * * * *"),
)
def check_watches() -> dict[str, int]:
    """Have the watches checked that are due, workspace by workspace."""
    with unit_of_work(system=True) as session:
        due = select(Watch.tenant_id).where(*_due(datetime.now(UTC))).distinct().order_by(Watch.tenant_id)
        tenants = session.scalars(due).all()
        return {"workspaces": queue_again(check_watches_of_workspace, [(tenant, {}) for tenant in tenants])}


@actor(queue_name="default", unique=(), subject="Check watches")
def check_watches_of_workspace() -> dict[str, int]:
    """Check the watches of one workspace that are due."""
    job = current_job()
    counts = {"checked": 0, "told": 0, "skipped": 0, "errors": 0}
    while True:
        with unit_of_work() as session:
            due = session.scalars(
                select(Watch.id).where(*_due(datetime.now(UTC))).order_by(Watch.next_run_at, Watch.id).limit(_BATCH)
            ).all()
        for watch_id in due:
            counts[_checked(watch_id)] += 1
            job.breathe()
        if len(due) < _BATCH:
            return counts


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Clean up watches that nobody confirmed",
    periodic=cron("45 4 * * *"),
)
def clean_up_watches() -> dict[str, int]:
    """Remove watches that were written long ago and never confirmed, and what deleted ones have told."""
    before = datetime.now(UTC) - timedelta(days=settings().draft_days)
    drafts = select(Watch.id).where(Watch.state == "draft", Watch.created_at < before)
    orphans = select(WatchMatch.id).where(~exists().where(Watch.id == WatchMatch.watch_id))
    return {"watches": _removed(Watch, drafts), "matches": _removed(WatchMatch, orphans)}


def _removed(kind: type[Watch | WatchMatch], old: Select[Any]) -> int:
    removed = 0
    while True:
        with unit_of_work(system=True) as session:
            statement = delete(kind).where(kind.id.in_(old.limit(_BATCH))).returning(kind.id)
            gone = len(session.scalars(statement.execution_options(synchronize_session=False)).all())
        removed += gone
        if gone < _BATCH:
            return removed
        current_job().breathe()


def _due(now: datetime) -> list[ColumnElement[bool]]:
    frozen = exists().where(
        _STANDINGS.c.tenant_id == Watch.tenant_id, _STANDINGS.c.state.not_in(("active", "canceled"))
    )
    return [Watch.state == "active", Watch.next_run_at <= now, ~frozen]


def _checked(watch_id: UUID) -> str:
    """Check one watch in a transaction of its own; return what it was: checked, told, skipped, or an error."""
    try:
        with unit_of_work() as session:
            return _check(session, watch_id)
    except (Superseded, Outcome):
        raise
    except Exception as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise  # no fault of the watch
        log.warning("watch_not_checked", watch=str(watch_id), error=str(error))
    with unit_of_work() as session:
        _note_error(session, watch_id)
    return "errors"


def _check(session: Session, watch_id: UUID) -> str:
    now = datetime.now(UTC)
    watch = session.scalar(select(Watch).where(Watch.id == watch_id, *_due(now)).with_for_update())
    if watch is None or watch.next_run_at is None:
        return "skipped"
    member = session.get(Member, (watch.tenant_id, watch.member_id))
    told = 0
    if member is not None and member.status == "active":
        told = check(session, watch, member, now)
        watch.last_checked_at, watch.errors = now, 0
    watch.next_run_at = next_slot(watch.next_run_at, watch.frequency, now)
    return "told" if told else "checked" if watch.last_checked_at == now else "skipped"


def _note_error(session: Session, watch_id: UUID) -> None:
    now = datetime.now(UTC)
    watch = session.scalar(select(Watch).where(Watch.id == watch_id, *_due(now)).with_for_update())
    if watch is None or watch.next_run_at is None:
        return
    watch.errors += 1
    if watch.errors < _PATIENCE:
        watch.next_run_at = next_slot(watch.next_run_at, watch.frequency, now)
        return
    watch.pause("errors")
    tell(
        session,
        "watch_paused",
        [watch.member_id],
        f"Your watch is paused: {watch.title}",
        "It could not be checked three times in a row. Resume it, or write it anew.",
        link=f"/watches/{watch.id}",
        dedupe_key=f"watch-paused:{watch.id}:{watch.version}",
    )
