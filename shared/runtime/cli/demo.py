"""`backroom demo`: the main job of the product, run for real, on a machine that has only Python."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from shared.runtime.embedded.group import Group
from shared.runtime.service import all_services
from shared.runtime.settings import Settings, load
from shared.telemetry import configure_telemetry

__all__ = ["demo"]

RETRY_SCALE = 0.02
_PICTURE_WIDTH = 90
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


@click.command()
@click.option("--seed", default=7, show_default=True, help="Decides what goes wrong, and when.")
@click.option("--keep", is_flag=True, help="Keep the demo's data directory.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), hidden=True, help="Draw what was shown.")
def demo(seed: int, keep: bool, svg: Path | None) -> None:
    """Tell the story, a chapter by each service that has a part in it, against third parties that misbehave.

    Ends 0 only if what the third parties' books say agrees with ours.
    """
    # Recorded as a pipe would see it: a terminal's bars are drawn anew ten times a second, and all would be kept.
    console = Console() if svg is None else Console(record=True, force_terminal=False, width=_PICTURE_WIDTH)
    given = load(Settings)
    directory = Path(tempfile.mkdtemp(prefix="backroom-demo-"))
    settings = given.model_copy(
        update={
            "data_dir": directory,
            "database_url": None,
            "broker_url": None,
            "retry_scale": RETRY_SCALE,
            "port": 18400,
            "log_level": "ERROR",
        }
    )
    configure_telemetry("demo", level="ERROR", version="", env="demo")
    console.print("[bold]Backroom demo[/bold]: an embedded PostgreSQL, an in-process broker, the sandbox as carrier.")
    console.print(
        f"Waits between retries are shortened for the demo: BACKROOM_RETRY_SCALE={RETRY_SCALE} "
        "(10 s, 1 min and 10 min become 0.2 s, 1.2 s and 12 s)."
    )
    stories = [story for service in all_services() if (story := service.part("demo")) is not None]
    for story in stories:
        os.environ.update(story.ENVIRONMENT)
    agreed = True
    try:
        with Group(settings, sandbox={"port": 0, "seed": seed, "limits": 0, "ledger": None}) as group:
            for _, chapter in sorted(
                ((at, chapter) for story in stories for at, chapter in story.CHAPTERS.items()), key=lambda one: one[0]
            ):
                agreed = chapter(group, console, seed) and agreed
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    console.print(
        "[bold green]All accounts agree.[/bold green]" if agreed else "[bold red]They do not agree.[/bold red]"
    )
    if svg is not None:
        draw(console, svg)
    sys.exit(0 if agreed else 1)


def draw(console: Console, path: Path) -> None:
    """Write what the console recorded as a picture that needs nothing from elsewhere, fonts included."""
    picture = console.export_svg(title="make demo", unique_id="demo")
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    picture = picture.replace("Fira Code, monospace", _FONTS)
    path.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n", encoding="utf-8")
