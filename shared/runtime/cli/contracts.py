"""Commands on events: replay, dead letters, contracts."""

from __future__ import annotations

import click

__all__ = ["events"]


@click.group()
def events() -> None:
    """Replay events, look after dead letters, export contracts."""
