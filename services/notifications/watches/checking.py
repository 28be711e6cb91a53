"""Checking one watch: what is new among what matches, once, in the transaction in which it is told.

A watch tells edges. What it has told is remembered for as long as it matches; what no longer matches is forgotten, so
that a relapse is told again. Of a rule about a number it is told that it has come to hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Executable, Select, delete, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.notifications.models import Member, Order
from services.notifications.notices import tell
from services.notifications.watches.models import Watch, WatchMatch
from services.notifications.watches.query import conditions, reaches
from services.notifications.watches.rule import Rule
from shared.events import publish
from shared.events.contracts.notifications import WatchTriggered

__all__ = ["LISTED", "check", "next_slot", "this_slot"]

LISTED: Final = 20
"""So many orders one notice names; of more it says how many."""
_TICK: Final = timedelta(minutes=15)
_PATIENCE: Final = "20s"


def this_slot(now: datetime) -> datetime:
    """Return the tick of the schedule that was last, so that slots lie on ticks."""
    return now.replace(minute=now.minute - now.minute % 15, second=0, microsecond=0)


def next_slot(slot: datetime, frequency: int, now: datetime) -> datetime:
    """Return the first slot after now; those between are missed, and not made good."""
    period = timedelta(minutes=frequency)
    return slot + period * max((now - slot) // period + 1, 1)


def check(session: Session, watch: Watch, member: Member, now: datetime) -> int:
    """Check a locked watch with what its member may see now; tell what is new, and return how much that is."""
    rule = Rule.model_validate(watch.rule)
    session.execute(text(f"SET LOCAL statement_timeout = '{_PATIENCE}'"))
    matching = select(Order.id).where(Order.tenant_id == watch.tenant_id, *_visible(member))
    matching = matching.where(*conditions(rule, f"user:{member.id}", now))
    if rule.aggregate == "count":
        count = session.scalar(select(func.count()).select_from(matching.subquery())) or 0
        held, watch.holds = watch.holds, reaches(rule, count)
        if watch.holds and not held:
            _tell(session, watch, f"There are {count} of them now.", 1, now)
            return 1
        return 0
    found = session.execute(_edges(watch, matching, now)).all()
    if found:
        _tell(session, watch, _listed(found), found[0].total, now)
        return int(found[0].total)
    return 0


def _visible(member: Member) -> list[Any]:
    """What the member may see: `sales` its own orders, the others all."""
    return [Order.created_by == f"user:{member.id}"] if member.role == "sales" else []


def _edges(watch: Watch, matching: Select[Any], now: datetime) -> Executable:
    """One statement: forget what no longer matches, remember what is new, and return the first of that."""
    fitting = matching.cte("fitting")
    mine = (WatchMatch.tenant_id == watch.tenant_id, WatchMatch.watch_id == watch.id)
    known = select(WatchMatch.item_id).where(*mine)
    # Differences of sets: they cost the same whatever is believed of tables that grow by thousands at once.
    gone, added = known.except_(select(fitting.c.id)), select(fitting.c.id).except_(known).subquery()
    forgotten = (
        delete(WatchMatch).where(*mine, WatchMatch.item_id.in_(gone)).returning(WatchMatch.item_id).cte("forgotten")
    )
    new = (
        insert(WatchMatch)
        .from_select(
            ["tenant_id", "watch_id", "item_id", "told_at"],
            select(literal(watch.tenant_id), literal(watch.id), added.c.id, literal(now)),
        )
        .on_conflict_do_nothing()
        .returning(WatchMatch.item_id)
        .cte("new")
    )
    return (
        select(
            Order.number, Order.recipient_company, Order.recipient_name, Order.state, func.count().over().label("total")
        )
        .add_cte(forgotten)
        .join(new, new.c.item_id == Order.id)
        .order_by(Order.since, Order.id)
        .limit(LISTED)
    )


def _listed(found: Sequence[Any]) -> str:
    names = [f"{row.number} ({row.recipient_company or row.recipient_name or row.state})" for row in found]
    more = found[0].total - len(found)
    return f"{'Order' if found[0].total == 1 else 'Orders'} {', '.join(names)}{f' and {more} more' if more else ''}."


def _tell(session: Session, watch: Watch, what: str, matched: int, now: datetime) -> None:
    tell(
        session,
        "watch",
        [watch.member_id],
        watch.title,
        what,
        link=f"/watches/{watch.id}",
        dedupe_key=f"watch:{watch.id}:{now.isoformat()}",
        count=matched,
    )
    event = WatchTriggered(
        watch_id=watch.id, member_id=watch.member_id, title=watch.title, matched=matched, checked_at=now
    )
    publish(session, event, subject=watch.id)
