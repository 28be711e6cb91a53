"""The workspace's subscription, and what follows from its end: the one place to look. For the owner alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import select

from services.workspaces.api.base import api
from services.workspaces.lifecycle.models import Cancellation, CancellationStep, Subscription
from services.workspaces.lifecycle.paddle_objects import Status
from services.workspaces.lifecycle.timeline import explain, timeline
from services.workspaces.models import Workspace
from shared.db import unit_of_work
from shared.web import NotFound

__all__: list[str] = []


class StepView(BaseModel):
    """One step of a cancellation."""

    step: Literal["winback_1", "winback_2", "freeze", "suspend", "archive"]
    due_at: datetime = Field(description="The earliest moment for it.")
    outcome: Literal["upcoming", "done", "skipped_stale", "skipped_no_owner", "cancelled"]
    done_at: datetime | None = Field(description="When it was done, skipped or cancelled.")
    text: str


class CancellationView(BaseModel):
    """What follows, or followed, from the end of the subscription."""

    id: UUID
    canceled_at: datetime = Field(description="When the subscription ended; days count from here.")
    reactivated_at: datetime | None
    ended_at: datetime | None = Field(description="When it was over: archived or reactivated.")
    steps: list[StepView] = Field(description="All of them, in order.")
    next: StepView | None = Field(description="What comes next; null when nothing does.")


class SubscriptionView(BaseModel):
    """How the workspace stands with its subscription."""

    state: Literal["active", "canceled", "frozen", "suspended", "archived"]
    plan: str
    status: Status | None = Field(description="Of the subscription at Paddle; null where there never was one.")
    ends_at: datetime | None = Field(description="Until when it is paid for, where it was cancelled for then.")
    cancellation: CancellationView | None = Field(description="The latest; null where there never was one.")
    text: str = Field(description="How things stand and what comes next, in words.")


@api.get("/v1/subscription", role="owner", raises=(NotFound,))
def read_subscription() -> SubscriptionView:
    """Read how the workspace stands with its subscription, and what comes next."""
    with unit_of_work() as session:
        workspace = session.scalar(select(Workspace))
        if workspace is None:
            raise NotFound("There is no such workspace.")
        rows = session.scalars(select(Subscription).order_by(Subscription.id)).all()
        # The one that the workspace lives on; where all have ended, the last.
        lives_on = next((row for row in rows if row.status != "canceled"), rows[-1] if rows else None)
        latest = session.scalar(select(Cancellation).order_by(Cancellation.id.desc()).limit(1))
        cancellation = None
        if latest is not None:
            taken = session.scalars(select(CancellationStep).where(CancellationStep.cancellation_id == latest.id)).all()
            cancellation = _view(latest, taken)
        ends_at = lives_on.ends_at if lives_on is not None and lives_on.status != "canceled" else None
        return SubscriptionView(
            state=workspace.state,
            plan=workspace.plan,
            status=lives_on.status if lives_on is not None else None,  # type: ignore[arg-type]
            ends_at=ends_at,
            cancellation=cancellation,
            text=explain(workspace.state, ends_at, timeline(latest, taken) if latest is not None else []),
        )


def _view(cancellation: Cancellation, taken: Sequence[CancellationStep]) -> CancellationView:
    steps = [StepView.model_validate(entry, from_attributes=True) for entry in timeline(cancellation, taken)]
    return CancellationView(
        id=cancellation.id,
        canceled_at=cancellation.canceled_at,
        reactivated_at=cancellation.reactivated_at,
        ended_at=cancellation.ended_at,
        steps=steps,
        next=next((step for step in steps if step.outcome == "upcoming"), None),
    )
