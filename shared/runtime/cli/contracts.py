"""Commands on events: replay, dead letters, contracts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from shared.context import use
from shared.events import export
from shared.events.dead_letters import BrokerAway, DeadLetters, NotAsMany, dead_letters
from shared.events.replay import replay
from shared.runtime.app import App, build
from shared.runtime.service import all_services, find_service
from shared.runtime.settings import Settings, load

__all__ = ["events"]

_service = click.option("--service", required=True, help="Whose events.")
_time = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])


def _build(service: str) -> App:
    app = build(find_service(service), load(Settings))
    app.database.use_as_default()
    return app


@click.group()
def events() -> None:
    """Replay events, look after dead letters, export contracts."""


@events.command("replay")
@_service
@click.option("--type", "types", multiple=True, help="Only events of this type; may be given several times.")
@click.option("--since", type=_time, help="Only events from then on (UTC).")
@click.option("--until", type=_time, help="Only events before then (UTC).")
@click.option("--tenant", help="Only events of this tenant.")
@click.option("--id", "ids", type=click.UUID, multiple=True, help="Only this event; may be given several times.")
@click.option("--force", is_flag=True, help="As new events: handlers that had them run again.")
def replay_command(
    service: str,
    types: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    tenant: str | None,
    ids: tuple[uuid.UUID, ...],
    force: bool,
) -> None:
    """Publish again what SERVICE published before. Handlers that had an event let it pass, unless forced."""
    _build(service)
    with use(service=service, principal="operator"):
        try:
            count = replay(
                types=types or None,
                since=_utc(since),
                until=_utc(until),
                tenant_id=tenant,
                ids=ids or None,
                force=force,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    click.echo(f"{count} events are published again")


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


@events.group()
def dead() -> None:
    """Dead letters: what nobody could make sense of."""


@contextmanager
def _letters(service: str) -> Iterator[DeadLetters]:
    try:
        yield dead_letters(_build(service).broker)
    except BrokerAway as error:
        raise click.ClickException(str(error)) from error
    except NotAsMany as error:
        raise click.ClickException(str(error)) from error


@dead.command("list")
@_service
@click.option("--limit", default=20, show_default=True)
def list_dead(service: str, limit: int) -> None:
    """Count them, and show the oldest of each queue; they stay where they are."""
    with _letters(service) as letters:
        table = Table("queue", "died", "reason", "body")
        for queue, count in letters.counts().items():
            click.echo(f"{queue}: {count}")
            for letter in letters.peek(queue, limit) if count else ():
                table.add_row(
                    queue, str(letter.died_at or ""), letter.reason, letter.body[:200].decode(errors="replace")
                )
        if table.row_count:
            Console().print(table)


@dead.command()
@_service
@click.argument("queue")
@click.option("--limit", type=int, help="At most so many.")
def redrive(service: str, queue: str, limit: int | None) -> None:
    """Move the dead letters of QUEUE back to where they died, oldest first."""
    with _letters(service) as letters:
        click.echo(f"{letters.redrive(queue, limit)} went back to {queue}")


@dead.command()
@_service
@click.argument("queue")
@click.option("--expected", type=int, required=True, help="How many there are; nothing is deleted if it is not true.")
def purge(service: str, queue: str, expected: int) -> None:
    """Delete the dead letters of QUEUE for ever."""
    with _letters(service) as letters:
        letters.purge(queue, expected=expected)
        click.echo(f"{expected} of {queue} are gone")


@events.command("export")
@click.option("--to", type=click.Path(path_type=Path), default=Path("docs/contracts"), show_default=True)
def export_command(to: Path) -> None:
    """Write the JSON Schemas, examples and the AsyncAPI document of all services."""
    try:
        written = export.export(to, all_services())
    except export.BreakingChange as error:
        raise click.ClickException(str(error)) from error
    for path in written:
        click.echo(path)
    click.echo(f"{len(written)} files changed")
