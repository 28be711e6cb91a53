"""ERPs that cannot send are asked: each hour, and when somebody wants it.

A run asks for one page and applies it; page, place and counts are one commit. So a run that is killed repeats at most
one page, which changes nothing, and between two pages of a slow ERP others have their turn. The place is kept in the
connection: what a job that failed has left is where the next one goes on.

An ERP that does not accept our token is not asked again before it has a new one. What it answers is in its log,
also when it is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.imports.erp import log, passes
from services.imports.erp.credentials import all_secrets, token_of
from services.imports.erp.models import Entity, ErpConnection
from services.imports.erp.sync import apply_page, lock
from services.imports.failures import FAILURES, WAITING
from services.imports.providers import Page, Question, connector_of
from services.imports.room import room_left
from services.imports.settings import settings
from shared.db import unit_of_work
from shared.jobs import Continue, GiveUp, Priority, Skip, Snooze, actor, completion, cron, current_job, explain
from shared.jobs.reconcile import Found, queue_again
from shared.outbound import CircuitOpen, NotAuthorized, ProviderError, Refused

__all__ = ["pull_all_erps", "pull_erp"]

ENTITIES: Final[tuple[Entity, ...]] = ("samples", "stock")
"""What an ERP is asked for; samples first, since stock is of samples that are known."""

_COUNTS: Final = ("items", "created", "updated", "unchanged", "failed")
_CURSOR_IS_STALE: Final = (400, 404, 410, 422)
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a run found when it began."""

    connection: ErpConnection
    entity: Entity
    walk: passes.Pass
    token: str
    secrets: list[str]

    @property
    def question(self) -> Question:
        return Question(self.entity, self.walk.since, self.walk.cursor)


@actor(
    queue_name="erp",
    unique=("connection_id", "entity"),
    subject="Ask {name:.100} for its {entity}",
    time_limit=480,
)
def pull_erp(connection_id: UUID, entity: Entity, name: str) -> None:
    """Ask an ERP for what changed, page by page, and apply it."""
    plan = _begin(connection_id, entity)
    page, request = _ask(plan)
    if page.next is None:
        _finish(plan, page, request)
    else:
        _go_on(plan, page, request, page.next)
        current_job().breathe()
        raise Continue


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Ask all ERPs what changed",
    periodic=cron("17 * * * *"),
)
def pull_all_erps() -> dict[str, int]:
    """Have every ERP asked that can be; of one that is still being asked nothing is queued twice."""
    job = current_job()
    after, pulls = job.checkpoint.get("after"), int(job.checkpoint.get("pulls", 0))
    while True:
        with unit_of_work(system=True) as session:
            found = session.execute(
                select(ErpConnection.tenant_id, ErpConnection.id, ErpConnection.name)
                .where(ErpConnection.state == "active", *([] if after is None else [ErpConnection.id > UUID(after)]))
                .order_by(ErpConnection.id)
                .limit(_AT_ONCE)
            ).all()
            wanted: list[Found] = [
                (row.tenant_id, {"connection_id": row.id, "entity": entity, "name": row.name})
                for row in found
                for entity in ENTITIES
            ]
            pulls += queue_again(pull_erp, wanted)
            after = str(found[-1].id) if found else after
            job.progress(pulls, None, unit="pulls", checkpoint={"after": after, "pulls": pulls})
        if len(found) < _AT_ONCE:
            return {"pulls": pulls}
        job.breathe()


def _begin(connection_id: UUID, entity: Entity) -> _Plan:
    with unit_of_work() as session:
        connection = session.get(ErpConnection, connection_id)
    if connection is None:
        raise Skip("connection_gone")
    if connection.state != "active":
        raise GiveUp("provider_not_authorized")
    walk = passes.current_pass(connection, entity, datetime.now(UTC), overlap=settings().erp_overlap_seconds)
    return _Plan(connection, entity, walk, token_of(connection), all_secrets(connection))


def _ask(plan: _Plan) -> tuple[Page, str]:
    """Return a page, and what was asked; what went wrong is in the log before it is raised."""
    connection = plan.connection
    request = connection.base_url
    try:
        erp = connector_of(connection.kind, connection.base_url, plan.token, plan.secrets)
        request = erp.describe(plan.question)
        return erp.ask(plan.question), request
    except CircuitOpen:
        raise  # nobody was asked
    except ProviderError as error:
        if _write_down(plan, request, error):
            raise Snooze("erp_changed", delay=0) from error
        raise


def _write_down(plan: _Plan, request: str, error: ProviderError) -> bool:
    """Log an answer that is none of use, and draw the consequences; tell whether the connection is another by now."""
    with unit_of_work() as session:
        connection = lock(session, plan.connection.id)
        if connection is None:
            raise Skip("connection_gone")
        _log_failure(session, plan, request, error.code, "" if error.status is None else error.detail)
        if connection.version != plan.connection.version:
            return True
        if isinstance(error, NotAuthorized):
            connection.state = "needs_attention"
            connection.version += 1
            connection.updated_at = datetime.now(UTC)
        elif isinstance(error, Refused) and plan.walk.cursor is not None and error.status in _CURSOR_IS_STALE:
            passes.forget(connection, plan.entity)
    return False


def _log_failure(session: Session, plan: _Plan, request: str, code: str, said: str = "") -> None:
    """Log what went wrong in our words, and what the ERP said; what we found out about its address stays with us."""
    sentence = WAITING.get(code) or explain(FAILURES, code, {"limit": settings().erp_max_pages}).what
    log.write(
        session,
        plan.connection.id,
        "out",
        plan.entity,
        failed=True,
        secrets=plan.secrets,
        request=request,
        response=f"{sentence} {said}".rstrip(),
    )


def _finish(plan: _Plan, page: Page, request: str) -> None:
    """Apply the last page, and complete pass and job in the same commit."""
    result: dict[str, int] = {}
    with completion(result) as session:
        connection = _apply(session, plan, page, request)
        passes.complete(connection, plan.entity, plan.walk)
        result.update(current_job().checkpoint["total"])


def _go_on(plan: _Plan, page: Page, request: str, cursor: str) -> None:
    """Apply a page that others follow. Raises GiveUp where they would never end."""
    limit = settings().erp_max_pages
    walk = plan.walk.after(cursor)
    ending = None
    if plan.walk.repeats(cursor):
        ending = GiveUp("erp_pages_repeat")
    elif walk.pages >= limit:
        ending = GiveUp("erp_too_many_pages", limit=limit)
    with unit_of_work() as session:
        connection = _apply(session, plan, page, request)
        if ending is None:
            passes.save(connection, plan.entity, walk)
        else:
            passes.forget(connection, plan.entity)
            session.flush()
            _log_failure(session, plan, request, ending.code)
    if ending is not None:
        raise ending


def _apply(session: Session, plan: _Plan, page: Page, request: str) -> ErpConnection:
    """Apply a page in the open transaction, and count it. Return the connection, locked."""
    job = current_job()
    connection = lock(session, plan.connection.id)
    if connection is None:
        raise Skip("connection_gone")
    if connection.version != plan.connection.version:
        # It may be another ERP by now, whose items these are not.
        raise Snooze("erp_changed", delay=0)
    room = None
    if plan.entity == "samples":
        # Counting all samples takes long, so it is done for the first page and not for each.
        room = job.checkpoint.get("room")
        room = room_left(session) if room is None else room
    counts = apply_page(
        session,
        connection,
        plan.entity,
        page.items,
        direction="out",
        secrets=plan.secrets,
        request=request,
        response=page.text,
        room=room,
    )
    before = job.checkpoint.get("total", {})
    total = {name: before.get(name, 0) + counts[name] for name in _COUNTS}
    total["pages"] = before.get("pages", 0) + 1
    left = None if room is None else max(0, room - counts["created"])
    said = f"{total['created']} new, {total['updated']} changed, {total['failed']} failed"
    job.progress(total["items"], None, unit="items", message=said, checkpoint={"total": total, "room": left})
    return connection
