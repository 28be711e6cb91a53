"""Pages of reference that are made from the code: settings and jobs.

    python -m shared.runtime.reference            writes docs/reference/settings.md and jobs.md
    python -m shared.runtime.reference --check    ends 1 where a page is out of date

A test does the latter, so that the pages cannot fall behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from shared.jobs.actor import DEFAULT_RETRY, Actor
from shared.jobs.failures import COMMON, FailureText
from shared.runtime.service import LIBRARY, Service, all_services
from shared.runtime.settings import Settings

__all__ = ["jobs_page", "main", "pages", "settings_page"]

_MADE = "<!-- Made by `python -m shared.runtime.reference`; change the code, not this page. -->"


def pages() -> dict[str, str]:
    """Return the text of each generated page, by its path below the root of the project."""
    services = all_services()
    return {
        "docs/reference/settings.md": settings_page(services),
        "docs/reference/jobs.md": jobs_page(services),
    }


# -- settings ------------------------------------------------------------------------------------------


def settings_page(services: Iterable[Service]) -> str:
    """Return the page of all settings: those that services share, then those of each service."""
    lines = [
        "# Settings",
        "",
        _MADE,
        "",
        "Settings come from environment variables alone.",
        "They are read once, when a program starts.",
        "What is wrong is said all at once, a misspelt name included, and the program ends with 2.",
        "Lists and other structured values are JSON.",
        "",
        "## Of every service",
        "",
        *_settings(Settings),
    ]
    for service in services:
        kind = service.settings_class()
        if kind is not None:
            lines += ["", f"## Of {service.name}", "", *_settings(kind)]
    return "\n".join(lines) + "\n"


def _settings(kind: type[BaseSettings]) -> Iterator[str]:
    prefix = kind.model_config.get("env_prefix", "")
    yield "| Setting | Default | Meaning |"
    yield "|---|---|---|"
    for name, field in kind.model_fields.items():
        meaning = field.description or ""
        if field.examples:
            meaning += f" For example `{field.examples[0]}`."
        yield f"| `{prefix}{name}`".upper() + f" | {_default(field)} | {_cell(meaning)} |"


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return ""
    if isinstance(value, Path):
        return f"`{value}`"
    if isinstance(value, bool | tuple | list | dict):
        return f"`{json.dumps(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


# -- jobs ----------------------------------------------------------------------------------------------


def jobs_page(services: Sequence[Service]) -> str:
    """Return the page of all jobs, their schedules, and what people are told when one fails."""
    lines = [
        "# Jobs",
        "",
        _MADE,
        "",
        "Every job that the services know, by service.",
        "",
        "- **Kind**: a *transactional* job touches its own database only, and its effect and its end are one commit;",
        "  a *leased* one may call the outside, and waits while its workspace is suspended, unless it says otherwise;",
        "  a *handler* is born by an event.",
        "- **Unique**: at most one live job per value of these arguments and tenant; *one* means one at all.",
        f"- **Retries**: seconds between tries; {_seconds(DEFAULT_RETRY)} where nothing is said.",
        "- **Schedule**: minute, hour, day of the month, month, day of the week, in UTC.",
        "  Times that were missed are caught up once, unless another policy is named.",
        "- **Limit**: seconds that one run may take; 600 where nothing is said.",
    ]
    library = [declared for declared in services[0].actors() if _of_library(declared)] if services else []
    lines += ["", "## Every service", "", *_jobs(library), "", *_failures(COMMON)]
    for service in services:
        own = [declared for declared in service.actors() if not _of_library(declared)]
        texts = {code: text for code, text in service.failures().items() if COMMON.get(code) != text}
        lines += ["", f"## {service.title}", "", *_jobs(own)]
        if texts:
            lines += ["", *_failures(texts)]
    return "\n".join(lines) + "\n"


def _of_library(declared: Actor[Any, Any]) -> bool:
    return declared.fn.__module__.startswith(LIBRARY)


def _jobs(actors: Iterable[Actor[Any, Any]]) -> Iterator[str]:
    yield "| Job | Queue | Kind | Unique | Schedule | Retries | Limit | What it does |"
    yield "|---|---|---|---|---|---|---|---|"
    for declared in sorted(actors, key=lambda one: one.actor_name):
        cells = (
            f"`{declared.actor_name}`",
            declared.queue_name,
            _kind(declared),
            _unique(declared.job.unique),
            _schedule(declared),
            "" if tuple(declared.job.retry) == tuple(DEFAULT_RETRY) else _seconds(declared.job.retry),
            "" if declared.job.time_limit == 600 else f"{declared.job.time_limit:g}",
            _cell((declared.fn.__doc__ or declared.job.subject or "").strip().splitlines()[0]),
        )
        yield "| " + " | ".join(cells) + " |"


def _kind(declared: Actor[Any, Any]) -> str:
    kind = "transactional" if declared.job.transactional else "leased"
    kind += ", also while suspended" if declared.job.standing == "any" else ""
    return f"handler of `{declared.job.event_type}`, {kind}" if declared.job.event_type else kind


def _unique(names: str | tuple[str, ...] | None) -> str:
    if names is None:
        return ""
    return ", ".join(f"`{name}`" for name in ((names,) if isinstance(names, str) else names)) or "one"


def _schedule(declared: Actor[Any, Any]) -> str:
    if declared.job.periodic is None:
        return ""
    policy = "" if declared.job.catch_up == "once" else f", {declared.job.catch_up}"
    return f"`{declared.job.periodic}`{policy}"


def _seconds(delays: Sequence[float]) -> str:
    return ", ".join(f"{delay:g}" for delay in delays) or "none"


def _failures(texts: Any) -> Iterator[str]:
    yield "| Failure code | What happened | What you can do |"
    yield "|---|---|---|"
    text: FailureText
    for code, text in sorted(texts.items()):
        yield f"| `{code}` | {_cell(text.what)} | {_cell(text.action)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


# -- the program ---------------------------------------------------------------------------------------


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; end 1 where a page is out of date.")
@click.option("--root", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="The project.")
def main(check: bool, root: Path) -> None:
    """Write the pages of reference that are made from the code."""
    stale = []
    for name, text in pages().items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for name in stale:
        click.echo(f"{name}: {'out of date' if check else 'written'}", err=check)
    if stale and check:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
