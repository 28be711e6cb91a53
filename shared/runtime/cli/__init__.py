"""The command line: `backroom`. What each command does is said by `backroom COMMAND --help`."""

from __future__ import annotations

import sys

import click

from shared.runtime.app import WiringError
from shared.runtime.cli import contracts, data, demo, doctor, jobs, serve
from shared.runtime.embedded.postgres import EmbeddedPostgresError
from shared.runtime.settings import BadSettings
from shared.sandbox.cli import sandbox

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="backroom")
def cli() -> None:
    """The back room of operational software: what the counter accepts at once, the back room gets done."""


for command in (
    demo.demo,
    serve.up,
    serve.api,
    serve.worker,
    serve.scheduler,
    data.db,
    doctor.doctor,
    jobs.jobs,
    jobs.queues,
    contracts.events,
    serve.token,
    sandbox,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; what is wrong with settings or wiring is a message, not a traceback."""
    try:
        cli(standalone_mode=True)
    except BadSettings as error:
        click.echo(f"The settings are not right:\n{error}", err=True)
        sys.exit(2)
    except WiringError as error:
        click.echo(f"The service is wired wrong:\n{error}", err=True)
        sys.exit(2)
    except EmbeddedPostgresError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except LookupError as error:
        click.echo(str(error.args[0] if error.args else error), err=True)
        sys.exit(2)
