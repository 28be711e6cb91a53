"""Notices: what members are told in the console. A notice is one row, and one more for each who is told it.

tell(session, "watch", [member_id], "3 orders match", "…", link="/watches/…", dedupe_key=f"watch:{run_id}")
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from services.notifications.models import Member
from services.notifications.tables import Mark, Notice, Receipt
from shared.context import current
from shared.db import new_id
from shared.db.signals import changed_after_commit

__all__ = ["MOST_COUNTED", "TOPIC", "is_unread", "mark_read", "read_until", "tell", "unread"]

TOPIC: Final = "notices"
"""The topic of hints that a member's notices changed; their ids are those of members."""

MOST_COUNTED: Final = 1000
"""Nobody reads the figure beyond; and counting stops there."""

_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


def tell(
    session: Session,
    kind: str,
    members: Collection[uuid.UUID] | ColumnElement[bool],
    title: str,
    text: str,
    *,
    link: str | None = None,
    dedupe_key: str,
    count: int = 1,
    more: bool = False,
) -> list[uuid.UUID]:
    """Tell members of the current tenant something, once; return the ids of those who are told now.

    `members` are their ids, or a condition on `Member`, such as `audience.told` makes; of these only active
    members are told. `title` is one line and `text` a sentence or two, plain and for people. `link` is a path of
    the console (`/orders/<id>`). What was told under this `dedupe_key` is not told again, and nobody is returned;
    where there is `more` to it, its `count` (of how many things it tells) is added to the notice that is there.

    It is part of the session's transaction; open streams tell of it once that has committed. Two statements,
    however many are told.
    """
    tenant_id = _tenant()
    notice_id = new_id()
    notice = upsert(Notice).values(
        tenant_id=tenant_id,
        id=notice_id,
        kind=kind,
        title=title,
        text=text,
        link=link,
        dedupe_key=dedupe_key,
        count=count,
    )
    known = ["tenant_id", "dedupe_key"]
    if more:
        added = {"count": Notice.count + notice.excluded.count}
        notice = notice.on_conflict_do_update(index_elements=known, set_=added)
    else:
        notice = notice.on_conflict_do_nothing(index_elements=known)
    if session.scalar(notice.returning(Notice.id)) != notice_id:
        return []
    who = members if isinstance(members, ColumnElement) else Member.id.in_(members)
    told = list(
        session.scalars(
            insert(Receipt)
            .from_select(
                ["tenant_id", "member_id", "notice_id"],
                select(Member.tenant_id, Member.id, literal(notice_id)).where(
                    Member.tenant_id == tenant_id, Member.status == "active", who
                ),
            )
            .returning(Receipt.member_id)
        )
    )
    changed_after_commit(TOPIC, dict.fromkeys(told, tenant_id))
    return told


def unread(session: Session, member_id: uuid.UUID) -> int:
    """Return how many notices a member has not read, counted up to `MOST_COUNTED`; looks at no others."""
    waiting = select(Receipt.notice_id).where(*is_unread(member_id)).limit(MOST_COUNTED)
    return session.scalar(select(func.count()).select_from(waiting.subquery())) or 0


def is_unread(member_id: uuid.UUID) -> tuple[ColumnElement[bool], ...]:
    """Conditions of the receipts that a member has not read."""
    return (
        Receipt.tenant_id == _tenant(),
        Receipt.member_id == member_id,
        Receipt.read_at.is_(None),
        Receipt.told_at > func.coalesce(read_until(member_id).scalar_subquery(), _EVER),
    )


def read_until(member_id: uuid.UUID) -> Select[Any]:
    """Select the moment until which a member has read everything; no row where it never said so."""
    return select(Mark.read_until).where(Mark.tenant_id == _tenant(), Mark.member_id == member_id)


def mark_read(
    session: Session, member_id: uuid.UUID, ids: Sequence[uuid.UUID] = (), until: datetime | None = None
) -> None:
    """Mark as read those of a member's notices that have these ids, and all that were told until a moment.

    Everything until a moment is one row, however much it is. A moment that is yet to come is now.
    """
    tenant_id = _tenant()
    if ids:
        session.execute(
            update(Receipt)
            .where(*is_unread(member_id), Receipt.notice_id.in_(ids))
            .values(read_at=func.clock_timestamp())
            .execution_options(synchronize_session=False)
        )
    if until is not None:
        mark = upsert(Mark).values(
            tenant_id=tenant_id, member_id=member_id, read_until=func.least(until, func.clock_timestamp())
        )
        session.execute(
            mark.on_conflict_do_update(
                index_elements=["tenant_id", "member_id"],
                set_={"read_until": func.greatest(Mark.read_until, mark.excluded.read_until)},
            )
        )
    changed_after_commit(TOPIC, {member_id: tenant_id})


def _tenant() -> str:
    tenant = current().tenant_id
    if tenant is None:
        raise RuntimeError("a notice belongs to a tenant; enter one with use(tenant_id=…)")
    return tenant
