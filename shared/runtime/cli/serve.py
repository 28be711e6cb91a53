"""Commands that run something: `up`, `api`, `worker`, `scheduler`, and `token` to call what runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import click

from shared.context import set_process_defaults
from shared.runtime import together
from shared.runtime.app import App, build
from shared.runtime.embedded.group import Group
from shared.runtime.ports import serve_probes
from shared.runtime.secrets import Secrets
from shared.runtime.service import find_service
from shared.runtime.settings import Settings, load
from shared.telemetry import Heartbeat, configure_telemetry
from shared.web.serve import gunicorn_options

__all__ = ["api", "scheduler", "token", "up", "worker"]


def until_told_to_stop() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _build(name: str) -> App:
    settings = load(Settings)
    app = build(find_service(name), settings)
    app.database.use_as_default()
    set_process_defaults(service=name)
    configure_telemetry(name, level=settings.log_level, version=app.version, env=settings.env)
    return app


@click.command()
def up() -> None:
    """Run everything in this process, until Ctrl-C; embedded where no real parts are configured."""
    settings = load(Settings)
    configure_telemetry("backroom", level=settings.log_level, version="", env=settings.env)
    stop = until_told_to_stop()
    with Group(settings) as group:
        click.echo("")
        for name, member in group.members.items():
            click.echo(f"  {name:<14} {member.url}   (documented at {member.url}/openapi.json)")
        assert group.sandbox is not None
        click.echo(f"  {'sandbox':<14} {group.sandbox.url}   (plays the third parties; mails are at /mail)")
        click.echo("\n  A token to call them with:  backroom token --tenant acme --role owner\n")
        stop.wait()
        click.echo("stopping")


@click.command()
@click.argument("service")
def api(service: str) -> None:
    """Serve the API of SERVICE over gunicorn."""
    from gunicorn.app.base import BaseApplication

    settings = load(Settings)
    find_service(service)

    class Application(BaseApplication):
        def load_config(self) -> None:
            options = gunicorn_options(
                bind=f"{settings.host}:{settings.port}", threads=settings.web_threads, workers=settings.web_processes
            )
            for key, value in options.items():
                self.cfg.set(key, value)

        def load(self) -> Any:
            # After the fork, so that each process has connections of its own.
            return _build(service).web()

    Application().run()


@click.command()
@click.argument("service")
def worker(service: str) -> None:
    """Run workers of SERVICE and its relay, under Dramatiq's own command."""
    settings = load(Settings)
    if settings.broker_url is None:
        raise click.UsageError("a worker of its own needs BACKROOM_BROKER_URL; without it, use `backroom up`")
    find_service(service)
    arguments = [
        sys.executable,
        "-m",
        "dramatiq",
        "--skip-logging",
        "--processes",
        str(settings.worker_processes),
        "--threads",
        str(settings.worker_threads),
        "--worker-shutdown-timeout",
        str(int(settings.shutdown_seconds * 1000)),
        "shared.runtime.worker:broker",
    ]
    environment = {**os.environ, "BACKROOM_SERVICE": service, **together.lock_environment()}
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - the program is this Python


@click.command()
@click.argument("service")
def scheduler(service: str) -> None:
    """Run the scheduler of SERVICE; a second one at the same time does no harm."""
    app = _build(service)
    stop = until_told_to_stop()
    heartbeat = Heartbeat(150)
    running = app.scheduler()
    running.beat = heartbeat.beat
    serve_probes(app.settings, heartbeat)
    running.run(stop)


@click.command()
@click.option("--tenant", required=True, help="The workspace.")
@click.option("--principal", default="user:developer", show_default=True)
@click.option("--role", type=click.Choice(["owner", "manager", "sales", "fulfillment"]), default="owner")
@click.option("--hours", default=8.0, show_default=True, help="How long it is good for.")
def token(tenant: str, principal: str, role: str, hours: float) -> None:
    """Print a bearer token for the APIs of `backroom up`."""
    signer = Secrets.from_settings(load(Settings)).signer
    if signer is None:
        raise click.UsageError("tokens are issued elsewhere: BACKROOM_JWKS is set")
    click.echo(signer.issue(tenant, principal, role, hours * 3600))
