"""`backroom doctor`: what is wired, what is wrong, and how to mend it."""

from __future__ import annotations

import click
from rich.console import Console

from shared.runtime.diagnosis import examine
from shared.runtime.service import all_services, find_service
from shared.runtime.settings import Settings, load

__all__ = ["doctor"]


@click.command()
@click.argument("services", nargs=-1)
def doctor(services: tuple[str, ...]) -> None:
    """Examine SERVICES, by default all; ends 1 where something is wrong."""
    console = Console()
    settings = load(Settings)
    healthy = True
    for service in [find_service(name) for name in services] or all_services():
        console.print(f"[bold]{service.name}[/bold]")
        for finding in examine(service, settings):
            mark = {"ok": "[green]ok[/green]  ", "warning": "[yellow]look[/yellow]", "wrong": "[red]bad[/red] "}
            console.print(f"  {mark[finding.level]} {finding.what}")
            if finding.mend:
                console.print(f"       → {finding.mend}")
            healthy = healthy and finding.level != "wrong"
    raise SystemExit(0 if healthy else 1)
