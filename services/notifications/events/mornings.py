"""When it is morning in a workspace."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql import insert

from services.notifications.mornings import local_day
from services.notifications.tables import Morning
from shared.db import unit_of_work
from shared.events.contracts.workspaces import WorkspaceCreated
from shared.jobs import Event, handler

__all__ = ["note_time_zone"]


@handler(WorkspaceCreated)
def note_time_zone(event: Event[WorkspaceCreated]) -> None:
    """Keep when it is morning in a workspace. Its first morning is that of the next day."""
    zone = event.data.time_zone
    morning = insert(Morning).values(tenant_id=event.tenant_id, time_zone=zone, told_on=local_day(zone, event.time))
    with unit_of_work() as session:
        session.execute(morning.on_conflict_do_update(index_elements=["tenant_id"], set_={"time_zone": zone}))
