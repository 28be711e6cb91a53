"""The report of a run, for people: a table, the seed, and every violation."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tests.chaos.harness import Outcome

__all__ = ["report"]


def report(outcome: Outcome, console: Console | None = None) -> None:
    """Print what a run found."""
    console = console or Console(width=110, highlight=False)
    plan, verdict = outcome.plan, outcome.verdict
    table = Table(title=f"Chaos on {outcome.target}, seed {plan.seed}", title_justify="left")
    table.add_column("What")
    table.add_column("How many", justify="right")
    for name, figure in verdict.figures.items():
        table.add_row(name, str(figure))
    console.print(table)
    faults = Table(title=f"Faults: {sum(outcome.faults.values())}", title_justify="left")
    faults.add_column("Fault")
    faults.add_column("Struck", justify="right")
    for kind, count in sorted(outcome.faults.items()):
        faults.add_row(kind, str(count))
    for kind, count in sorted(outcome.missed.items()):
        faults.add_row(f"{kind} (nobody there)", f"({count})")
    for kind, count in sorted(outcome.sandbox.items()):
        faults.add_row(f"sandbox: {kind}", str(count))
    console.print(faults)
    console.print("restarts: " + ", ".join(f"{name} {count}" for name, count in outcome.restarts.items()))
    console.print("seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in outcome.phases.items()))
    for note in verdict.notes:
        console.print(note, soft_wrap=True)
    for violation in verdict.violations:
        console.print(f"[red]{violation.kind}[/red]: {violation.what}", soft_wrap=True)
    if verdict.violations:
        console.print(f"[red]{len(verdict.violations)} violations[/red] with seed {plan.seed}")
    else:
        console.print(f"[green]nothing lost, nothing charged twice, every job ended[/green] (seed {plan.seed})")
