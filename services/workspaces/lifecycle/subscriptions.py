"""From what Paddle says of subscriptions to what it means for the workspace.

A workspace may have had several subscriptions, for Paddle never brings one back to life: who returns buys
another. Each is a row that holds what is newest by Paddle's own time, so that events may come late, twice and
in any order. What the rows say together decides: a workspace is paid for as long as one of them has not ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.workspaces.audit import audit
from services.workspaces.lifecycle import cancellations
from services.workspaces.lifecycle.models import Subscription
from services.workspaces.lifecycle.paddle_objects import SubscriptionObject
from services.workspaces.models import Workspace
from services.workspaces.plans import PLANS, limits_of
from shared.context import current
from shared.db import new_id
from shared.events import publish
from shared.events.contracts.workspaces import PlanChanged
from shared.telemetry import get_logger

__all__ = ["is_paid_for", "note", "settle"]

log = get_logger(__name__)


def note(session: Session, seen: SubscriptionObject, occurred_at: datetime) -> bool:
    """Keep what Paddle says of a subscription of this workspace; return whether it is news."""
    values = {
        "customer_id": seen.customer_id,
        "status": seen.status,
        "plan": seen.plan,
        "ends_at": seen.ends_at,
        "canceled_at": (seen.canceled_at or occurred_at) if seen.status == "canceled" else None,
        "occurred_at": occurred_at,
    }
    statement = insert(Subscription).values(id=new_id(), tenant_id=current().tenant_id, provider_id=seen.id, **values)
    new = statement.excluded
    # Two that Paddle dates alike: the end is what came last.
    newer = or_(
        Subscription.occurred_at < new.occurred_at,
        and_(Subscription.occurred_at == new.occurred_at, new.status == "canceled", Subscription.status != "canceled"),
    )
    changed = {name: new[name] for name in values}
    kept = session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "provider_id"], set_=changed, where=newer
        ).returning(Subscription.id)
    )
    return kept.scalar() is not None


def is_paid_for(session: Session) -> bool | None:
    """Whether the workspace has a subscription that has not ended; None where it never had any."""
    statuses = session.scalars(select(Subscription.status)).all()
    return any(status != "canceled" for status in statuses) if statuses else None


def settle(session: Session, workspace: Workspace) -> str:
    """Bring the workspace, which is locked, into line with its subscriptions; return what came of it.

    `canceled`, `reactivated`, `unchanged`, or `archived`: for an archived one nothing follows by itself.
    """
    rows = session.scalars(
        select(Subscription).order_by(Subscription.id).execution_options(populate_existing=True)
    ).all()
    live = [row for row in rows if row.status != "canceled"]
    if live:
        _set_plan(session, workspace, live)
    if workspace.state == "archived":
        return "archived" if live else "unchanged"
    cancellation = cancellations.open_cancellation(session)
    if live and cancellation is not None:
        cancellations.reactivate(session, workspace, cancellation)
        return "reactivated"
    if rows and not live and cancellation is None:
        cancellations.begin(session, workspace, max(row.canceled_at for row in rows if row.canceled_at is not None))
        return "canceled"
    return "unchanged"


def _set_plan(session: Session, workspace: Workspace, live: Sequence[Subscription]) -> None:
    # The first that is still running: whoever buys another for this workspace does not change what its owner has.
    plan = live[0].plan
    if plan is None or plan == workspace.plan:
        return
    if plan not in PLANS:
        log.warning("a subscription is for a plan that is none of ours", plan=plan[:50])
        return
    audit(session, "workspace.plan_changed", f"workspace:{workspace.id}", plan=plan, previous=workspace.plan)
    workspace.plan = plan
    workspace.version += 1
    publish(
        session,
        PlanChanged(plan=plan, limits=limits_of(plan)),
        subject=workspace.id,
        sequence=workspace.version,
    )
