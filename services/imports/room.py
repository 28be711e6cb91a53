"""How many more records a workspace may have: what its plan says, and never more than the settings allow."""

from __future__ import annotations

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from services.imports.models import PlanLimits
from services.imports.settings import settings
from services.imports.tables import TABLES

__all__ = ["room_left"]


def room_left(session: Session, kind: str = "samples") -> int:
    """Return how many more records of a kind the current tenant may have; plans limit samples only."""
    most = settings().max_records
    if kind == "samples" and (plan := session.scalar(select(PlanLimits))) is not None:
        most = min(most, int(plan.limits.get(kind, most)))
    there = session.scalar(select(func.count()).select_from(text(TABLES[kind].name))) or 0
    return max(0, most - there)
