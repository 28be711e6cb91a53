"""The `sandbox` command."""

import json
import signal
import threading
from pathlib import Path

import click

from .core import Options
from .faults import BadRule, FaultBook
from .ledger import NotALedger
from .presets import PRESETS
from .server import Server


@click.command()
@click.option("--port", default=4010, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--smtp-port", type=int, help="Port of the mail server; by default 1025, or a free one with --port 0.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--seed", type=int, help="Seed of chance. Without it one is drawn, and shown.")
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that the books are kept in, so that they survive a kill of the sandbox.",
)
@click.option(
    "--faults",
    default="none",
    show_default=True,
    metavar="PRESET|FILE.json",
    help=f"Fault rules to start with: {', '.join(PRESETS)}, or a file with a list of rules.",
)
@click.option("--limits", default=1.0, show_default=True, help="Factor on documented rate limits; 0: off.")
@click.option("--public-url", help="How others reach the sandbox, for links in webhooks.")
@click.option("--webhook-secret", envvar="SANDBOX_WEBHOOK_SECRET", help="Sign webhooks with this secret.")
def sandbox(
    port: int,
    smtp_port: int | None,
    host: str,
    seed: int | None,
    ledger: Path | None,
    faults: str,
    limits: float,
    public_url: str | None,
    webhook_secret: str | None,
) -> None:
    """Stand in for third parties over real HTTP, and go wrong on request.

    Whoever reaches it controls it: keep it to networks for development and tests.
    Runs until SIGINT or SIGTERM. The page at / shows what was charged.
    """
    rules = PRESETS[faults] if faults in PRESETS else _read(Path(faults))
    try:
        FaultBook().add(rules)
    except BadRule as error:
        raise click.BadParameter(str(error), param_hint="--faults") from error
    options = Options(
        seed=seed,
        ledger=ledger,
        limits=limits,
        public_url=public_url,
        webhook_secret=webhook_secret,
        smtp_port=smtp_port if smtp_port is not None else 1025 if port else 0,
    )
    try:
        server = Server(options, host, port)
    except (OSError, NotALedger) as error:
        raise click.ClickException(f"cannot start on {host}:{port}: {error}") from error
    server.core.faults.add(rules)

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    server.start()
    click.echo(f"Sandbox at {server.url} (seed {server.core.faults.seed}, faults: {faults})")
    click.echo(f"Mail server at {host}:{server.core.smtp_port}; what it takes is at {server.url}/mail")
    stopped.wait()
    server.stop()


def _read(file: Path) -> list[dict[str, object]]:
    try:
        rules = json.loads(file.read_text())
    except OSError as error:
        raise click.BadParameter(
            f"neither a preset ({', '.join(PRESETS)}) nor a readable file: {file}", param_hint="--faults"
        ) from error
    except ValueError as error:
        raise click.BadParameter(f"{file} is not JSON: {error}", param_hint="--faults") from error
    return rules if isinstance(rules, list) else [rules]
