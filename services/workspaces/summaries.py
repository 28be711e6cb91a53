"""The summary of a workspace: parts, each counted by the service that has the facts, each with its time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import BigInteger
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from services.workspaces.models import Base
from shared.db import unit_of_work
from shared.events.contracts.imports import ImportsSummaryCounted
from shared.events.contracts.shipping import ShippingSummaryCounted
from shared.jobs import Event, Skip

__all__ = ["PARTS", "STALE", "Part", "Summary", "keep"]

Part = Literal["members", "shipping", "imports"]
PARTS: Final[tuple[Part, ...]] = ("members", "shipping", "imports")

STALE: Final = timedelta(hours=3)
"""Every part is counted every hour: one that is older has been missed three times."""


class Summary(Base):
    """One part of a workspace's summary."""

    __tablename__ = "summaries"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    part: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]]
    counted_at: Mapped[datetime]
    sequence: Mapped[int] = mapped_column(BigInteger)


def keep(part: Part, event: Event[ShippingSummaryCounted] | Event[ImportsSummaryCounted]) -> None:
    """Keep the figures of an event. Raises Skip for those that are older than what is there."""
    statement = insert(Summary).values(
        tenant_id=event.tenant_id,
        part=part,
        data=event.data.model_dump(mode="json", exclude={"counted_at"}),
        counted_at=event.data.counted_at,
        sequence=event.sequence or 0,
    )
    changed = {name: statement.excluded[name] for name in ("data", "counted_at", "sequence")}
    with unit_of_work() as session:
        kept = session.execute(
            statement.on_conflict_do_update(
                index_elements=["tenant_id", "part"],
                set_=changed,
                where=Summary.sequence < statement.excluded.sequence,
            ).returning(Summary.part)
        )
        if kept.scalar() is None:
            raise Skip("not_newer")
