"""Commands of operators on jobs and queues. They see all tenants; who may run them is whoever has the settings."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.jobs import operations
from shared.jobs.models import STATES, Attempt, Job
from shared.runtime.app import App, build
from shared.runtime.service import find_service
from shared.runtime.settings import Settings, load

__all__ = ["jobs", "queues"]

_service = click.option("--service", required=True, help="Whose jobs.")


@contextmanager
def _system(service: str, tenant: str = SYSTEM) -> Iterator[tuple[App, Session]]:
    app = build(find_service(service), load(Settings))
    with use(service=service, tenant_id=tenant, principal="operator"), unit_of_work(database=app.database) as session:
        token = app.database.bind()
        try:
            yield app, session
        except operations.NoSuchJob as error:
            raise click.ClickException(str(error)) from error
        except operations.NotPossible as error:
            raise click.ClickException(str(error)) from error
        finally:
            app.database.unbind(token)


@click.group()
def jobs() -> None:
    """Look at jobs, ask why they wait, send, retry and cancel them."""


@jobs.command("list")
@_service
@click.option("--state", type=click.Choice(STATES))
@click.option("--actor")
@click.option("--tenant")
@click.option("--limit", default=30, show_default=True)
def list_jobs(service: str, state: str | None, actor: str | None, tenant: str | None, limit: int) -> None:
    """List jobs, newest first."""
    with _system(service) as (_, session):
        query = select(Job).order_by(Job.id.desc()).limit(limit)
        for column, value in ((Job.state, state), (Job.actor, actor), (Job.tenant_id, tenant)):
            if value:
                query = query.where(column == value)
        table = Table("id", "tenant", "actor", "subject", "state", "runs", "waiting for")
        for job in session.scalars(query):
            table.add_row(str(job.id), job.tenant_id, job.actor, job.subject, job.state, str(job.runs), job.waiting_for)
        Console().print(table)


@jobs.command()
@_service
@click.argument("job_id", type=click.UUID)
def show(service: str, job_id: uuid.UUID) -> None:
    """Show a job with its attempts, as JSON."""
    with _system(service) as (_, session):
        job = session.get(Job, job_id)
        if job is None:
            raise click.ClickException(f"there is no job {job_id}")
        attempts = session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number))
        shown = {**_columns(job), "attempts": [_columns(attempt) for attempt in attempts]}
        click.echo(json.dumps(shown, indent=2, default=str))


def _columns(record: Any) -> dict[str, Any]:
    return {column.key: getattr(record, column.key) for column in record.__table__.columns}


@jobs.command()
@_service
@click.argument("job_id", type=click.UUID)
def why(service: str, job_id: uuid.UUID) -> None:
    """Say why a job is where it is."""
    with _system(service) as (app, session):
        job = session.get(Job, job_id)
        queue = next((queue for queue in app.queues if job is not None and queue.name == job.queue), None)
        answer = operations.why(
            session,
            job_id,
            provider=queue.provider if queue else None,
            per_tenant=queue.per_tenant if queue else None,
            waiting=app.service.waiting(),
            actors=app.actors,
        )
        until = f" (until {answer.until:%Y-%m-%d %H:%M:%S} UTC)" if answer.until else ""
        click.echo(f"{answer.reason}: {answer.detail}{until}")


@jobs.command()
@_service
@click.argument("job_ids", type=click.UUID, nargs=-1, required=True)
def retry(service: str, job_ids: tuple[uuid.UUID, ...]) -> None:
    """Run failed or cancelled jobs again."""
    with _system(service) as (_, session):
        for job_id in job_ids:
            click.echo(f"{job_id}: {operations.retry(session, job_id).state}")


@jobs.command()
@_service
@click.argument("job_ids", type=click.UUID, nargs=-1, required=True)
def cancel(service: str, job_ids: tuple[uuid.UUID, ...]) -> None:
    """Cancel jobs; those that run are asked to stop."""
    with _system(service) as (app, session):
        for job_id in job_ids:
            click.echo(f"{job_id}: {operations.cancel(session, job_id, actors=app.actors).state}")


@jobs.command()
@_service
@click.option("--tenant", default=SYSTEM, show_default=True, help="In which workspace; sweeps are of none.")
@click.argument("actor")
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
def send(service: str, tenant: str, actor: str, arguments: tuple[str, ...]) -> None:
    """Send a job of ACTOR. A value is JSON, or else the text that it is."""
    with _system(service, tenant) as (app, _):
        if actor not in app.actors:
            raise click.ClickException(f"{service} has no job {actor!r}; it has: {', '.join(sorted(app.actors))}")
        try:
            message = app.actors[actor].send(**dict(_argument(argument) for argument in arguments))
        except TypeError as error:
            raise click.ClickException(f"{actor}: {error}") from error
        click.echo(message.message_id)


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.ClickException(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@click.group()
def queues() -> None:
    """Pause and resume queues."""


@queues.command()
@_service
@click.argument("queue")
@click.option("--reason", default="", help="Shown to whoever asks why a job waits.")
def pause(service: str, queue: str, reason: str) -> None:
    """Hand out nothing more from QUEUE."""
    with _system(service) as (_, session):
        operations.pause(session, queue, reason)
        click.echo(f"{queue}: paused")


@queues.command()
@_service
@click.argument("queue")
def resume(service: str, queue: str) -> None:
    """Hand out from QUEUE again."""
    with _system(service) as (_, session):
        operations.resume(session, queue)
        click.echo(f"{queue}: resumed")
