"""A member's notices as they come, for a stream: the new ones, and how many are unread.

Notices are found by when they were told. Who tells later may commit earlier, so each look goes back a few seconds, and
what was told already is left out. After a reconnect what came in those seconds may come again, under the same id.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg.rows import namedtuple_row
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from services.notifications.notices import MOST_COUNTED, TOPIC
from shared.web.sse import Message, Watch, event_id

__all__ = ["NoticeView", "NoticeWatch", "UnreadView"]

_BACK: Final = timedelta(seconds=5)

_MOST: Final = 200
"""Notices per look; the rest follows with the next."""

_NEWS: Final = """
SELECT reader.member_id, told.* FROM unnest(%s::uuid[], %s::timestamptz[]) AS reader(member_id, since),
LATERAL (
    SELECT n.id, n.kind, n.title, n.text, n.link, n.count, r.told_at, r.read_at IS NOT NULL AS read
    FROM notice_receipts AS r JOIN notices AS n ON n.tenant_id = r.tenant_id AND n.id = r.notice_id
    WHERE r.tenant_id = %s AND r.member_id = reader.member_id AND r.told_at > reader.since
    ORDER BY r.told_at LIMIT %s
) AS told
"""

_UNREAD: Final = """
SELECT reader.member_id, (
    SELECT count(*) FROM (
        SELECT FROM notice_receipts AS r
        WHERE r.tenant_id = %s AND r.member_id = reader.member_id AND r.read_at IS NULL AND r.told_at > coalesce(
            (SELECT read_until FROM notice_marks AS m WHERE m.tenant_id = %s AND m.member_id = reader.member_id),
            '-infinity'
        )
        LIMIT %s
    ) AS waiting
) AS count
FROM unnest(%s::uuid[]) AS reader(member_id)
"""


class NoticeView(BaseModel):
    """Something that a member was told."""

    model_config = ConfigDict(title="Notice", from_attributes=True)

    id: uuid.UUID
    kind: str = Field(description="What it is about, for programs.", examples=["order_moved"])
    title: str
    text: str
    link: str | None = Field(description="Where a click leads: a path of the console.", examples=["/alerts/0199a1b2…"])
    count: int = Field(description="Of how many things it tells, such as samples of one import.")
    told_at: datetime
    read: bool


class _Notices:
    """The topic: reads what members were told."""

    name = TOPIC

    def read(
        self,
        connection: psycopg.Connection[Any],
        tenant_id: str,
        watches: Sequence[NoticeWatch],
        ids: set[uuid.UUID] | None,
    ) -> Callable[[], None]:
        readers = [watch for watch in watches if ids is None or watch.member_id in ids]
        news, unread = (connection.cursor(row_factory=namedtuple_row) for _ in range(2))
        news.execute(_NEWS, _news_of(tenant_id, readers))
        unread.execute(_UNREAD, _unread_of(tenant_id, readers))

        def offer() -> None:
            told, counts = news.fetchall(), unread.fetchall()
            for watch in readers:
                watch.offer(told, counts)

        return offer


class NoticeWatch(Watch):
    """Waits for notices of one member. `since` is the id of the last event that the client has, 0 for none."""

    topic = _Notices()

    def __init__(self, tenant_id: str, member_id: uuid.UUID, since: int) -> None:
        super().__init__(tenant_id)
        self.member_id = member_id
        self.since = (datetime.fromtimestamp(since / 1e6, UTC) if since else datetime.now(UTC)) - _BACK
        self._last = since or event_id(self.since)
        self._seen: dict[uuid.UUID, datetime] = {}
        self._count: int | None = None

    def wants(self, thing: uuid.UUID) -> bool:
        return thing == self.member_id

    def look(self, session: Session) -> None:
        """Find out what is to be told first."""
        connection = session.connection()
        told = connection.exec_driver_sql(_NEWS, _news_of(self.tenant_id, [self])).all()
        self.offer(told, connection.exec_driver_sql(_UNREAD, _unread_of(self.tenant_id, [self])).all())

    def offer(self, told: Sequence[Any], counts: Sequence[Any]) -> None:
        """Take rows of notices, and of how many are unread; those of others and those known already are dropped."""
        mine = [row for row in told if row.member_id == self.member_id]
        with self._changed:
            for row in mine:
                if row.id not in self._seen:
                    self._seen[row.id] = row.told_at
                    self._pending[row.id] = row
            if mine:
                # A full look goes on where it ended, lest it find the same again and again.
                back = timedelta() if len(mine) == _MOST else _BACK
                self.since = max(self.since, mine[-1].told_at - back)
                self._seen = {id: at for id, at in self._seen.items() if at > self.since}
            for row in counts:
                if row.member_id == self.member_id and row.count != self._count:
                    self._count = row.count
                    self._pending["unread"] = row.count
            if self._pending:
                self._changed.notify()

    def _news(self, pending: dict[Any, Any]) -> list[Any]:
        """Rows of notices in order of time, then the number of those that are unread."""
        count = pending.pop("unread", None)
        news = sorted(pending.values(), key=lambda row: row.told_at)
        return news if count is None else [*news, count]

    def message(self, news: Any) -> Message:
        if isinstance(news, int):
            return Message("unread", self._last, UnreadView(count=news).model_dump_json())
        self._last = max(self._last, event_id(news.told_at))
        return Message("notice", self._last, NoticeView.model_validate(news).model_dump_json())


class UnreadView(BaseModel):
    """How many notices a member has not read."""

    model_config = ConfigDict(title="Unread")

    count: int = Field(ge=0, le=MOST_COUNTED, description=f"Counted up to {MOST_COUNTED}.")


def _news_of(tenant_id: str, readers: Sequence[NoticeWatch]) -> tuple[Any, ...]:
    return [watch.member_id for watch in readers], [watch.since for watch in readers], tenant_id, _MOST


def _unread_of(tenant_id: str, readers: Sequence[NoticeWatch]) -> tuple[Any, ...]:
    return tenant_id, tenant_id, MOST_COUNTED, list({watch.member_id for watch in readers})
