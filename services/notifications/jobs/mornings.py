"""Reminders and the summary of yesterday, told in each workspace's morning: once a day, late rather than never.

Every hour those workspaces are found, in one statement, in which it has become morning and that were not told today;
each gets a job. A workspace that was missed all day is told the next morning, of the day before that one. Those that
are frozen, suspended or archived are not told, and begin anew when they are active again.

Fulfillment is reminded of orders that do not move: one notice and one mail, however many orders there are, each day
anew. Owner and manager get the summary, unless there was nothing. It is on by default, as nobody would look for it, and
one mail a day is soon turned off by who does not want it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from services.notifications import mail
from services.notifications.audience import told
from services.notifications.models import Member
from services.notifications.mornings import figures, listed, local_day, stuck_orders, zone_of
from services.notifications.notices import tell
from services.notifications.settings import settings
from services.notifications.tables import Morning
from shared.context import current
from shared.db import unit_of_work
from shared.jobs import Priority, Skip, actor, cron, current_job, enqueue_many

__all__ = ["begin_mornings", "tell_morning"]

_ZONES: Final = "SELECT DISTINCT time_zone FROM mornings"

_DUE: Final = """
UPDATE mornings SET told_on = due.day
FROM unnest(CAST(:zones AS text[]), CAST(:days AS date[])) AS due(zone, day)
WHERE mornings.tenant_id IN (
    SELECT m.tenant_id FROM mornings AS m
    JOIN unnest(CAST(:zones AS text[]), CAST(:days AS date[])) AS due(zone, day)
        ON m.time_zone = due.zone AND m.told_on < due.day
    LEFT JOIN standings AS s ON s.tenant_id = m.tenant_id
    WHERE s.state IS NULL OR s.state IN ('active', 'canceled')
    LIMIT 200 FOR UPDATE OF m SKIP LOCKED
) AND mornings.time_zone = due.zone
RETURNING mornings.tenant_id, due.day
"""


@actor(queue_name="default", unique=(), subject="See where it is morning", periodic=cron("2 * * * *"))
def begin_mornings() -> dict[str, int]:
    """Have the workspaces told in which it is morning."""
    begun = 0
    while True:
        with unit_of_work(system=True) as session:
            due = _due_zones(session, datetime.now(UTC))
            found = session.execute(text(_DUE), {"zones": list(due), "days": list(due.values())}).all()
            for tenant_id, day in found:
                enqueue_many(
                    tell_morning,
                    [{"day": day}],
                    tenant_id=tenant_id,
                    once_keys=[f"morning:{day}"],
                    priority=Priority.BULK,
                )
            begun += len(found)
        if not found:
            return {"workspaces": begun}
        current_job().breathe()


def _due_zones(session: Session, now: datetime) -> dict[str, date]:
    """Return today's date in each time zone in which it is morning or later."""
    return {
        zone: local_day(zone, now)
        for zone in session.scalars(text(_ZONES))
        if now.astimezone(zone_of(zone)).hour >= settings().morning_hour
    }


@actor(queue_name="default", transactional=True, unique="day", subject="What there is to tell in the morning of {day}")
def tell_morning(day: date) -> dict[str, int]:
    """Tell a workspace what there is in the morning of a day; twice is once."""
    tenant_id = current().tenant_id
    assert tenant_id is not None
    with unit_of_work() as session:
        morning = session.get(Morning, tenant_id)
        if morning is None:
            raise Skip("workspace_unknown")
        return {"stuck": _remind(session, tenant_id, day), "summary": _sum_up(session, tenant_id, morning, day)}


def _remind(session: Session, tenant_id: str, day: date) -> int:
    now = datetime.now(UTC)
    stuck = stuck_orders(session, tenant_id, now - timedelta(days=settings().stuck_days))
    if not stuck:
        return 0
    first = ", ".join(f"{order.number} ({order.state}, {(now - order.since).days} days)" for order in stuck[:5])
    title = "1 order does not move." if len(stuck) == 1 else f"{len(stuck)} orders do not move."
    _tell(
        session,
        "orders_stuck",
        title,
        first + (" and others." if len(stuck) > 5 else "."),
        link="/orders",
        key=f"stuck:{day}",
        count=len(stuck),
        template="stuck_orders",
        mails="alert",
        values=lambda: {"orders": listed(stuck, now)},
    )
    return len(stuck)


def _sum_up(session: Session, tenant_id: str, morning: Morning, day: date) -> int:
    yesterday = day - timedelta(days=1)
    was = figures(session, tenant_id, morning.time_zone, yesterday)
    if not was:
        return 0
    _tell(
        session,
        "summary",
        f"This was {yesterday.day} {yesterday:%B}.",
        ", ".join(was.lines()) + ".",
        link="/",
        key=f"summary:{day}",
        count=1,
        template="digest",
        mails="bulk",
        values=lambda: {
            "day": yesterday.isoformat(),
            "sections": [{"title": "In your workspace", "lines": was.lines()}],
        },
    )
    return 1


def _tell(
    session: Session,
    kind: str,
    title: str,
    says: str,
    *,
    link: str,
    key: str,
    count: int,
    template: str,
    mails: mail.Kind,
    values: Callable[[], Mapping[str, Any]],
) -> None:
    reached = tell(session, kind, told(kind), title, says, link=link, dedupe_key=key, count=count)
    members = session.scalars(
        select(Member).where(Member.tenant_id == current().tenant_id, Member.id.in_(reached))
    ).all()
    filled = values() if members else {}
    new = [mail.NewMail(member, filled, f"{key}:{member.id}") for member in members]
    mail.queue_many(session, template, new, kind=mails)
