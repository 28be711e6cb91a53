"""What people are told when a job fails: four short sentences per failure code.

Each service keeps its own in `failures.py`; the codes that any job may end with are here. A sentence
may name the failure's fields: "No label was bought for order {number}."
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["COMMON", "FailureText", "explain"]


@dataclass(frozen=True, slots=True)
class FailureText:
    """For a person who is no engineer. Each field is one or two sentences without any code or number."""

    what: str
    """What happened."""
    meaning: str
    """What it means: what was done, what was not, what it costs."""
    doing: str
    """What we are doing about it."""
    action: str
    """What the reader can do."""


COMMON: Mapping[str, FailureText] = {
    "unexpected": FailureText(
        what="Something went wrong that we did not foresee.",
        meaning="The work was not finished. Nothing was left half done.",
        doing="We recorded the details for our engineers.",
        action="Press Retry. If it fails again, send us the reference of this job.",
    ),
    "took_too_long": FailureText(
        what="The work took longer than it is allowed to.",
        meaning="It was stopped and not finished.",
        doing="We recorded how far it came.",
        action="Press Retry. If it happens again, send us the reference of this job.",
    ),
    "worker_died": FailureText(
        what="The program that did this work stopped again and again while doing it.",
        meaning="The work was set aside so that it does not stop other work. It was not finished.",
        doing="We recorded the details for our engineers.",
        action="Send us the reference of this job before you retry it.",
    ),
    "cancelled": FailureText(
        what="The work was cancelled.",
        meaning="What was done before stays; the rest was not done.",
        doing="Nothing more.",
        action="Start it again if you still need it.",
    ),
    "provider_unavailable": FailureText(
        what="The other company's system did not answer.",
        meaning="What you asked for was not done.",
        doing="We tried several times and stopped.",
        action="Press Retry in a few minutes.",
    ),
    "provider_refused": FailureText(
        what="The other company's system refused the request.",
        meaning="What you asked for was not done, and asking again would not help.",
        doing="Nothing more.",
        action="Check the details and start again.",
    ),
    "provider_not_authorized": FailureText(
        what="The other company's system no longer accepts our access.",
        meaning="Nothing was done, and nothing will be until the account is connected again.",
        doing="We wait for the account to be connected again.",
        action="Ask the owner of the workspace to connect the account again, then press Retry.",
    ),
    "provider_unknown_outcome": FailureText(
        what="The other company's system did not say whether it did what we asked.",
        meaning="We cannot tell yet whether it was done.",
        doing="We keep checking, and we will not ask for it twice.",
        action="Wait for the result, or look into your account there.",
    ),
    "event_unreadable": FailureText(
        what="A message from another part of the system could not be read.",
        meaning="What should have followed from it was not done here.",
        doing="We recorded the details for our engineers.",
        action="Send us the reference of this job. It can be retried once this is mended.",
    ),
    "too_many_deferrals": FailureText(
        what="The work was put off too many times.",
        meaning="It was not done.",
        doing="We stopped putting it off.",
        action="Press Retry. If it happens again, send us the reference of this job.",
    ),
}


def explain(texts: Mapping[str, FailureText], code: str, fields: Mapping[str, Any] | None = None) -> FailureText:
    """Return the four sentences for a code, filled in; an unknown code gets those of `unexpected`."""
    text = texts.get(code) or COMMON.get(code) or texts.get("unexpected") or COMMON["unexpected"]
    values = _Known(fields or {})
    return FailureText(*(_filled(part, values) for part in (text.what, text.meaning, text.doing, text.action)))


def _filled(sentence: str, values: Mapping[str, Any]) -> str:
    try:
        return sentence.format_map(values)
    except (ValueError, AttributeError, LookupError, TypeError):
        # A sentence that does not fit its values is a mistake, but no reason for a job never to end.
        return sentence


class _Known(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "…"
