"""The page for people: what was charged, what goes wrong by order, what was called."""

from html import escape
from typing import Any

from .core import Core

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 76rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; margin-bottom: 1.5rem; }
caption { text-align: left; font-weight: 600; font-size: 1.15rem; padding: .4rem 0; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; }
tr { border-bottom: 1px solid #8884; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
"""


def render(core: Core) -> str:
    """The whole page as HTML. Shows the last 100 ledger entries and the last 50 calls."""
    entries = core.books.entries()
    calls = core.calls.as_json(last=50)
    rules = [
        {**rule, "match": _brief(rule["match"]), "params": _brief(rule["params"])} for rule in core.faults.as_json()
    ]
    summary = (
        f"{len(entries)} ledger entries, {calls['total']} calls, {core.pauses.count} hanging now. "
        f"Seed {core.faults.seed}; clock shifted by {core.clock.offset:g} s; limits × {core.limits.scale:g}."
    )
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sandbox</title>',
            '<meta name="viewport" content="width=device-width"><style>',
            _STYLE,
            "</style></head><body><h1>Sandbox</h1><p>",
            escape(summary),
            "</p>",
            _table(
                "Ledger, newest first",
                ["seq", "time", "kind", "account", "amount", "currency", "transaction", "rate", "metadata"],
                entries[::-1][:100],
            ),
            _table("Faults in force", ["id", "kind", "match", "probability", "times", "params", "fired"], rules),
            _table("Calls by route and outcome", ["route", "outcome", "fault", "count"], calls["counts"]),
            _table(
                "Last calls",
                ["seq", "time", "method", "path", "account", "outcome", "fault", "seconds"],
                calls["last"],
            ),
            "</body></html>",
        ]
    )


def _table(caption: str, columns: list[str], rows: list[dict[str, Any]]) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_text(row.get(column)))}</td>" for column in columns) + "</tr>" for row in rows
    )
    if not rows:
        body = f'<tr><td colspan="{len(columns)}">none</td></tr>'
    title = f"<caption>{escape(caption)}</caption>"
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _brief(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items()) or "every call"
