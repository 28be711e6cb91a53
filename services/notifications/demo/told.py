"""What failed has been told to whoever can do something about it, once; and a watch speaks up, once."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import requests
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

__all__ = ["run"]

_PATIENCE: Final = 60.0
_WATCH: Final = "Tell me when more than 3 orders are New"
_DUE: Final = "UPDATE watches SET next_run_at = next_run_at - interval '1 hour' WHERE tenant_id = :tenant"


class Desk:
    """A member in front of the console."""

    def __init__(self, group: Any, member: Any) -> None:
        self.member = member
        self.urls = {name: running.url for name, running in group.members.items()}
        self.http = requests.Session()
        token = group.token(member.tenant_id, f"user:{member.id}", member.role)
        self.http.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, body: Any = None, service: str = "notifications") -> Any:
        """Call an API; return what it answers."""
        answer = self.http.request(method, self.urls[service] + path, json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()


def run(group: Any, console: Console, seed: int) -> bool:
    """Tell it; return whether each cause was told once, with the right count, and the watch spoke up once."""
    desks = {(desk.member.tenant_id, desk.member.role): desk for desk in _desks(group)}
    return _alerts(group, desks, console) & _watch(group, desks["acme", "owner"], console)


def _desks(group: Any) -> list[Desk]:
    statement = "SELECT * FROM members WHERE status = 'active' ORDER BY tenant_id"
    with group.members["notifications"].app.database.system.connect() as connection:
        return [Desk(group, member) for member in connection.execute(text(statement))]


def _alerts(group: Any, desks: dict[tuple[str, str], Desk], console: Console) -> bool:
    console.print("\n[bold]What failed was told to who can mend it:[/bold] once per cause, by mail and in the console.")
    table = Table("workspace", "jobs failed", "cause", "the alert counts", "mails", "notices")
    said: set[str] = set()
    right = True
    for (tenant, role), desk in desks.items():
        if role != "fulfillment":
            continue
        causes = _failed(group, tenant)
        if not causes:
            continue
        alerts = group.sandbox.wait(partial(_told_of, desk, causes), _PATIENCE, f"the alerts of {tenant}")
        for alert in alerts:
            cause = (alert["actor"], alert["code"])
            mails, notices = group.sandbox.wait(partial(_reached, group, desk, alert), _PATIENCE, "the mail to Fay")
            right &= (alert["count"], mails, notices) == (causes[cause], 1, 1)
            table.add_row(tenant, str(causes[cause]), alert["code"], str(alert["count"]), str(mails), str(notices))
            said.add(f"{alert['what']} {alert['action']}")
    console.print(table)
    console.print(f"For example, Fay reads: [dim]{min(said)}[/dim]" if said else "Nothing failed for good.")
    return right


def _failed(group: Any, tenant: str) -> dict[tuple[str, str], int]:
    """How many jobs of shipping failed, by kind and cause."""
    statement = """
        SELECT actor, failure->>'code', count(*) FROM jobs WHERE tenant_id = :tenant AND state = 'failed' GROUP BY 1, 2
    """
    with group.members["shipping"].app.database.system.connect() as connection:
        rows = connection.execute(text(statement), {"tenant": tenant})
        return {(actor, code): count for actor, code, count in rows}


def _told_of(desk: Desk, causes: dict[tuple[str, str], int]) -> list[Any] | None:
    """The alerts, as soon as there is one for each cause and all failures are counted."""
    alerts = [alert for alert in desk.call("GET", "/v1/alerts?limit=200")["items"] if alert["kind"] == "job_failed"]
    found = {(alert["actor"], alert["code"]): alert["count"] for alert in alerts}
    return alerts if found == causes else None


def _reached(group: Any, desk: Desk, alert: Any) -> tuple[int, int] | None:
    """How many mails and notices of an alert have reached its reader, as soon as there is one of each."""
    texts = [group.sandbox.mail(mail["id"])["text"] for mail in group.sandbox.mails(to=desk.member.email)]
    links = [notice["link"] or "" for notice in desk.call("GET", "/v1/notices?limit=200")["items"]]
    mails, notices = sum(alert["what"] in text for text in texts), sum(alert["id"] in link for link in links)
    return (mails, notices) if mails and notices else None


def _watch(group: Any, desk: Desk, console: Console) -> bool:
    console.print(f"\n[bold]Ada writes a watch:[/bold] {_WATCH}")
    drafted = desk.call("POST", "/v1/watches", {"text": _WATCH, "frequency": 15})["watch"]
    path = f"/v1/watches/{drafted['id']}"
    wait = group.sandbox.wait
    written = wait(
        lambda: found if (found := desk.call("GET", path))["rule"] else None, _PATIENCE, "the rule of the watch"
    )
    console.print(f"A model makes a rule of it, which is shown and confirmed: [italic]{written['meaning']}[/italic]")
    before = _watch_notices(desk)
    desk.call("POST", f"{path}/confirm")
    wait(lambda: len(_watch_notices(desk)) > len(before), _PATIENCE, "the watch to speak up")
    checked = desk.call("GET", path)["last_checked_at"]
    database = group.members["notifications"].app.database
    for _ in range(3):
        # An hour later it is still so.
        with database.system.begin() as connection:
            connection.execute(text(_DUE), {"tenant": desk.member.tenant_id})
        desk.call("POST", f"{path}/pause")
        desk.call("POST", f"{path}/resume")
        checked = wait(partial(_checked_after, desk, path, checked), _PATIENCE, "the watch to be checked")
    told = [one for one in _watch_notices(desk) if one not in before]
    console.print(f"Checked four times, without any model, while it stayed so: Ada was told {len(told)} time.")
    for notice in told:
        console.print(f"    {notice['title']}: [dim]{notice['text'].splitlines()[0]}[/dim]")
    return len(told) == 1


def _watch_notices(desk: Desk) -> list[Any]:
    return [one for one in desk.call("GET", "/v1/notices?limit=200")["items"] if one["kind"].startswith("watch")]


def _checked_after(desk: Desk, path: str, last: str) -> str | None:
    """When the watch was checked, as soon as that is another time than the last."""
    checked: str = desk.call("GET", path)["last_checked_at"]
    return checked if checked != last else None
