"""What there is to tell in the morning: the orders that are stuck, and what yesterday was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from services.notifications.models import Order

__all__ = ["MOST_LISTED", "Figures", "figures", "listed", "local_day", "stuck_orders", "zone_of"]

MOST_LISTED: Final = 100
"""Orders that a mail lists; nobody reads more."""

_FIGURES: Final = """
SELECT
    (SELECT count(*) FROM orders WHERE tenant_id = :tenant AND ordered_at >= :begin AND ordered_at < :end) AS orders,
    (SELECT count(*) FROM outcomes WHERE tenant_id = :tenant AND kind = 'label'
        AND succeeded_at >= :begin AND succeeded_at < :end) AS labels,
    (SELECT count(*) FROM alert_occurrences WHERE tenant_id = :tenant AND at >= :begin AND at < :end) AS failures,
    (SELECT count(*) FROM alerts WHERE tenant_id = :tenant AND state <> 'resolved') AS alerts
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """A day in numbers."""

    orders: int
    labels: int
    failures: int
    alerts: int
    """Those that are live now."""

    def __bool__(self) -> bool:
        return any((self.orders, self.labels, self.failures, self.alerts))

    def lines(self) -> list[str]:
        """Return the day in words, without what there was none of."""
        parts = (
            (self.orders, "new order", "new orders"),
            (self.labels, "label bought", "labels bought"),
            (self.failures, "failure", "failures"),
            (self.alerts, "alert that needs somebody", "alerts that need somebody"),
        )
        return [f"{number} {one if number == 1 else many}" for number, one, many in parts if number]


def figures(session: Session, tenant_id: str, zone: str, day: date) -> Figures:
    """Return what a day was in a workspace."""
    begin, end = (datetime.combine(each, time(), zone_of(zone)) for each in (day, day + timedelta(days=1)))
    row = session.execute(text(_FIGURES), {"tenant": tenant_id, "begin": begin, "end": end}).one()
    return Figures(**row._mapping)


def stuck_orders(session: Session, tenant_id: str, before: datetime) -> Sequence[Order]:
    """Return the orders that have been in New or Processing since before a moment, the longest first."""
    return session.scalars(
        select(Order)
        .where(Order.tenant_id == tenant_id, Order.state.in_(("New", "Processing")), Order.since < before)
        .order_by(Order.since)
    ).all()


def listed(orders: Sequence[Order], now: datetime) -> list[dict[str, Any]]:
    """Return orders as the mail lists them."""
    return [
        {
            "number": order.number,
            "to": order.recipient_company or order.recipient_name,
            "state": order.state,
            "days": (now - order.since).days,
        }
        for order in orders[:MOST_LISTED]
    ]


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name; UTC for what is none, since a morning at the wrong hour beats none."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return ZoneInfo("UTC")


def local_day(zone: str, moment: datetime) -> date:
    """Return the day that a moment is in a time zone."""
    return moment.astimezone(zone_of(zone)).date()
