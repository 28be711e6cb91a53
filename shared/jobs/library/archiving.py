"""What becomes of a workspace that is archived: its work ends, its data becomes files, its credentials go.

In this order, and the last never before the others are complete: what lets us into third parties is gone for good.
A workspace that is restored meanwhile keeps everything.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from shared.context import SYSTEM, current
from shared.db import unit_of_work
from shared.jobs.actor import Priority, actor
from shared.jobs.current import completion, current_job
from shared.jobs.enqueue import NewJob, enqueue
from shared.jobs.library.cancelling import cancel_each
from shared.jobs.library.exporting import export_tables, folder
from shared.jobs.models import LIVE, Job
from shared.jobs.outcomes import Skip, Snooze
from shared.jobs.parts import parts
from shared.jobs.schedules import cron

__all__ = ["archive_workspace", "resume_archives"]

_TO_BE_ARCHIVED: Final = """
SELECT true FROM standings WHERE tenant_id = :tenant AND state = 'archived' AND archived_at IS NULL FOR UPDATE
"""
_ARCHIVED: Final = "UPDATE standings SET archived_at = clock_timestamp() WHERE tenant_id = :tenant"
_UNFINISHED: Final = """
SELECT tenant_id FROM standings
WHERE state = 'archived' AND archived_at IS NULL AND noted_at < now() - interval '1 hour'
ORDER BY tenant_id LIMIT 1000
"""


@actor(queue_name="default", unique=(), subject="Archive the workspace", standing="any", time_limit=1500)
def archive_workspace() -> dict[str, Any]:
    """Cancel the workspace's jobs, export its data below `archives/`, then destroy its credentials."""
    job = current_job()
    with unit_of_work() as session:
        _check(session)
    ends = _ends_with_its_workspace()
    cancelled = cancel_each(*ends)
    with unit_of_work() as session:
        live = select(func.count()).select_from(Job).where(Job.state.in_(LIVE), Job.id != job.id, *ends)
        if session.scalar(live):
            # What runs stops at its next good moment, and may need what lets it in until then.
            raise Snooze("waiting_for_jobs", delay=2)
    manifest = export_tables(folder("archives"))
    destroy = parts().destroy_credentials
    result = {"cancelled": cancelled, "tables": len(manifest["tables"]), "credentials": 0}
    with completion(result) as session:
        _check(session)
        if destroy is not None:
            result["credentials"] = destroy(session)
        session.execute(text(_ARCHIVED), {"tenant": current().tenant_id})
    return result


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Go on with archives",
    periodic=cron("50 4 * * *"),
)
def resume_archives() -> dict[str, int]:
    """Archive what should have been archived and was not, a failed job's workspace included."""
    with unit_of_work(system=True) as session:
        tenants = session.scalars(text(_UNFINISHED)).all()
        for tenant in tenants:
            enqueue(NewJob(actor=archive_workspace, arguments={}, tenant_id=tenant))
    return {"workspaces": len(tenants)}


def _check(session: Session) -> None:
    """Raise Skip unless the workspace is archived, and was not dealt with; holds on to that until the commit."""
    if session.scalar(text(_TO_BE_ARCHIVED), {"tenant": current().tenant_id}) is None:
        raise Skip("not_to_be_archived")


def _ends_with_its_workspace() -> list[Any]:
    """Return what holds of jobs that end with their workspace: all but handlers of events, and the library's own."""
    library = __name__.rpartition(".")[0]
    stays = [
        name
        for name, declared in parts().actors.items()
        if declared.job.event_type is not None or declared.fn.__module__.startswith(library)
    ]
    assert current().tenant_id != SYSTEM, "no event archives the tenant of the system"
    return [Job.tenant_id == current().tenant_id, Job.actor.not_in(stays)]
