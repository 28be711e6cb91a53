"""A member's own notices: list them, count the unread, follow them, mark them as read."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import flask
from pydantic import AwareDatetime, BaseModel, Field
from sqlalchemy import select

from services.notifications.api.base import api
from services.notifications.audience import member_id_of
from services.notifications.feed import NoticeView, NoticeWatch, UnreadView
from services.notifications.notices import is_unread, mark_read, read_until, unread
from services.notifications.tables import Receipt
from shared.db import unit_of_work
from shared.web import Forbidden, Identity, Page, PageQuery, paginate
from shared.web.streams import STREAM, last_event_id, stream

__all__: list[str] = []


class NoMember(Forbidden):
    """Notices are for members; a machine has none."""

    slug, title = "no-member", "Only members have notices"


class NoticeQuery(PageQuery):
    """Filters of the list."""

    unread: bool | None = Field(None, description="Only what is not read yet, or, if false, only what is.")


class Read(BaseModel):
    """What was read: these, and everything that was told until a moment."""

    ids: Annotated[list[UUID], Field(max_length=200)] = []
    until: AwareDatetime | None = Field(None, description="`told_at` of the newest notice that was seen.")


@api.get("/v1/notices", raises=(NoMember,))
def list_notices(query: NoticeQuery, identity: Identity) -> Page[NoticeView]:
    """List one's own notices, the newest first."""
    me = _me(identity)
    with unit_of_work() as session:
        statement = select(Receipt).where(Receipt.tenant_id == identity.tenant_id, Receipt.member_id == me)
        waiting = select(Receipt.notice_id).where(*is_unread(me))
        if query.unread is not None:
            chosen = Receipt.notice_id.in_(waiting)
            statement = statement.where(chosen if query.unread else ~chosen)
        until = session.scalar(read_until(me))

        def view(receipt: Receipt) -> NoticeView:
            notice = receipt.notice
            return NoticeView(
                id=notice.id,
                kind=notice.kind,
                title=notice.title,
                text=notice.text,
                link=notice.link,
                count=notice.count,
                told_at=receipt.told_at,
                read=receipt.read_at is not None or (until is not None and receipt.told_at <= until),
            )

        return paginate(session, statement, (Receipt.told_at, Receipt.notice_id), query, view=view)


@api.get("/v1/notices/unread", raises=(NoMember,))
def count_unread(identity: Identity) -> UnreadView:
    """Count one's own notices that are not read yet."""
    with unit_of_work() as session:
        return UnreadView(count=unread(session, _me(identity)))


@api.post("/v1/notices/read", raises=(NoMember,), examples={"body": {"until": "2026-03-01T12:00:00Z"}})
def read_notices(body: Read, identity: Identity) -> UnreadView:
    """Mark one's own notices as read; answers how many are not yet. Ids of others do nothing."""
    me = _me(identity)
    with unit_of_work() as session:
        mark_read(session, me, body.ids, body.until)
        return UnreadView(count=unread(session, me))


@api.get("/v1/notices/stream", raises=(NoMember,), **STREAM)
def follow_notices(identity: Identity) -> flask.Response:
    """Follow one's own notices as Server-Sent Events: `notice` for each new one, `unread` when their number changes.

    Begins with the number. Resuming by `Last-Event-ID` tells what came meanwhile; what came within the last seconds
    before may come again, under the same id.
    """
    watch = NoticeWatch(identity.tenant_id, _me(identity), last_event_id())

    def begin() -> None:
        with unit_of_work() as session:
            watch.look(session)

    return stream(watch, identity, begin)


def _me(identity: Identity) -> UUID:
    member_id = member_id_of(identity.principal)
    if member_id is None:
        raise NoMember("Notices are for members; sign in as one.")
    return member_id
