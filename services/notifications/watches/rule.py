"""What a rule may say: a closed set of fields and comparisons, so that nothing else can be asked of the database.

Whoever writes one, it is read strictly: a field that is not here makes the whole no rule.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = [
    "AgeFilter",
    "DeliveryFilter",
    "DeliveryStatus",
    "Filter",
    "MineFilter",
    "Rule",
    "State",
    "StateFilter",
    "TextFilter",
    "schema",
]

State = Literal["New", "Processing", "Shipped", "Delivered", "Cancelled"]
DeliveryStatus = Literal["unknown", "pre_transit", "transit", "delivered", "returned", "failure"]
Comparator = Literal["more_than", "at_least", "equal_to", "at_most", "less_than"]

MOST_FILTERS: Final = 8
Days = Annotated[float, Field(ge=0, le=3650, allow_inf_nan=False)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StateFilter(_Part):
    """Where an order is."""

    field: Literal["state"]
    operator: Literal["is", "is_not"]
    values: Annotated[list[State], Field(min_length=1, max_length=5)]


class DeliveryFilter(_Part):
    """What the carrier last said about its parcel."""

    field: Literal["delivery_status"]
    operator: Literal["is", "is_not"]
    values: Annotated[list[DeliveryStatus], Field(min_length=1, max_length=6)]


class AgeFilter(_Part):
    """How many days ago it came into its state, or was ordered."""

    field: Literal["days_in_state", "days_since_ordered"]
    operator: Literal["more_than", "less_than"]
    days: Days


class TextFilter(_Part):
    """To whom it goes, or its number; capital letters make no difference."""

    field: Literal["recipient_company", "recipient_name", "number"]
    operator: Literal["is", "contains"]
    text: Text


class MineFilter(_Part):
    """Whether the member who watches has entered it."""

    field: Literal["created_by_me"]
    operator: Literal["is"]
    value: bool


Filter = StateFilter | DeliveryFilter | AgeFilter | TextFilter | MineFilter


class Rule(_Part):
    """Orders that fit all filters: each of them is told (`none`), or that there are so many of them (`count`)."""

    entity: Literal["order"]
    filters: Annotated[list[Filter], Field(max_length=MOST_FILTERS)]
    aggregate: Literal["none", "count"]
    comparator: Comparator | None
    threshold: Annotated[int, Field(ge=0, le=1_000_000)] | None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.aggregate == "count" and (self.comparator is None or self.threshold is None):
            raise ValueError("a count needs a comparator and a threshold")
        if self.aggregate == "none" and (self.comparator is not None or self.threshold is not None):
            raise ValueError("without an aggregate there is no comparator and no threshold")
        if self.aggregate == "none" and not self.filters:
            raise ValueError("a rule without a filter would tell every order")
        return self


_UNDERSTOOD: Final = (
    "type",
    "enum",
    "const",
    "anyOf",
    "items",
    "properties",
    "required",
    "additionalProperties",
    "$ref",
)
"""Keywords that every endpoint with structured outputs takes; limits are checked here anyhow."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a rule, in the part of the language that models are held to."""
    full = Rule.model_json_schema()
    return {**_plain(full), "$defs": {name: _plain(part) for name, part in full["$defs"].items()}}


def _plain(part: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in part.items():
        if name == "properties":
            plain[name] = {field: _plain(inner) for field, inner in value.items()}
        elif name == "anyOf":
            plain[name] = [_plain(inner) for inner in value]
        elif name == "items":
            plain[name] = _plain(value)
        elif name == "const":
            plain["enum"] = [value]
        elif name in _UNDERSTOOD:
            plain[name] = value
    return plain
