"""What workspaces tells: who is who."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql import insert

from services.notifications.models import Member
from shared.db import unit_of_work
from shared.events.contracts.workspaces import MemberChanged
from shared.jobs import Event, handler

__all__ = ["note_member"]


@handler(MemberChanged)
def note_member(event: Event[MemberChanged]) -> None:
    """Keep what a member is now."""
    fields = {**event.data.model_dump(exclude={"member_id"}), "sequence": event.sequence or 0}
    statement = insert(Member).values(tenant_id=event.tenant_id, id=event.data.member_id, **fields)
    with unit_of_work() as session:
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["tenant_id", "id"],
                set_={name: statement.excluded[name] for name in fields},
                where=Member.sequence < statement.excluded.sequence,
            )
        )
