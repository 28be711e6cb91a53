"""Closing the books: what became of the jobs, and the carrier's ledger against our labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

__all__ = ["close"]

_JOBS = """
SELECT actor, count(*) AS jobs, count(*) FILTER (WHERE state = 'succeeded') AS done,
       count(*) FILTER (WHERE state = 'failed') AS failed,
       count(*) FILTER (WHERE state NOT IN ('succeeded', 'failed', 'cancelled')) AS open,
       coalesce(sum(runs) FILTER (WHERE runs > 1), 0) - count(*) FILTER (WHERE runs > 1) AS retries
FROM jobs WHERE tenant_id = ANY(:tenants) GROUP BY actor ORDER BY min(created_at)
"""

_ALERTS = """
SELECT count(*) FROM outbox WHERE type = 'backroom.shipping.job.failed.v1' AND tenant_id = ANY(:tenants)
"""

_FAILED = """
SELECT j.subject, a.public FROM jobs j JOIN job_attempts a ON a.job_id = j.id AND a.number = j.runs
WHERE j.state = 'failed' AND j.tenant_id = ANY(:tenants) ORDER BY j.id LIMIT 6
"""

_LABELS = """
SELECT labels.tenant_id, labels.id::text, labels.order_id::text, labels.status, labels.provider_id,
       labels.amount, labels.currency
FROM labels WHERE labels.tenant_id = ANY(:tenants)
"""


def close(group: Any, workspaces: Iterable[Any], console: Console) -> bool:
    """Print both; return whether every job ended and the carrier's books agree with ours."""
    tenants = [workspace.name for workspace in workspaces]
    with group.members["shipping"].app.database.system.connect() as connection:
        jobs = connection.execute(text(_JOBS), {"tenants": tenants}).all()
        alerts = connection.execute(text(_ALERTS), {"tenants": tenants}).scalar_one()
        failed = connection.execute(text(_FAILED), {"tenants": tenants}).all()
        labels = connection.execute(text(_LABELS), {"tenants": tenants}).all()
    table = Table("kind of job", "jobs", "done", "failed", "retries", title="\nWhat became of the jobs")
    for row in jobs:
        table.add_row(row.actor, str(row.jobs), str(row.done), str(row.failed), str(row.retries))
    console.print(table)
    failures = sum(row.failed for row in jobs)
    console.print(f"{failures} jobs failed for good, with {alerts} alerts" + ("; for example:" if failed else "."))
    for row in failed:
        console.print(f"    {row.subject}: {row.public}")
    every_job_ended = not any(row.open for row in jobs)
    if not every_job_ended:
        console.print("[red]Some jobs have not ended.[/red]")
    one_alert_each = failures == alerts
    return _compare(group, tenants, labels, console) and every_job_ended and one_alert_each


def _compare(group: Any, tenants: list[str], labels: Iterable[Any], console: Console) -> bool:
    token_of = {group.sandbox.token(tenant): tenant for tenant in tenants}
    charged: dict[str, dict[str, int]] = defaultdict(dict)
    for entry in group.sandbox.charges():
        if entry["account"] in token_of:
            charged[token_of[entry["account"]]][entry["transaction"]] = int(Decimal(entry["amount"]) * 100)
    ours: dict[str, dict[str, int]] = defaultdict(dict)
    orders: dict[str, set[str]] = defaultdict(set)
    twice = 0
    for label in labels:
        if label.status == "purchased":
            twice += label.order_id in orders[label.tenant_id]
            orders[label.tenant_id].add(label.order_id)
            ours[label.tenant_id][label.provider_id] = label.amount
    table = Table("workspace", "carrier charged", "we have", "orders", "agree", title="\nThe carrier's books and ours")
    agree = not twice
    for tenant in tenants:
        same = charged[tenant] == ours[tenant]
        agree = agree and same
        table.add_row(
            tenant,
            f"{len(charged[tenant])} labels, ${sum(charged[tenant].values()) / 100:,.2f}",
            f"{len(ours[tenant])} labels, ${sum(ours[tenant].values()) / 100:,.2f}",
            str(len(orders[tenant])),
            "[green]yes[/green]" if same else "[red]no[/red]",
        )
    console.print(table)
    return agree
