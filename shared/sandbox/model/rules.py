"""From a sentence about orders to a rule, by looking for what such sentences have in them."""

import re
from typing import Any

STATES = {
    "new": "New",
    "processing": "Processing",
    "shipped": "Shipped",
    "cancelled": "Cancelled",
    "canceled": "Cancelled",
}
_UNITS = {"hour": 1 / 24, "day": 1.0, "week": 7.0}
_COMPARED = {
    "more than": "more_than",
    "over": "more_than",
    "at least": "at_least",
    "exactly": "equal_to",
    "at most": "at_most",
    "less than": "less_than",
    "fewer than": "less_than",
}
_COUNT = re.compile(rf"({'|'.join(_COMPARED)}) (\d+) (?:\w+ )?orders")
_AGE = re.compile(r"(more than|over|longer than|less than|under) (\d+(?:\.\d+)?) (hour|day|week)s?")
_OVERDUE = re.compile(r"overdue(?:\D{0,30}?(\d+(?:\.\d+)?) (hour|day|week)s?)?")
_COMPANY = re.compile(
    r"(?:for|of|from|by) (?:the )?(?:company|customer) [\"“']?([\w .&-]+?)[\"”']?(?: (?:is|are|in)\b|[.,]|$)"
)
_RECIPIENT = re.compile(r"addressed to [\"“']?([\w .-]+?)[\"”']?(?: (?:is|are)\b|[.,]|$)")


def rule_of(text: str) -> dict[str, Any] | None:
    """The rule of a sentence; None for one that is not about orders, or says nothing that a rule can say."""
    lower = " ".join(text.lower().split())
    if "order" not in lower and "parcel" not in lower:
        return None
    count = _COUNT.search(lower)
    filters = _filters(text, lower, count is not None)
    if not filters and count is None:
        return None
    return {
        "entity": "order",
        "filters": filters,
        "aggregate": "count" if count else "none",
        "comparator": _COMPARED[count[1]] if count else None,
        "threshold": int(count[2]) if count else None,
    }


def _filters(text: str, lower: str, counts: bool) -> list[dict[str, Any]]:
    filters: list[dict[str, Any]] = []
    if overdue := _OVERDUE.search(lower):
        days = float(overdue[1]) * _UNITS[overdue[2]] if overdue[1] else 5.0
        return [_state(["New", "Processing"]), _age("days_since_ordered", "more_than", days)]
    states = [STATES[word] for word in re.findall(r"[a-z]+", lower) if word in STATES]
    if states:
        filters.append(_state(list(dict.fromkeys(states))))
    if "returned" in lower or "coming back" in lower:
        filters.append({"field": "delivery_status", "operator": "is", "values": ["returned"]})
    elif re.search(r"not be delivered|delivery fail", lower):
        filters.append({"field": "delivery_status", "operator": "is", "values": ["failure"]})
    elif "delivered" in lower:
        filters.append(_state(["Delivered"]))
    age = _AGE.search(lower)
    if age and not (counts and age.start() == _COUNT.search(lower).start()):  # type: ignore[union-attr]
        operator = "less_than" if age[1] in ("less than", "under") else "more_than"
        field = "days_since_ordered" if " ago" in lower[age.end() : age.end() + 5] else "days_in_state"
        filters.append(_age(field, operator, float(age[2]) * _UNITS[age[3]]))
    for field, pattern in (("recipient_company", _COMPANY), ("recipient_name", _RECIPIENT)):
        if found := pattern.search(text):
            filters.append({"field": field, "operator": "is", "text": found[1].strip()})
    if re.search(r"\bmy orders?\b|\bof mine\b|\borders? i\b", lower):
        filters.append({"field": "created_by_me", "operator": "is", "value": True})
    return filters


def _state(values: list[str]) -> dict[str, Any]:
    return {"field": "state", "operator": "is", "values": values}


def _age(field: str, operator: str, days: float) -> dict[str, Any]:
    return {"field": field, "operator": operator, "days": days}
