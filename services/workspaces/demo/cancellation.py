"""The end: a workspace is cancelled, and walks through ninety days in a few seconds, by a moved clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from services.workspaces.demo.door import PATIENCE, Door
from services.workspaces.jobs import advance_cancellations
from shared.context import SYSTEM, use
from shared.db import unit_of_work

__all__ = ["KEY", "SECRET", "run"]

KEY: Final = "pdl_sdbx_apikey_demo"
SECRET: Final = "pdl_ntfset_demo_0123456789abcdef"  # noqa: S105 - the sandbox's

_TENANT: Final = "hooli"
_OWNER: Final = "olive@hooli.example"
_DAYS: Final = (0, 2, 3, 6, 7, 13, 14, 29, 30, 89, 90, 91)
_STEPS: Final = ["winback_1", "winback_2", "freeze", "suspend", "archive"]
_OPEN: Final = """
SELECT count(*) FROM jobs WHERE actor IN ('advance_cancellations', 'advance_cancellation')
AND state IN ('scheduled', 'queued', 'running')
"""
_SEEN: Final = {200: "yes", 403: "no"}


def run(group: Any, console: Console, seed: int) -> bool:
    """Tell it; return whether every step came once, in order, and took away what it should."""
    door = Door(group)
    token = _subscribe(group, door)
    console.print("\n[bold]Hooli cancels.[/bold] Paddle says so, and the clock is moved on:")
    canceled_at = _cancel(group, door, token)
    table = Table("day", "what happens", "state", "read orders", "enter orders", title_justify="left")
    known: list[str] = []
    kept: list[tuple[str, str]] = []
    for day in _DAYS:
        _advance(group, canceled_at + timedelta(days=day, minutes=1))
        steps, state = _taken(group)
        new = [step for step in steps if step not in known]
        known += new
        rights = partial(_rights, door, token, state)
        seen = group.sandbox.wait(rights, PATIENCE, f"what a {state} workspace may do")
        kept.append((state, "/".join(seen)))
        table.add_row(str(day), ", ".join(new) or "[dim]nothing is due[/dim]", state, *seen)
    console.print(table)
    mails = group.sandbox.wait(lambda: _mails(group), PATIENCE, "the mails to win Hooli back")
    console.print(f"Olive was asked to come back {len(mails)} times: {'; '.join(reversed(mails))}")
    return known == _STEPS and [state for state, _ in kept][-1] == "archived"


def _subscribe(group: Any, door: Door) -> str:
    """Have a workspace with a subscription; return its owner's token, good for longer than the story."""
    door.sign_up(_TENANT, "Hooli", _OWNER, "Olive Owner")
    door.come_in(_OWNER)
    group.sandbox.paddle_destination("demo", f"{group.members['workspaces'].url}/v1/webhooks/paddle", SECRET)
    group.sandbox.paddle_check_out("demo", custom_data={"workspace": _TENANT}, plan="team")
    with group.members["workspaces"].app.database.system.connect() as connection:
        owner = connection.execute(text("SELECT id FROM members WHERE tenant_id = :t"), {"t": _TENANT}).scalar_one()
    return str(group.token(_TENANT, f"user:{owner}", "owner"))


def _cancel(group: Any, door: Door, token: str) -> datetime:
    """Cancel at Paddle; return the moment from which days count."""

    def subscribed() -> dict[str, Any] | None:
        found = door.get("workspaces", "/v1/subscription", token)
        return found if found["status"] == "active" else None

    def cancelled() -> dict[str, Any] | None:
        found: dict[str, Any] | None = door.get("workspaces", "/v1/subscription", token)["cancellation"]
        return found

    group.sandbox.wait(subscribed, PATIENCE, "Paddle's word that Hooli pays")
    (bought,) = {event["data"]["id"] for event in group.sandbox.paddle_events("demo")}
    group.sandbox.paddle_change("demo", bought, status="canceled")
    found = group.sandbox.wait(cancelled, PATIENCE, "Paddle's word that Hooli has cancelled")
    return datetime.fromisoformat(found["canceled_at"]).astimezone(UTC)


def _advance(group: Any, as_of: datetime) -> None:
    """Tick as if it were that moment, and wait until what was due is done."""
    database = group.members["workspaces"].app.database
    bound = database.bind()
    with use(service="workspaces", tenant_id=SYSTEM), unit_of_work(system=True):
        advance_cancellations.send(as_of=as_of)
    database.unbind(bound)

    def idle() -> bool:
        with database.system.connect() as connection:
            return connection.execute(text(_OPEN)).scalar_one() == 0

    group.sandbox.wait(idle, PATIENCE, "the steps that are due")


def _taken(group: Any) -> tuple[list[str], str]:
    """Return the steps that were done so far, in the order in which they were, and the state."""
    with group.members["workspaces"].app.database.system.connect() as connection:
        steps = connection.execute(
            text("SELECT step FROM cancellation_steps WHERE tenant_id = :t AND outcome = 'done' ORDER BY id"),
            {"t": _TENANT},
        )
        state = connection.execute(text("SELECT state FROM workspaces WHERE tenant_id = :t"), {"t": _TENANT})
        return [row.step for row in steps], str(state.scalar_one())


def _rights(door: Door, token: str, state: str) -> tuple[str, str] | None:
    """Return what shipping lets the owner do, as soon as shipping knows the state."""
    expected = {"active": (200, 200), "canceled": (200, 200), "frozen": (200, 403), "suspended": (200, 403)}
    reads = door.call("shipping", "GET", "/v1/orders", token=token).status_code
    # An empty order is no order, but whoever may enter none is told that first.
    writes = door.call("shipping", "POST", "/v1/orders", {}, token).status_code
    found = (reads, 200 if writes in (400, 422) else writes)
    if found != expected.get(state, (403, 403)):
        return None
    return _SEEN[found[0]], _SEEN[found[1]]


def _mails(group: Any) -> list[str] | None:
    subjects = [mail["subject"] for mail in group.sandbox.mails(to=_OWNER)]
    found = subjects[:-1]  # the first one was the link to sign in
    return found if len(found) == 2 else None
