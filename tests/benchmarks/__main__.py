"""`python -m tests.benchmarks`: run benchmarks, show what they found, write it down."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import report
from tests.benchmarks.bench import ROOT, Result, Row

NAMES = (
    "throughput",
    "latency",
    "relay",
    "fairness",
    "pick",
    "accept",
    "rule",
    "imports",
    "beside",
    "mail",
    "recovery",
    "retry_clock",
)


def run(name: str, *, long: bool) -> Result:
    """Run a benchmark in a process of its own, which inherits nothing of what another one left; return its result.

    Raises RuntimeError when it fails.
    """
    with tempfile.TemporaryDirectory() as directory:
        into = Path(directory) / "result.json"
        arguments = [name, "--into", str(into), *([] if long else ["--short"])]
        ended = subprocess.run([sys.executable, "-m", "tests.benchmarks", *arguments], cwd=ROOT)
        if ended.returncode or not into.exists():
            raise RuntimeError(f"the benchmark {name} failed with {ended.returncode}")
        found = json.loads(into.read_text())
    return Result(found["title"], [Row(**row) for row in found["rows"]], found["note"])


def text_of(name: str) -> str:
    """Return what a benchmark says about itself."""
    return inspect.getdoc(importlib.import_module(f"tests.benchmarks.{name}")) or ""


def show(console: Console, name: str, result: Result, seconds: float) -> None:
    table = Table(title=f"{result.title} ({name}, {seconds:.0f} s)", title_justify="left")
    for column in ("what", "figure", "bar", "holds"):
        table.add_column(column)
    for row in result.rows:
        table.add_row(row.what, row.figure, row.bar, {None: "", True: "[green]yes", False: "[red]no"}[row.holds])
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which; by default all: {', '.join(NAMES)}")
    parser.add_argument("--short", action="store_true", help="a trial of each, whose figures mean nothing")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    if given.into is not None:
        result = importlib.import_module(f"tests.benchmarks.{given.names[0]}").main(not given.short)
        given.into.write_text(json.dumps(dataclasses.asdict(result)))
        return 0
    console = Console()
    sections: dict[str, str] = {}
    failed = []
    machine = report.facts()
    console.print(machine)
    for name in given.names or NAMES:
        began = time.monotonic()
        load = os.getloadavg()[0]
        try:
            result = run(name, long=not given.short)
        except RuntimeError as error:
            console.print(f"[red]{error}")
            failed.append(name)
            continue
        show(console, name, result, time.monotonic() - began)
        sections[name] = report.section(name, result, text_of(name), f"{machine}, load {load:.1f} before it began")
        if not given.short:
            # After each, so that what was measured stands even if the next one is cut off.
            report.write(sections, NAMES)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
