"""The workspace at a glance: what each role's dashboard shows, each part with its time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import select

from services.workspaces.api.base import api
from services.workspaces.models import Workspace
from services.workspaces.plans import plan_of
from services.workspaces.summaries import STALE, Part, Summary
from shared.db import unit_of_work
from shared.events.contracts.imports import LastImport
from shared.events.contracts.shipping import CreatorOrders, Spend
from shared.web import Identity, NotFound

__all__: list[str] = []


class PartView(BaseModel):
    """A part of the summary. Figures that are not for the role of the caller are null."""

    counted_at: datetime | None = Field(None, description="Null where it was never counted.")
    stale: bool = Field(False, description="Whether it is older than three hours.")
    missing: bool = Field(True, description="Whether it was never counted; there are no figures then.")


class MembersView(PartView):
    """Who is in the workspace; for owner and manager."""

    by_role: dict[str, int] | None = None
    limit: int | None = Field(None, description="The most members that the plan allows.")


class ShippingView(PartView):
    """Orders and labels."""

    orders_by_state: dict[str, int] | None = None
    stuck_orders: int | None = None
    orders_30_days: int | None = None
    orders_previous_30_days: int | None = Field(None, description="In the thirty days before those.")
    labels_30_days: int | None = None
    spend_30_days: dict[str, Spend] | None = Field(None, description="By currency; for owner and manager.")
    by_creator: dict[str, CreatorOrders] | None = Field(None, description="By principal; for owner and manager.")
    own: CreatorOrders | None = Field(None, description="The caller's own orders.")
    last_activity_at: datetime | None = None
    shippo: Literal["not_connected", "checking", "connected", "needs_reauthorization"] | None = None


class ImportsView(PartView):
    """The catalog, and what was imported."""

    samples: int | None = None
    imports_by_state: dict[str, int] | None = Field(None, description="For owner and manager.")
    last_import: LastImport | None = Field(None, description="For owner and manager.")


class SummaryView(BaseModel):
    """The workspace at a glance, as far as it is for the role of the caller."""

    role: Literal["owner", "manager", "sales", "fulfillment"]
    plan: str
    members: MembersView | None
    shipping: ShippingView
    imports: ImportsView


_OPERATIONAL = {
    "orders_by_state",
    "stuck_orders",
    "orders_30_days",
    "orders_previous_30_days",
    "labels_30_days",
    "last_activity_at",
    "shippo",
    "samples",
}
_SHOWN: dict[str, set[str]] = {
    "owner": _OPERATIONAL | {"spend_30_days", "by_creator", "own", "imports_by_state", "last_import"},
    "manager": _OPERATIONAL | {"spend_30_days", "by_creator", "own", "imports_by_state", "last_import"},
    "sales": {"own", "samples"},
    "fulfillment": _OPERATIONAL,
}


@api.get("/v1/summary", raises=(NotFound,))
def read_summary(identity: Identity) -> SummaryView:
    """Read the summary of the workspace: for sales its own orders, for fulfillment what is to be done, else all."""
    with unit_of_work() as session:
        workspace = session.scalar(select(Workspace))
        if workspace is None:
            raise NotFound("There is no such workspace.")
        parts: dict[str, Summary] = {row.part: row for row in session.scalars(select(Summary))}
        shown = _SHOWN[identity.role]
        members = MembersView(**_of(parts, "members", {"by_role"}), limit=plan_of(workspace.plan).members)
        return SummaryView(
            role=identity.role,  # type: ignore[arg-type]
            plan=workspace.plan,
            members=members if "by_creator" in shown else None,
            shipping=ShippingView(**_shipping(parts, shown, identity.principal)),
            imports=ImportsView(**_of(parts, "imports", shown)),
        )


def _of(parts: dict[str, Summary], part: Part, shown: set[str]) -> dict[str, Any]:
    row = parts.get(part)
    if row is None:
        return {}
    figures = {name: value for name, value in row.data.items() if name in shown}
    return {
        "counted_at": row.counted_at,
        "stale": datetime.now(UTC) - row.counted_at > STALE,
        "missing": False,
        **figures,
    }


def _shipping(parts: dict[str, Summary], shown: set[str], principal: str) -> dict[str, Any]:
    fields = _of(parts, "shipping", shown)
    if not fields:
        return fields
    data = parts["shipping"].data
    if "labels_30_days" in shown:
        fields["labels_30_days"] = sum(spend["labels"] for spend in data["spend_30_days"].values())
    if "own" in shown:
        fields["own"] = data["by_creator"].get(principal) or CreatorOrders(open=0, last_30_days=0)
    return fields
