"""Commands on events: replay, dead letters, contracts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from shared.context import SYSTEM, use
from shared.events import dead_letters as graves
from shared.events.export import BreakingChange, export
from shared.events.replay import replay
from shared.runtime.app import App, build
from shared.runtime.service import all_services, find_service
from shared.runtime.settings import Settings, load

__all__ = ["events"]

_service = click.option("--service", required=True, help="Whose events.")
_moment = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S"])


@contextmanager
def _app(service: str) -> Iterator[App]:
    app = build(find_service(service), load(Settings))
    token = app.database.bind()
    try:
        with use(service=service, tenant_id=SYSTEM, principal="operator"):
            yield app
    finally:
        app.database.unbind(token)


@contextmanager
def _dead_letters(service: str) -> Iterator[graves.DeadLetters]:
    with _app(service) as app:
        if app.settings.broker_url is None:
            raise click.ClickException("Without BACKROOM_BROKER_URL dead letters live in the process that runs all.")
        try:
            yield graves.dead_letters(app.broker)
        except (graves.BrokerAway, graves.NotAsMany) as error:
            raise click.ClickException(str(error)) from error


@click.group()
def events() -> None:
    """Replay events, look after dead letters, export contracts."""


@events.command("export")
@click.option("--directory", type=click.Path(path_type=Path), default=Path("docs/contracts"), show_default=True)
def export_contracts(directory: Path) -> None:
    """Write the schemas, examples and the AsyncAPI document of all contracts."""
    try:
        written = export(directory, all_services())
    except BreakingChange as error:
        raise click.ClickException(str(error)) from error
    for path in written:
        click.echo(path)


@events.command("replay")
@_service
@click.option("--type", "types", multiple=True, help="Only events of this type; may be given several times.")
@click.option("--since", type=_moment, help="Only events from then on (UTC).")
@click.option("--until", type=_moment, help="Only events before then (UTC).")
@click.option("--tenant", help="Only events of this tenant.")
@click.option("--id", "ids", type=click.UUID, multiple=True, help="Only this event; may be given several times.")
@click.option("--force", is_flag=True, help="Tell them as new events: every handler runs again.")
def replay_events(
    service: str,
    types: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    tenant: str | None,
    ids: tuple[uuid.UUID, ...],
    force: bool,
) -> None:
    """Publish events of the outbox again. Handlers that had one let it pass, unless it is forced."""
    with _app(service):
        try:
            count = replay(
                types=types or None,
                since=since and since.replace(tzinfo=UTC),
                until=until and until.replace(tzinfo=UTC),
                tenant_id=tenant,
                ids=ids or None,
                force=force,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    click.echo(f"{count} events are told again.")


@events.group("dead")
def dead() -> None:
    """Dead letters: messages that nobody could handle."""


@dead.command("list")
@_service
@click.option("--queue", help="Show the letters of this queue, oldest first.")
@click.option("--limit", default=20, show_default=True)
def list_dead(service: str, queue: str | None, limit: int) -> None:
    """Count dead letters by queue, or show those of one queue."""
    with _dead_letters(service) as letters:
        if queue is None:
            for name, count in letters.counts().items():
                click.echo(f"{count:8} {name}")
            return
        for letter in letters.peek(queue, limit):
            died = letter.died_at.isoformat(timespec="seconds") if letter.died_at else "?"
            click.echo(f"{died}  {letter.reason}\n    {json.dumps(letter.body[:500].decode(errors='replace'))}")


@dead.command("redrive")
@_service
@click.argument("queue")
@click.option("--limit", type=int, help="At most so many, oldest first.")
def redrive(service: str, queue: str, limit: int | None) -> None:
    """Move dead letters back to the queue in which they died."""
    with _dead_letters(service) as letters:
        click.echo(f"{letters.redrive(queue, limit)} moved back to {queue}.")


@dead.command("purge")
@_service
@click.argument("queue")
@click.option("--expected", type=int, required=True, help="How many there are; none is deleted if there are not.")
def purge(service: str, queue: str, expected: int) -> None:
    """Delete the dead letters of a queue for ever."""
    with _dead_letters(service) as letters:
        letters.purge(queue, expected=expected)
        click.echo(f"{expected} deleted.")
