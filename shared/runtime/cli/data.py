"""Commands on databases."""

from __future__ import annotations

import click

from shared.db.migrate import is_current, upgrade
from shared.runtime.service import all_services, find_service
from shared.runtime.settings import Settings, load

__all__ = ["db"]


@click.group()
def db() -> None:
    """The databases of the services."""


@db.command("upgrade")
@click.argument("services", nargs=-1)
@click.option("--revision", default="heads", show_default=True)
def upgrade_command(services: tuple[str, ...], revision: str) -> None:
    """Migrate the databases of SERVICES, by default of all; makes a database that is missing."""
    settings = load(Settings)
    chosen = [find_service(name) for name in services] or all_services()
    for service in chosen:
        settings.database(service.name)
        upgrade(settings.migration_database(service.name), service.migrations(), revision=revision)
        click.echo(f"{service.name}: up to date")


@db.command("check")
@click.argument("services", nargs=-1)
def check_command(services: tuple[str, ...]) -> None:
    """Say whether databases stand at what this code needs; ends 1 where one does not."""
    settings = load(Settings)
    chosen = [find_service(name) for name in services] or all_services()
    behind = [s.name for s in chosen if not is_current(settings.migration_database(s.name), s.migrations())]
    for name in behind:
        click.echo(f"{name}: needs `backroom db upgrade {name}`", err=True)
    raise SystemExit(1 if behind else 0)
