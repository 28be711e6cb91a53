"""What every way of asking an ERP comes down to: a question, and a page that answers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from services.imports.erp.models import Entity

__all__ = ["MOST_ITEMS", "Connector", "Page", "Question"]

MOST_ITEMS: Final = 500
"""Of one page."""


@dataclass(frozen=True, slots=True)
class Question:
    """What changed since a moment, or ever; `cursor` leads to a page that is not the first."""

    entity: Entity
    since: datetime | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Items as they came, where to go on (None at the end), and the answer as it was, for the log."""

    items: list[Any] = field(repr=False)
    next: str | None
    text: str = field(repr=False)


class Connector(Protocol):
    """Asks one ERP. A call is one attempt; the job alone repeats it."""

    def describe(self, question: Question) -> str:
        """Return the question as it goes to the ERP, for the log."""

    def ask(self, question: Question) -> Page:
        """Return a page.

        Raises the errors of `shared.outbound`: NotAuthorized for a token that is not accepted, and Refused with
        `erp_answer_malformed` for an answer that is not as documented.
        """
