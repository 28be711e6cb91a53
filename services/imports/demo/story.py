"""The story, step by step."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import requests
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.imports.demo.catalog import DUPLICATES, HEADER, ROWS, WRONG, catalog

__all__ = ["ENVIRONMENT", "run"]

ENVIRONMENT: Final[Mapping[str, str]] = {}
"""Settings of the group that runs all stories; this one has a process of its own, see below."""

_TENANT: Final = "catalog"
_PATIENCE: Final = 90.0
_KILLED_AFTER: Final = 0.4
"""Part of the rows that are imported when everything is killed."""


class Backroom:
    """A `backroom up` in a process of its own, on a data directory that outlives it."""

    def __init__(self, data_dir: Path) -> None:
        port, sandbox_port = _free_ports()
        self.url = f"http://127.0.0.1:{port}"
        self.sandbox = f"http://127.0.0.1:{sandbox_port}"
        own = {
            "BACKROOM_DATA_DIR": str(data_dir),
            "BACKROOM_SERVICES": '["imports"]',
            "BACKROOM_PORT": str(port),
            "BACKROOM_SANDBOX_PORT": str(sandbox_port),
            "BACKROOM_RETRY_SCALE": "0.02",
            "BACKROOM_LOG_LEVEL": "ERROR",
            # Small batches, so that there is something to see.
            "IMPORTS_BATCH_ROWS": "50",
            "IMPORTS_IMAGE_TRUSTED_HOSTS": f'["127.0.0.1:{sandbox_port}"]',
        }
        others = {key: value for key, value in os.environ.items() if not key.startswith(("BACKROOM_", "IMPORTS_"))}
        self.environment = {**others, **own}
        self.session = requests.Session()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shared.runtime.cli", "up"], env=self.environment, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.url}/readyz", timeout=2).ok:
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Backroom did not start")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL, as a machine that loses its power."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> None:
        """Stop it in order."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def sign_in(self) -> None:
        command = [sys.executable, "-m", "shared.runtime.cli", "token", "--tenant", _TENANT, "--principal", "user:demo"]
        answer = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        self.session.headers["Authorization"] = f"Bearer {answer.stdout.strip()}"

    def get(self, path: str) -> Any:
        answer = self.session.get(self.url + path, timeout=30)
        answer.raise_for_status()
        return answer.json()


def run(group: Any, console: Console, seed: int) -> bool:
    """Tell it; return whether every row is accounted for, once."""
    backroom = Backroom(Path(group.settings.data_dir) / "catalog")
    try:
        backroom.start()
        return _tell(backroom, console)
    finally:
        backroom.stop()


def _tell(backroom: Backroom, console: Console) -> bool:
    backroom.sign_in()
    content = catalog(backroom.sandbox)
    console.print(f"\n[bold]A catalog of {ROWS:,} rows[/bold] is uploaded: {len(content) / 1e6:.1f} MB.")
    answer = backroom.session.post(
        f"{backroom.url}/v1/uploads?file_name=catalog.csv",
        data=content,
        headers={"Content-Type": "text/csv"},
        timeout=60,
    )
    answer.raise_for_status()
    seen = backroom.get(f"/v1/uploads/{answer.json()['id']}/preview")
    columns = ", ".join(f"{HEADER[column]} → {field}" for field, column in seen["mapping"].items())
    console.print(f"It is {seen['encoding']}, and we take its columns for: {columns}.")
    mapping = {**seen["mapping"], "custom:Color": HEADER.index("Color")}
    began = time.perf_counter()
    started = backroom.session.post(
        f"{backroom.url}/v1/imports",
        json={"upload_id": answer.json()["id"], "kind": "samples", "mapping": mapping},
        headers={"Idempotency-Key": str(uuid4())},
        timeout=30,
    )
    started.raise_for_status()
    console.print(f"The click is answered within {(time.perf_counter() - began) * 1000:.0f} ms, with a job to watch.")
    path = started.json()["links"]["import"]
    with _bar(console) as move:
        _follow(backroom, path, move, until=lambda found: found["processed"] >= _KILLED_AFTER * ROWS)
        backroom.kill()
        before = "everything is killed with SIGKILL, the database included"
        move(None, f"[red]killed[/red]: {before}")
        backroom.start()
        found = _follow(backroom, path, move, until=lambda found: found["state"] not in ("queued", "running"))
    console.print("It was killed in the middle, database and all, and went on after its last batch when it came back.")
    found = _settle_images(backroom, path)
    return _account(backroom, found, console)


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[Any]:
    columns = (
        TextColumn("  {task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("catalog", total=ROWS)

        def move(done: int | None, said: str = "") -> None:
            if said:
                progress.console.print(f"  {said}")
            if done is not None:
                progress.update(task, completed=done)

        yield move


def _follow(backroom: Backroom, path: str, move: Any, *, until: Any) -> Any:
    deadline = time.monotonic() + _PATIENCE
    while True:
        found = backroom.get(path)
        move(found["processed"])
        if until(found) or found["state"] in ("completed", "failed", "cancelled"):
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"the import is still {found['state']} at row {found['processed']}")
        time.sleep(0.02)


def _settle_images(backroom: Backroom, path: str) -> Any:
    """Wait for the pictures, whose host is not at its best."""
    deadline = time.monotonic() + _PATIENCE
    while (found := backroom.get(path))["images"]["pending"] and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _account(backroom: Backroom, found: Any, console: Console) -> bool:
    titles: Counter[str] = Counter()
    cursor = ""
    while True:
        page = backroom.get(f"/v1/samples?limit=200{cursor}")
        titles.update(item["title"] for item in page["items"])
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    failures = backroom.get(f"{found['links']['failures']}?limit=2")["items"]
    table = Table(title="What became of the rows", title_justify="left")
    for column in ("", "rows", "must be"):
        table.add_column(column, justify="left" if not column else "right")
    expected = {"created": ROWS - DUPLICATES - WRONG, "skipped": DUPLICATES, "failed": WRONG}
    for name, number in expected.items():
        table.add_row({"skipped": "skipped, as duplicates"}.get(name, name), f"{found[name]:,}", f"{number:,}")
    table.add_row("samples in the catalog", f"{titles.total():,}", f"{expected['created']:,}")
    table.add_row("samples that are there twice", f"{titles.total() - len(titles)}", "0")
    console.print(table)
    for failure in failures:
        console.print(f"  row {failure['row']}: {failure['issues'][0]['message']}")
    images = found["images"]
    console.print(
        f"Pictures: {images['attached']} attached, {images['failed']} cannot be had and say why, "
        f"{images['pending']} still to be tried."
    )
    return (
        found["state"] == "completed"
        and all(found[name] == number for name, number in expected.items())
        and titles.total() == len(titles) == expected["created"]
        and images["attached"] > 0
        and not images["pending"]
    )


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])
