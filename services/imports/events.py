"""What imports does about the events of others: it keeps to the plans of workspaces."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql import insert

from services.imports.models import PlanLimits
from shared.db import unit_of_work
from shared.events.contracts.workspaces import PlanChanged
from shared.jobs import Event, handler

__all__ = ["note_plan"]


@handler(PlanChanged)
def note_plan(event: Event[PlanChanged]) -> None:
    """Keep what the plan allows; what is there already stays."""
    fields = {"limits": event.data.limits, "sequence": event.sequence or 0}
    statement = insert(PlanLimits).values(tenant_id=event.tenant_id, **fields)
    with unit_of_work() as session:
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["tenant_id"],
                set_=fields,
                where=PlanLimits.sequence < statement.excluded.sequence,
            )
        )
