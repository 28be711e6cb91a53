"""The story, step by step."""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

import requests
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import text

from services.shipping.demo import books, weather
from services.shipping.jobs import recheck_unknown_labels
from shared.context import SYSTEM, use
from shared.db import unit_of_work

__all__ = ["ENVIRONMENT", "run"]

ENVIRONMENT = {
    "SHIPPING_SHIPPO_READ_SECONDS": "2",
    "SHIPPING_SHIPPO_TOTAL_SECONDS": "2.5",
    "SHIPPING_SETTLE_SECONDS": "6",
    "SHIPPING_POLL_SECONDS": "[1, 2, 4]",
    "SHIPPING_SHIPPO_OWN_LIMITS": "false",
}
"""Settings that make the carrier's bad day short; the story names them."""

SENDER = {
    "name": "Sample Room",
    "street1": "215 Clayton St",
    "city": "San Francisco",
    "state": "CA",
    "zip": "94117",
    "country": "US",
}

_PATIENCE = 150.0

_UNKNOWN = "SELECT count(*) FROM labels WHERE status IN ('unknown', 'needs_review')"
_LOOKING = """
SELECT count(*) FROM jobs WHERE actor IN ('recheck_unknown_labels', 'recheck_label', 'copy_label_file')
AND state IN ('scheduled', 'queued', 'running')
"""


class Workspace:
    """One tenant of the story, and its calls."""

    def __init__(self, group: Any, name: str) -> None:
        self.name = name
        self.url = group.members["shipping"].url
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {group.token(name, 'user:demo', 'owner')}"
        self.order_ids: list[str] = []
        self.slowest = 0.0

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Call the API, and remember how long the slowest answer took."""
        began = time.perf_counter()
        answer = self.session.request(method, self.url + path, json=body, headers=headers, timeout=30)
        self.slowest = max(self.slowest, time.perf_counter() - began)
        answer.raise_for_status()
        return answer.json()

    def job(self, job_id: str) -> Any:
        answer = self.session.get(f"{self.url}/v1/jobs/{job_id}", timeout=30)
        answer.raise_for_status()
        return answer.json()


def run(group: Any, console: Console, seed: int) -> bool:
    """Tell it; return whether the carrier's books and ours agree."""
    settings = ", ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
    console.print(f"[dim]Also shortened: {settings}[/dim]\n")
    workspaces = _connect(group, console)
    _enter_orders(workspaces, console)
    _check_addresses(workspaces, console)
    sandbox = group.sandbox
    sandbox.faults.load(weather.RULES)
    console.print("\n[bold]The carrier has a bad day:[/bold] of its calls to buy, by chance, it")
    for words, _, _, chance, _ in weather.STORY:
        console.print(f"    {chance:>4.0%}  {words}")
    _buy_labels(workspaces, console)
    sandbox.faults.clear()
    _look_again(group, console)
    return books.close(group, workspaces, console)


def _connect(group: Any, console: Console) -> list[Workspace]:
    workspaces = [Workspace(group, name) for name in sorted({row["workspace"] for row in _rows()})]
    for workspace in workspaces:
        body = {"token": group.sandbox.token(workspace.name), "sender": SENDER}
        job = workspace.call("PUT", "/v1/connections/shippo", body)["job"]
        _follow({workspace: job["id"]}, None)
    console.print(f"[bold]{len(workspaces)} workspaces[/bold] connected their carrier account: "
                  + ", ".join(workspace.name for workspace in workspaces))  # fmt: skip
    return workspaces


def _rows() -> list[dict[str, str]]:
    text = resources.files("services.shipping.demo").joinpath("orders.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _enter_orders(workspaces: Iterable[Workspace], console: Console) -> None:
    by_name = {workspace.name: workspace for workspace in workspaces}
    orders: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows():
        orders[row["workspace"]].append(_order(row))
    total = 0
    for name, drafts in orders.items():
        for start in range(0, len(drafts), 25):
            created = by_name[name].call("POST", "/v1/orders/bulk", {"orders": drafts[start : start + 25]})
            by_name[name].order_ids += [order["id"] for order in created["items"]]
            total += len(created["items"])
    console.print(f"[bold]{total} orders[/bold] entered from a file.")


def _order(row: dict[str, str]) -> dict[str, Any]:
    address = {"street1": row["street"], **{key: row[key] for key in ("city", "state", "zip", "country")}}
    parcel = {key: row[key] for key in ("length", "width", "height", "weight")}
    return {
        "number": row["number"],
        "recipient": {"name": row["name"], "company": row["company"]},
        "address": address,
        "lines": [{"name": row["sample"], "quantity": int(row["quantity"])}],
        "parcels": [{**parcel, "distance_unit": "in", "mass_unit": "lb"}],
    }


def _check_addresses(workspaces: Iterable[Workspace], console: Console) -> None:
    jobs = {
        workspace: workspace.call("POST", "/v1/addresses/validate", {"order_ids": workspace.order_ids})["id"]
        for workspace in workspaces
    }
    _follow(jobs, Progress(*_columns("addresses checked"), console=console))
    bad = 0
    for workspace in jobs:
        good = []
        for order_id in workspace.order_ids:
            order = workspace.call("GET", f"/v1/orders/{order_id}")
            if order["address"]["validation"] == "invalid":
                bad += 1
            else:
                good.append(order_id)
        workspace.order_ids = good
    console.print(f"{bad} addresses are not deliverable; their orders wait for somebody to correct them.")


def _buy_labels(workspaces: list[Workspace], console: Console) -> None:
    console.print(f"\n[bold]One click per workspace:[/bold] buy {sum(len(w.order_ids) for w in workspaces)} labels.")
    jobs = {}
    for workspace in workspaces:
        workspace.slowest = 0.0
        jobs[workspace] = workspace.call("POST", "/v1/labels/bulk", {"order_ids": workspace.order_ids})["id"]
    slowest = max(workspace.slowest for workspace in workspaces)
    console.print(f"Every click was answered within {slowest * 1000:.0f} ms, with a job to watch.")
    with ThreadPoolExecutor(8) as impatient:
        # Somebody does not trust it, and clicks on single orders too, twice.
        list(impatient.map(_click_again, [(w, order) for w in workspaces for order in w.order_ids[:5] * 2]))
    console.print("Meanwhile somebody clicked twenty of the orders again, twice each.")
    _follow(jobs, Progress(*_columns("labels"), console=console))
    _rest(workspaces, console)


def _click_again(one: tuple[Workspace, str]) -> None:
    workspace, order_id = one
    answer = workspace.session.post(f"{workspace.url}/v1/orders/{order_id}/labels", json={}, timeout=30)
    if answer.status_code not in (202, 409):
        answer.raise_for_status()


def _rest(workspaces: Iterable[Workspace], console: Console) -> None:
    """Wait for what the clicks on single orders, and the copying of label files, still have to do."""
    deadline = time.monotonic() + _PATIENCE
    for workspace in workspaces:
        for state in ("running", "queued", "scheduled"):
            while workspace.call("GET", f"/v1/jobs?state={state}&limit=1")["items"]:
                if time.monotonic() > deadline:
                    console.print(f"[red]{workspace.name} still has jobs that are {state}[/red]")
                    return
                time.sleep(0.1)


def _look_again(group: Any, console: Console) -> None:
    """Do now what is done every hour: look for labels of which the carrier never said whether it sold them."""
    database = group.members["shipping"].app.database

    def count(statement: str) -> int:
        with database.system.connect() as connection:
            return int(connection.execute(text(statement)).scalar_one())

    unknown = count(_UNKNOWN)
    if not unknown:
        return
    console.print(f"Of {unknown} labels nobody knows whether they were bought; the hourly look for them is done now.")
    bound = database.bind()
    with use(service="shipping", tenant_id=SYSTEM), unit_of_work(system=True):
        recheck_unknown_labels.send()
    database.unbind(bound)
    group.sandbox.wait(lambda: count(_LOOKING) == 0, _PATIENCE, "the look for labels of unknown outcome")


def _follow(jobs: dict[Workspace, str], progress: Progress | None) -> None:
    """Watch jobs until all have ended, with a bar for each where there is a `progress`."""
    deadline = time.monotonic() + _PATIENCE
    open_jobs = dict(jobs)
    bars: dict[Workspace, Any] = {}
    if progress is not None:
        progress.start()
        bars = {workspace: progress.add_task(workspace.name, total=None) for workspace in jobs}
    try:
        while open_jobs:
            if time.monotonic() > deadline:
                raise TimeoutError(f"jobs did not end: {', '.join(open_jobs.values())}")
            for workspace, job_id in list(open_jobs.items()):
                job = workspace.job(job_id)
                seen = job.get("progress") or {}
                if progress is not None and seen:
                    progress.update(bars[workspace], completed=seen["done"], total=seen["total"])
                if job["done"]:
                    del open_jobs[workspace]
            time.sleep(0.1)
    finally:
        if progress is not None:
            progress.stop()


def _columns(unit: str) -> list[Any]:
    return [
        TextColumn("  {task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    ]
