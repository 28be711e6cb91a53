"""From a rule to a condition of SQL: columns by name from here, values as parameters, nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, func
from sqlalchemy.orm import InstrumentedAttribute

from services.notifications.models import Order
from services.notifications.watches.rule import (
    AgeFilter,
    DeliveryFilter,
    Filter,
    MineFilter,
    Rule,
    StateFilter,
    TextFilter,
)

__all__ = ["conditions", "reaches"]

_COLUMNS: Final[dict[str, InstrumentedAttribute[Any]]] = {
    "state": Order.state,
    "delivery_status": Order.delivery_status,
    "days_in_state": Order.since,
    "days_since_ordered": Order.ordered_at,
    "recipient_company": Order.recipient_company,
    "recipient_name": Order.recipient_name,
    "number": Order.number,
    "created_by_me": Order.created_by,
}


def conditions(rule: Rule, principal: str, now: datetime) -> list[ColumnElement[bool]]:
    """Return what an order must fulfil; `principal` is who watches."""
    return [_condition(one, principal, now) for one in rule.filters]


def reaches(rule: Rule, count: int) -> bool:
    """Tell whether a rule about a number holds of this one."""
    assert rule.threshold is not None, "a rule about a number has a threshold"
    match rule.comparator:
        case "more_than":
            return count > rule.threshold
        case "at_least":
            return count >= rule.threshold
        case "equal_to":
            return count == rule.threshold
        case "at_most":
            return count <= rule.threshold
        case _:
            return count < rule.threshold


def _condition(one: Filter, principal: str, now: datetime) -> ColumnElement[bool]:
    column = _COLUMNS[one.field]
    match one:
        case StateFilter() | DeliveryFilter():
            return column.in_(one.values) if one.operator == "is" else column.not_in(one.values)
        case AgeFilter():
            then = now - timedelta(days=one.days)
            return column < then if one.operator == "more_than" else column > then
        case TextFilter(operator="is"):
            return func.lower(column) == func.lower(one.text)
        case TextFilter():
            return column.icontains(one.text, autoescape=True)
        case MineFilter():
            return column == principal if one.value else column != principal
