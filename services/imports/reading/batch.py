"""A batch of rows, checked a column at a time: the good rows as columns of values, the others with what is wrong.

    checked = check_batch(kind, mapping, header, batch)
    checked.values["title"]      # of the good rows, whose numbers are in checked.numbers

Duplicates are not looked for: only the database knows what exists.

A row that is shorter than the header is filled up with empty cells, as spreadsheets leave them away. One that is longer
fails where there is something in its surplus cells: then its cells are not where they should be, and nothing else is
said of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Final

from services.imports.reading.checks import Bad
from services.imports.reading.export import REASON, restore
from services.imports.reading.kinds import CUSTOM_VALUE_LONGEST, Field, Kind, normalize_key
from services.imports.reading.mapping import custom_name
from services.imports.reading.table import Batch
from services.imports.reading.texts import sentence

__all__ = ["Checked", "Issue", "check_batch"]

_ISSUES: Final = 5
"""So many of one row are told; whoever mends these will see the next ones."""


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that is wrong with a row; `column` is its header as the file writes it, None for the whole row."""

    row: int
    column: str | None
    code: str
    message: str


@dataclass(slots=True)
class Checked:
    """What was found in a batch. Each of its rows is either in `numbers` or in `failed`."""

    numbers: list[int] = field(default_factory=list)
    """Of the good rows, rising. All columns below are of these rows, in this order."""
    values: dict[str, list[Any]] = field(default_factory=dict)
    """By field, for the fields of the mapping. What an empty cell becomes is None, or the default of the field; fields
    that hold several values have lists, which equal cells share."""
    custom: dict[str, list[str]] | None = None
    """By name, for the custom fields of the mapping; None where it has none."""
    keys: dict[str, list[str | None]] = field(default_factory=dict)
    """Normalized, for the key fields of the mapping."""
    issues: list[Issue] = field(default_factory=list)
    """By row, and within a row by column."""
    failed: dict[int, list[str]] = field(default_factory=dict)
    """Cells of the rows that failed, as the file has them, by row number."""


def check_batch(kind: Kind, mapping: Mapping[str, int], header: Sequence[str], batch: Batch) -> Checked:
    """Check the rows of a batch. The mapping is one in which `check_mapping` finds nothing wrong."""
    width = len(header)
    bad: dict[int, list[tuple[int, str, dict[str, Any]]]] = {}
    rows = batch.rows
    if set(map(len, rows)) != {width}:
        rows = [_fitted(row, width) for row in rows]
        for index, (fitted, row) in enumerate(zip(rows, batch.rows, strict=True)):
            if len(fitted) > width:
                filled = max(place for place, cell in enumerate(row, 1) if cell)
                bad[index] = [(-1, "row_too_long", {"cells": filled, "columns": width})]
    shifted = set(bad)

    mended = REASON in header
    values: dict[str, list[Any]] = {}
    texts: dict[str, list[str]] = {}
    custom: dict[str, list[str]] = {}
    for name, column in mapping.items():
        cells = [row[column] for row in rows]
        if mended:
            cells = list(map(restore, cells))
        cells = list(map(str.strip, cells))
        own = custom_name(name)
        if own is None:
            texts[name] = cells
            values[name], wrong = _check(kind.field(name), cells)
        else:
            custom[own] = cells
            wrong = _too_long(cells, CUSTOM_VALUE_LONGEST)
        for index, code, fields in wrong:
            if index not in shifted:
                bad.setdefault(index, []).append((column, code, fields))

    checked = Checked()
    good: Sequence[bool] | None = None
    if bad:
        good = [index not in bad for index in range(len(rows))]
        for index in sorted(bad):
            number = batch.first + index
            checked.failed[number] = batch.rows[index]
            for column, code, fields in sorted(bad[index], key=lambda found: found[0])[:_ISSUES]:
                column_name = header[column] if column >= 0 else None
                checked.issues.append(Issue(number, column_name, code, sentence(code, **fields)))
    checked.numbers = _only(range(batch.first, batch.first + len(rows)), good)
    checked.values = {name: _only(column, good) for name, column in values.items()}
    for key in (name for names in kind.keys for name in names):
        if key in texts:
            checked.keys[key] = [normalize_key(text) or None for text in _only(texts[key], good)]
    if custom:
        checked.custom = {name: _only(column, good) for name, column in custom.items()}
    return checked


def _fitted(row: list[str], width: int) -> list[str]:
    """Return the row with as many cells as the header has; with more only if there is something in them."""
    if len(row) < width:
        return row + [""] * (width - len(row))
    return row if any(row[width:]) else row[:width]


def _check(field: Field, cells: list[str]) -> tuple[list[Any], list[Bad]]:
    bad = _too_long(cells, field.longest)
    if bad:
        # A check is not for texts of any length.
        cells = cells.copy()
        for index, _, _ in bad:
            cells[index] = ""
    long = {index for index, _, _ in bad}
    if "" in cells and field.required:
        bad += [
            (index, "required", {"label": field.label})
            for index, cell in enumerate(cells)
            if not cell and index not in long
        ]
    if field.check is not None:
        values, wrong = field.check(cells)
        bad += wrong
    else:
        values = cells
    if "" in cells and not field.many:
        values = [value if cell else field.default for cell, value in zip(cells, values, strict=True)]
    return values, bad


def _too_long(cells: list[str], limit: int) -> list[Bad]:
    if max(map(len, cells), default=0) <= limit:
        return []
    return [
        (index, "too_long", {"value": cell, "length": len(cell), "limit": limit})
        for index, cell in enumerate(cells)
        if len(cell) > limit
    ]


def _only(column: Sequence[Any], good: Sequence[bool] | None) -> list[Any]:
    return list(column) if good is None else list(compress(column, good))
