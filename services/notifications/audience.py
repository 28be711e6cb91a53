"""Who is told what: two tables, and the conditions on members that are made of them.

A role that is not in a row is not told. Whoever did something himself is not told of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import ColumnElement, and_, false, or_

from services.notifications.models import Member

__all__ = ["ALERTS", "AUDIENCES", "People", "Reach", "in_roles", "member_id_of", "people_for", "told"]

Reach = Literal["all", "own"]
"""Of all there is in the workspace, or of what is one's own: an order that one entered, an import that one started."""

_ALL: Final = "all"
_OWN: Final = "own"
_ROLES: Final = ("owner", "manager", "sales", "fulfillment")


def _row(*reaches: Reach | None) -> Mapping[str, Reach]:
    return {role: reach for role, reach in zip(_ROLES, reaches, strict=True) if reach is not None}


AUDIENCES: Final[Mapping[str, Mapping[str, Reach]]] = {
    #                        owner  manager sales  fulfillment
    "order_created": _row(_ALL, _ALL, _OWN, _ALL),
    "order_moved": _row(_ALL, _ALL, _OWN, None),
    "tracking": _row(_ALL, _ALL, _OWN, None),
    "delivery_failed": _row(_ALL, _ALL, _OWN, _ALL),
    "orders_stuck": _row(None, None, None, _ALL),
    "samples_created": _row(_ALL, _ALL, _ALL, None),
    "samples_updated": _row(_ALL, _ALL, _ALL, None),
    "import_completed": _row(_OWN, _OWN, _OWN, _OWN),
    "import_failed": _row(_OWN, _OWN, _OWN, _OWN),
    "summary": _row(_ALL, _ALL, None, None),
}
"""By kind of notice, how far each role is told. What failed for good is told by alerts, below."""


@dataclass(frozen=True, slots=True)
class People:
    """Who can act when something goes wrong. What is not said fits everything."""

    roles: Sequence[str]
    """Of those who can act; where there are none, there is no alert."""
    service: str | None = None
    queue: str | None = None
    provider: str | None = None
    actors: Sequence[str] = ()
    codes: Sequence[str] = ()
    by_mail: bool = True
    told_apart: bool = False
    """Whoever started it hears of it apart, by a notice and a mail of its own."""

    def fits(self, service: str, queue: str | None, actor: str | None, code: str | None, provider: str | None) -> bool:
        """Whether this row is about such a cause."""
        return (
            self.service in (None, service)
            and self.queue in (None, queue)
            and self.provider in (None, provider)
            and (not self.actors or actor in self.actors)
            and (not self.codes or code in self.codes)
        )


ALERTS: Final = (
    # An alert about mail would be one more mail that fails.
    People(("owner",), service="notifications", queue="mail", by_mail=False),
    People(("owner",), service="notifications", provider="smtp", by_mail=False),
    # Whoever wrote the watch has a notice that says how to write another; it is about nobody else.
    People((), service="notifications", codes=("rule_not_understood", "rule_not_possible")),
    # Only the owner connects accounts.
    People(("owner",), codes=("provider_not_authorized", "shippo_not_connected", "sender_rejected")),
    People(("owner",), service="notifications"),
    People(("fulfillment", "owner", "manager"), service="shipping"),
    People(("owner", "manager"), service="imports", actors=("run_import",), told_apart=True),
    People(("owner", "manager")),
)
"""The first row that fits says who can act."""


def people_for(
    service: str,
    *,
    queue: str | None = None,
    actor: str | None = None,
    code: str | None = None,
    provider: str | None = None,
) -> People:
    """Return who can act about what went wrong from this cause."""
    return next(people for people in ALERTS if people.fits(service, queue, actor, code, provider))


def told(kind: str, *, owner: str | None = None, doer: str | None = None) -> ColumnElement[bool]:
    """Return the condition of the members who are told of something of this kind.

    `owner` is the principal whose order or import it is, `doer` the one who did it. Raises KeyError for a kind that
    has no row.
    """
    row = AUDIENCES[kind]
    mine = member_id_of(owner)
    return and_(
        or_(
            in_roles([role for role, reach in row.items() if reach == _ALL]),
            and_(in_roles([role for role, reach in row.items() if reach == _OWN]), _is(mine)),
        ),
        ~_is(member_id_of(doer)),
    )


def in_roles(roles: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition of the members in one of these roles."""
    return Member.role.in_(roles)


def member_id_of(principal: str | None) -> uuid.UUID | None:
    """Return the member behind a principal `user:<id>`; None for a machine, and for ids of programs before us."""
    kind, _, name = (principal or "").partition(":")
    try:
        return uuid.UUID(name) if kind == "user" else None
    except ValueError:
        return None


def _is(member_id: uuid.UUID | None) -> ColumnElement[bool]:
    return false() if member_id is None else Member.id == member_id
