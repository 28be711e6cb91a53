"""Rows of a file laid out for the database: the good ones column by column, the failed ones with what is wrong.

    laid = lay_out(KINDS["samples"], mapping, header, batch)
    staged = stage(laid.numbers, laid.columns)              # the good rows, as COPY reads them

Pure, and of the standard library but for the making of ids: it runs in processes that import little.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import uuid_utils

from services.imports.reading.batch import Issue, check_batch
from services.imports.reading.checks import LEVEL, normalize_key
from services.imports.reading.kinds import Kind
from services.imports.reading.table import Batch
from services.imports.tables import TABLES

__all__ = ["Columns", "Failure", "Laid", "Staged", "lay_out", "stage"]

_SPECIAL: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

Columns = dict[str, Sequence[str | None]]


@dataclass(slots=True)
class Failure:
    """A row that failed: what is wrong with it, and its cells as they were."""

    row: int
    issues: list[dict[str, Any]]
    cells: list[str]


@dataclass(slots=True)
class Laid:
    """A batch, laid out."""

    count: int
    numbers: list[int]
    """Of the good rows in the file, rising."""
    columns: Columns
    """Of the good rows: the columns of the kind's table, also its keys (`title_key`); values as text, None is null."""
    failures: list[Failure]
    categories: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """{path key: (name, path key of the parent)}"""
    images: dict[int, list[str]] = field(default_factory=dict)
    """URLs of a row's pictures."""


@dataclass(slots=True)
class Staged:
    """Good rows in the format of COPY."""

    numbers: list[int]
    names: list[str]
    """Of the columns. One that is missing keeps its default, and what an update finds."""
    data: bytes
    """Number, id and columns of each row; the id is that of its record, if it becomes a new one."""


def lay_out(kind: Kind, mapping: Mapping[str, int], header: Sequence[str], batch: Batch) -> Laid:
    """Check the rows of a batch and lay out the good ones. The mapping is one that `check_mapping` lets pass."""
    checked = check_batch(kind, mapping, header, batch)
    table = TABLES[kind.name]
    columns: Columns = {}
    categories: dict[str, tuple[str, str | None]] = {}
    images: dict[int, list[str]] = {}
    for name, values in checked.values.items():
        if name == "category":
            # Equal cells share one list, and most catalogs have far fewer categories than rows.
            distinct = {id(value): value for value in values}
            paths = {known: json.dumps(_paths(value, categories)) for known, value in distinct.items()}
            columns["categories"] = [paths[id(value)] for value in values]
        elif name == "image_url":
            images = {row: urls for row, urls in zip(checked.numbers, values, strict=True) if urls}
        elif table.columns[name] == "jsonb":
            columns[name] = [json.dumps(value) for value in values]
        elif table.columns[name] != "text":
            columns[name] = [None if value is None else str(value) for value in values]
        elif name in table.nullable:
            columns[name] = [value or None for value in values]
        else:
            columns[name] = values
    if checked.custom is not None:
        columns["custom_fields"] = _objects(checked.custom)
    for name, keys in checked.keys.items():
        columns[f"{name}_key"] = keys
    failures = _failures(checked.issues, checked.failed)
    return Laid(len(batch.rows), checked.numbers, columns, failures, categories, images)


def stage(numbers: list[int], columns: Columns) -> Staged:
    """Write good rows as COPY reads them."""
    ids = (str(uuid_utils.uuid7()) for _ in numbers)
    cells = (map(str, numbers), ids, *map(_escaped, columns.values()))
    lines = "\n".join(map("\t".join, zip(*cells, strict=True)))
    data = f"{lines}\n".encode() if numbers else b""
    return Staged(numbers, list(columns), data)


def _escaped(column: Sequence[str | None]) -> Iterable[str]:
    """Return the cells in COPY's text format; a column without anything special in it goes as it is."""
    try:
        joined = "".join(column)  # type: ignore[arg-type]
    except TypeError:
        return ["\\N" if cell is None else cell.translate(_SPECIAL) for cell in column]
    if "\\" in joined or "\t" in joined or "\n" in joined or "\r" in joined:
        return [cell.translate(_SPECIAL) for cell in column if cell is not None]
    return column  # type: ignore[return-value]


def _paths(value: Iterable[Sequence[str]], known: dict[str, tuple[str, str | None]]) -> list[str]:
    """Return the keys of a record's categories; note them and their parents."""
    keys = []
    for path in value:
        key: str | None = None
        for name in path:
            parent, key = key, f"{key}{LEVEL}{normalize_key(name)}" if key else normalize_key(name)
            known.setdefault(key, (name, parent))
        if key is not None and key not in keys:
            keys.append(key)
    return keys


def _objects(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the JSON of what is not empty, row by row. Each distinct cell is written once."""
    pieces = []
    for name, cells in columns.items():
        written = {cell: f"{json.dumps(name)}: {json.dumps(cell)}" if cell else "" for cell in set(cells)}
        pieces.append(map(written.__getitem__, cells))
    return ["{" + ", ".join(filter(None, row)) + "}" for row in zip(*pieces, strict=True)]


def _failures(issues: Iterable[Issue], cells: Mapping[int, list[str]]) -> list[Failure]:
    found = {row: Failure(row, [], raw) for row, raw in cells.items()}
    for issue in issues:
        found[issue.row].issues.append({"column": issue.column, "code": issue.code, "message": issue.message})
    return [found[row] for row in sorted(found)]
