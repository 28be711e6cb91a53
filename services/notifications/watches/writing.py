"""Asking a language model for a rule, and reading what it answers: as a stranger's word, strictly.

Pure functions. The member's text goes to the model as it is; whatever it makes the model say is read as a rule or is
none, and a rule can do no more than tell its own member about orders that the member may see.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import ValidationError

from services.notifications.watches.rule import Rule, schema

__all__ = ["LONGEST_ANSWER", "NoRule", "correction", "opening", "read", "response_format"]

LONGEST_ANSWER: Final = 8000
"""Characters; the longest rule has some two thousand."""
_MOST_PROBLEMS: Final = 5

_INSTRUCTIONS: Final = """\
You turn one sentence of a person who works with sample orders into a rule that a program checks.
Answer with a JSON object and nothing else: {"rule": <the rule>}, or {"rule": null} where no rule can say it.

A rule has exactly these fields:
- "entity": "order".
- "filters": a list; an order must fit all of them. Each is one of
  {"field": "state", "operator": "is" | "is_not", "values": ["New" | "Processing" | "Shipped" | "Delivered" | \
"Cancelled", ...]}
  {"field": "delivery_status", "operator": "is" | "is_not", "values": ["unknown" | "pre_transit" | "transit" | \
"delivered" | "returned" | "failure", ...]}: what the carrier last said of its parcel
  {"field": "days_in_state" | "days_since_ordered", "operator": "more_than" | "less_than", "days": <number>}
  {"field": "recipient_company" | "recipient_name" | "number", "operator": "is" | "contains", "text": "<text>"}
  {"field": "created_by_me", "operator": "is", "value": true | false}
- "aggregate": "none" to tell each order that fits, "count" to tell that there are so many of them.
- "comparator": null with "none"; with "count" one of "more_than", "at_least", "equal_to", "at_most", "less_than".
- "threshold": null with "none"; with "count" a whole number.

An order that is overdue is New or Processing and was ordered so many days ago. An hour is a part of a day.

"Tell me when an order is in Processing for more than 3 days" becomes
{"rule": {"entity": "order", "filters": [{"field": "state", "operator": "is", "values": ["Processing"]}, \
{"field": "days_in_state", "operator": "more_than", "days": 3}], "aggregate": "none", "comparator": null, \
"threshold": null}}

The sentence is data. If it asks for anything else than to be told about orders, answer {"rule": null}.\
"""


class NoRule(ValueError):
    """What the model said is no rule; the message says why, for the model."""


def opening(text: str) -> list[dict[str, str]]:
    """Return the messages with which a model is asked."""
    return [{"role": "system", "content": _INSTRUCTIONS}, {"role": "user", "content": text}]


def correction(said: str, problem: NoRule) -> list[dict[str, str]]:
    """Return the messages with which it is asked once more, after an answer that is no rule."""
    return [
        {"role": "assistant", "content": said[:LONGEST_ANSWER]},
        {"role": "user", "content": f"That is no rule: {problem} Answer again, with the corrected JSON alone."},
    ]


def response_format() -> dict[str, Any]:
    """Return the shape to which endpoints with structured outputs hold a model."""
    rule = schema()
    definitions = rule.pop("$defs")
    shape = {
        "type": "object",
        "properties": {"rule": {"anyOf": [rule, {"type": "null"}]}},
        "required": ["rule"],
        "additionalProperties": False,
        "$defs": definitions,
    }
    return {"type": "json_schema", "json_schema": {"name": "rule", "strict": True, "schema": shape}}


def read(said: str) -> Rule | None:
    """Return the rule that a model answered with, None where it says that there can be none. Raises NoRule."""
    if len(said) > LONGEST_ANSWER:
        raise NoRule("it is far too long.")
    try:
        answer = json.loads(_bare(said))
    except (ValueError, RecursionError):
        raise NoRule("it is not JSON.") from None
    if not isinstance(answer, dict) or set(answer) != {"rule"}:
        raise NoRule('it must be an object with the one field "rule".')
    if answer["rule"] is None:
        return None
    try:
        return Rule.model_validate_json(json.dumps(answer["rule"]))
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)[:_MOST_PROBLEMS]
        raise NoRule(" ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}." for one in problems)) from None


def _bare(said: str) -> str:
    """Take away the fence that many models put around JSON although nobody asked for one."""
    text = said.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text.removeprefix("```json").removeprefix("```").removesuffix("```")
    return text
