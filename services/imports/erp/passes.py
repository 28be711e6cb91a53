"""How far the asking of an ERP has come: kept in its connection, and written in the commit of each page.

A pass is a walk over all pages of what changed. One that was broken off goes on where it stopped, whichever job does
it; the next one begins a little before the time at which the last complete one began.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

from services.imports.erp.models import Entity, ErpConnection

__all__ = ["Pass", "complete", "completed_at", "current_pass", "forget", "save"]


@dataclass(frozen=True, slots=True)
class Pass:
    """A walk that is not at its end. `cursor` leads to the page that is next, None to the first."""

    began: datetime
    since: datetime | None
    """Of when on what changed is asked for; None for everything."""
    cursor: str | None = None
    pages: int = 0
    """That were applied."""
    anchor: str | None = None
    """One of the cursors before, see `repeats`."""

    def repeats(self, cursor: str) -> bool:
        """Tell whether this cursor leads to where we have been.

        It is compared with the last one and with an anchor, which is set anew after 1, 2, 4, 8 … pages: that finds
        a circle of any length, soon after it was walked once, and remembers one cursor instead of all.
        """
        return cursor in (self.cursor, self.anchor)

    def after(self, cursor: str) -> Pass:
        """Return the pass after one more page."""
        pages = self.pages + 1
        return replace(self, cursor=cursor, pages=pages, anchor=cursor if pages & (pages - 1) == 0 else self.anchor)


def current_pass(connection: ErpConnection, entity: Entity, now: datetime, *, overlap: float) -> Pass:
    """Return the pass that was broken off, or a new one that reaches back `overlap` seconds before the last."""
    known = connection.cursor.get(entity, {})
    if unfinished := known.get("pass"):
        return Pass(
            datetime.fromisoformat(unfinished["began"]),
            _moment(unfinished["since"]),
            unfinished["cursor"],
            unfinished["pages"],
            unfinished["anchor"],
        )
    last = _moment(known.get("completed"))
    return Pass(began=now, since=None if last is None else last - timedelta(seconds=overlap))


def save(connection: ErpConnection, entity: Entity, walk: Pass) -> None:
    """Note how far a pass has come."""
    unfinished = {
        "began": walk.began.isoformat(),
        "since": walk.since and walk.since.isoformat(),
        "cursor": walk.cursor,
        "pages": walk.pages,
        "anchor": walk.anchor,
    }
    _note(connection, entity, {**connection.cursor.get(entity, {}), "pass": unfinished})


def complete(connection: ErpConnection, entity: Entity, walk: Pass) -> None:
    """Note that a pass has come to its end."""
    _note(connection, entity, {"completed": walk.began.isoformat()})


def forget(connection: ErpConnection, entity: Entity) -> None:
    """Let the next pass begin anew: where this one would go on leads nowhere."""
    known = connection.cursor.get(entity, {})
    _note(connection, entity, {name: value for name, value in known.items() if name != "pass"})


def completed_at(connection: ErpConnection) -> dict[Entity, datetime]:
    """Return, by entity, when the last complete pass began."""
    known = cast("dict[Entity, dict[str, Any]]", connection.cursor)
    return {entity: datetime.fromisoformat(each["completed"]) for entity, each in known.items() if "completed" in each}


def _note(connection: ErpConnection, entity: Entity, known: dict[str, Any]) -> None:
    connection.cursor = {**connection.cursor, entity: known}


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
