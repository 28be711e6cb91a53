"""What follows from the end of a subscription, step by step; each once, in order, late rather than never.

    day 3, 7    the owner is asked back           day 30   suspended
    day 14      frozen                            day 90   archived

A step is a row, written in the transaction of what it does. All here runs in the workspace's own tenant, inside
of an open unit of work, and holds the lock of the workspace's row: whatever else changes the workspace waits.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.workspaces.audit import audit
from services.workspaces.lifecycle.models import Cancellation, CancellationStep
from services.workspaces.models import Member, Workspace
from shared.events import publish
from shared.events.contracts.workspaces import WinbackDue, WorkspaceStateChanged

__all__ = [
    "STEPS",
    "Step",
    "begin",
    "change_state",
    "lock_workspace",
    "next_due",
    "open_cancellation",
    "reactivate",
    "take",
]

Reason = Literal["subscription", "lifecycle", "reactivated", "operator"]


class Step(NamedTuple):
    """`day` counts whole days from the end of the subscription; `state` is None for a mail."""

    name: str
    day: int
    state: Literal["frozen", "suspended", "archived"] | None = None

    def due_at(self, cancellation: Cancellation) -> datetime:
        return cancellation.canceled_at + timedelta(days=self.day)


STEPS: Final = (
    Step("winback_1", 3),
    Step("winback_2", 7),
    Step("freeze", 14, "frozen"),
    Step("suspend", 30, "suspended"),
    Step("archive", 90, "archived"),
)
_FREEZE: Final = STEPS[2]

STALE: Final = timedelta(days=3)
"""A mail to win somebody back that is later than this is not sent any more."""

RESPITE: Final = timedelta(hours=2)
"""At least this long a workspace is suspended before it is archived: a tick of the hourly job lies between,
however late both are, so that nobody loses his workspace on the day on which an outage ends."""


def lock_workspace(session: Session) -> Workspace | None:
    """Return the workspace of the current tenant, held until the transaction ends; None where there is none."""
    return session.scalar(select(Workspace).with_for_update(key_share=True).execution_options(populate_existing=True))


def open_cancellation(session: Session) -> Cancellation | None:
    """Return the cancellation that is under way in the current tenant."""
    return session.scalar(select(Cancellation).where(Cancellation.ended_at.is_(None)))


def begin(session: Session, workspace: Workspace, canceled_at: datetime, reason: Reason = "subscription") -> None:
    """The workspace is not paid for any more, since `canceled_at`."""
    cancellation = Cancellation(canceled_at=canceled_at)
    session.add(cancellation)
    session.flush()
    change_state(session, workspace, "canceled", reason, cancellation, datetime.now(UTC))


def reactivate(session: Session, workspace: Workspace, cancellation: Cancellation) -> None:
    """It is paid for again: the state of before is back, and what was still to come is not done."""
    now = datetime.now(UTC)
    for step in _remaining(session, cancellation):
        _write(session, cancellation, step, "cancelled", now)
    cancellation.ended_at = cancellation.reactivated_at = now
    change_state(session, workspace, "active", "reactivated", cancellation, now)


def next_due(session: Session, cancellation_id: UUID, as_of: datetime) -> Step | None:
    """Return the step that is to be taken next, if its time has come; None when the cancellation is over."""
    cancellation = session.get(Cancellation, cancellation_id)
    if cancellation is None or cancellation.ended_at is not None:
        return None
    step = next(iter(_remaining(session, cancellation)), None)
    if step is None or step.due_at(cancellation) > as_of:
        return None
    if step.state == "archived" and _suspended_at(session, cancellation) + RESPITE > as_of:
        return None
    return step


def take(session: Session, cancellation_id: UUID, step: Step, as_of: datetime) -> str | None:
    """Take a step that is due; return its outcome, None where it is not this one's turn any more."""
    workspace = lock_workspace(session)
    if workspace is None or next_due(session, cancellation_id, as_of) != step:
        return None
    cancellation = session.get_one(Cancellation, cancellation_id)
    if step.state is None:
        outcome = _ask_back(session, workspace, cancellation, step, as_of)
    else:
        outcome = "done"
        if step.state == "archived":
            cancellation.ended_at = as_of
        change_state(session, workspace, step.state, "lifecycle", cancellation, as_of)
    _write(session, cancellation, step, outcome, as_of)
    return outcome


def change_state(
    session: Session, workspace: Workspace, state: str, reason: Reason, cancellation: Cancellation | None, at: datetime
) -> None:
    """Set the state of a workspace, and tell so."""
    cancellation_id = None if cancellation is None else cancellation.id
    event = WorkspaceStateChanged(
        state=state,  # type: ignore[arg-type]
        previous=workspace.state,  # type: ignore[arg-type]
        reason=reason,
        cancellation_id=cancellation_id,
        changed_at=at,
    )
    facts = {"previous": workspace.state, "reason": reason, "cancellation_id": str(cancellation_id or "")}
    audit(session, f"workspace.{state}", f"workspace:{workspace.id}", **facts)
    workspace.state = state
    workspace.version += 1
    workspace.updated_at = datetime.now(UTC)
    publish(session, event, subject=workspace.id, sequence=workspace.version)


def _ask_back(session: Session, workspace: Workspace, cancellation: Cancellation, step: Step, as_of: datetime) -> str:
    if as_of - step.due_at(cancellation) > STALE:
        return "skipped_stale"
    owner = session.scalar(select(Member).where(Member.role == "owner"))
    if owner is None:
        return "skipped_no_owner"
    event = WinbackDue(
        step=step.name,  # type: ignore[arg-type]
        cancellation_id=cancellation.id,
        owner_id=owner.id,
        email=owner.email,
        name=owner.name,
        workspace_name=workspace.name,
        freezes_at=_FREEZE.due_at(cancellation),
    )
    publish(session, event, subject=cancellation.id)
    return "done"


def _remaining(session: Session, cancellation: Cancellation) -> list[Step]:
    decided = set(
        session.scalars(select(CancellationStep.step).where(CancellationStep.cancellation_id == cancellation.id))
    )
    return [step for step in STEPS if step.name not in decided]


def _suspended_at(session: Session, cancellation: Cancellation) -> datetime:
    return session.scalars(
        select(CancellationStep.done_at).where(
            CancellationStep.cancellation_id == cancellation.id, CancellationStep.step == "suspend"
        )
    ).one()


def _write(session: Session, cancellation: Cancellation, step: Step, outcome: str, at: datetime) -> None:
    session.add(
        CancellationStep(
            cancellation_id=cancellation.id,
            step=step.name,
            outcome=outcome,
            due_at=step.due_at(cancellation),
            done_at=at,
        )
    )
    session.flush()
