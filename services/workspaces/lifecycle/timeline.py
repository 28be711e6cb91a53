"""A cancellation in words, for the owner: what happened when, what comes next and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.workspaces.lifecycle.cancellations import STEPS
from services.workspaces.lifecycle.models import Cancellation, CancellationStep

__all__ = ["Entry", "explain", "timeline"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One step. `outcome` is `upcoming` or as in its row; `done_at` is None while it is upcoming."""

    step: str
    due_at: datetime
    outcome: str
    done_at: datetime | None
    text: str


_UPCOMING: Final = {
    "winback_1": "We ask you by mail whether you want to stay.",
    "winback_2": "We ask you by mail once more.",
    "freeze": "The workspace is frozen: everything can be read and exported, and nothing changed.",
    "suspend": "The workspace is suspended: only you can sign in, to pay or to export.",
    "archive": "The workspace is archived: nobody can sign in, and what let us into other systems is destroyed.",
}
_DONE: Final = {
    "winback_1": "We asked you by mail whether you want to stay.",
    "winback_2": "We asked you by mail once more.",
    "freeze": "The workspace was frozen.",
    "suspend": "The workspace was suspended.",
    "archive": "The workspace was archived.",
}
_NOT_SENT: Final = "A mail was not sent, since it would have come too late."
_NOBODY: Final = "A mail was not sent, since the workspace has no owner."
_CANCELLED: Final = "This did not come to pass, since you came back."

_STATES: Final[Mapping[str, str]] = {
    "active": "All is well: the workspace is paid for.",
    "canceled": "The subscription has ended. Everything still works as before.",
    "frozen": "The workspace is frozen: everything can be read and exported, and nothing changed.",
    "suspended": "The workspace is suspended: only its owner can sign in, to pay or to export.",
    "archived": "The workspace is archived. Ask us if you want it back.",
}


def timeline(cancellation: Cancellation, taken: Sequence[CancellationStep]) -> list[Entry]:
    """Return all steps of a cancellation in order, taken or not."""
    rows = {row.step: row for row in taken}
    entries = []
    for step in STEPS:
        row = rows.get(step.name)
        if row is None:
            entries.append(Entry(step.name, step.due_at(cancellation), "upcoming", None, _UPCOMING[step.name]))
        else:
            entries.append(Entry(step.name, row.due_at, row.outcome, row.done_at, _said(row)))
    return entries


def explain(state: str, ends_at: datetime | None, entries: Sequence[Entry]) -> str:
    """Return how the workspace stands and what comes next, in one or two sentences."""
    said = _STATES[state]
    following = next((entry for entry in entries if entry.outcome == "upcoming"), None)
    if state == "active":
        if ends_at is None:
            return said
        return f"The workspace is paid for until {_day(ends_at)}. The subscription then ends, unless you keep it."
    if following is None:
        return said
    return f"{said} Next, on {_day(following.due_at)}: {following.text[0].lower()}{following.text[1:]}"


def _said(row: CancellationStep) -> str:
    match row.outcome:
        case "skipped_stale":
            return _NOT_SENT
        case "skipped_no_owner":
            return _NOBODY
        case "cancelled":
            return _CANCELLED
    return _DONE[row.step]


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"
