"""What a rule means, in plain words: made from the rule, not by whoever wrote it, so that people confirm what is
checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.notifications.watches.rule import (
    AgeFilter,
    DeliveryFilter,
    Filter,
    MineFilter,
    Rule,
    StateFilter,
    TextFilter,
)

__all__ = ["meaning_of", "title_of"]

_LONGEST_TITLE: Final = 200
_COMPARED: Final = {
    "more_than": "more than",
    "at_least": "at least",
    "equal_to": "exactly",
    "at_most": "at most",
    "less_than": "fewer than",
}
_PARCELS: Final = {
    "unknown": "not known to the carrier",
    "pre_transit": "not handed over yet",
    "transit": "on its way",
    "delivered": "delivered",
    "returned": "coming back",
    "failure": "not deliverable",
}
_TEXTS: Final = {
    ("recipient_company", "is"): "for the company “{}”",
    ("recipient_company", "contains"): "for a company with “{}” in its name",
    ("recipient_name", "is"): "for “{}”",
    ("recipient_name", "contains"): "for somebody with “{}” in the name",
    ("number", "is"): "with the number “{}”",
    ("number", "contains"): "with “{}” in the number",
}


def title_of(rule: Rule) -> str:
    """Return the rule in a line: "Orders in Processing for more than 3 days"."""
    if rule.aggregate == "count" and rule.comparator is not None:
        title = f"{_COMPARED[rule.comparator]} {rule.threshold} orders{_such(rule.filters)}"
    else:
        title = f"orders{_such(rule.filters)}"
    title = title[0].upper() + title[1:]
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"


def meaning_of(rule: Rule) -> str:
    """Return what the rule does in a sentence, whole however long."""
    such = _such(rule.filters)
    if rule.aggregate == "count" and rule.comparator is not None:
        return (
            f"You are told when there are {_COMPARED[rule.comparator]} {rule.threshold} orders{such}, and again only "
            "after that was not so."
        )
    return f"You are told of each order{such}, once for as long as it stays so."


def _such(filters: Sequence[Filter]) -> str:
    # "in Processing for more than 3 days" reads best with the state in front.
    ordered = sorted(filters, key=lambda one: _ORDER.index(one.field))
    # Of one state that it is in, "for more than 3 days" says how long.
    stays = any(isinstance(one, StateFilter) and one.operator == "is" for one in filters)
    said = "".join(_separated(_phrase(one, stays)) for one in ordered)
    return said.removeprefix(",")


_ORDER: Final = (
    "state",
    "days_in_state",
    "days_since_ordered",
    "delivery_status",
    "recipient_company",
    "recipient_name",
    "number",
    "created_by_me",
)


def _separated(phrase: str) -> str:
    return f" {phrase}" if phrase.startswith(("for more", "for less")) else f", {phrase}"


def _phrase(one: Filter, stays: bool) -> str:
    match one:
        case StateFilter():
            return f"{'in' if one.operator == 'is' else 'not in'} {_either(one.values)}"
        case DeliveryFilter():
            parcel = _either([_PARCELS[value] for value in one.values])
            return f"whose parcel is {parcel}" if one.operator == "is" else f"whose parcel is neither {parcel}"
        case AgeFilter(field="days_in_state"):
            how_long = f"for {'more' if one.operator == 'more_than' else 'less'} than {_days(one.days)}"
            return how_long if stays else f"in the same state {how_long}"
        case AgeFilter():
            return f"ordered {'more' if one.operator == 'more_than' else 'less'} than {_days(one.days)} ago"
        case TextFilter():
            return _TEXTS[one.field, one.operator].format(one.text)
        case MineFilter():
            return "entered by you" if one.value else "not entered by you"


def _either(words: Sequence[str]) -> str:
    unique = list(dict.fromkeys(words))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} or {unique[-1]}"


def _days(days: float) -> str:
    if 0 < days < 1 and (days * 24).is_integer():
        return f"{days * 24:g} hour{'' if days * 24 == 1 else 's'}"
    return f"{days:g} day{'' if days == 1 else 's'}"
