"""Rows of a file on their way into records: laid out for the database by one thread, saved by another.

`prepare` is pure and runs ahead; `save` runs in the transaction of its batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.orm import Session

from services.imports.apply import Outcome, Staged, apply
from services.imports.jobs.images import fetch_image
from services.imports.models import Import
from services.imports.reading.batch import Issue, check_batch
from services.imports.reading.kinds import Kind, normalize_key
from services.imports.reading.table import Batch
from services.imports.reading.texts import sentence
from services.imports.tables import TABLES
from shared.context import current
from shared.db import new_id
from shared.events import publish_many
from shared.events.contracts.imports import MemberRequested, OrderRequested, SamplesCreated, SamplesUpdated
from shared.events.publish import Occurrence
from shared.jobs import Priority, enqueue_many

__all__ = ["Counts", "Prepared", "prepare", "save"]

_PER_EVENT: Final = 500
LEVEL: Final = ">"
"""Between the levels of a category's path."""


@dataclass(slots=True)
class Failure:
    """A row that failed: what is wrong with it, and its cells as they were."""

    row: int
    issues: list[dict[str, Any]]
    cells: list[str]


@dataclass(slots=True)
class Prepared:
    """A batch, ready to be saved."""

    count: int
    staged: Staged
    failures: list[Failure]
    cells: dict[int, list[str]]
    """Of all rows, by number: a row may yet fail in the database."""
    categories: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """{path key: (name, path key of the parent)}"""
    images: dict[int, list[str]] = field(default_factory=dict)
    """URLs of a row's pictures."""


@dataclass(slots=True)
class Counts:
    """What became of a batch."""

    created: int
    updated: int
    skipped: int
    failed: int


def prepare(kind: Kind, import_: Import, batch: Batch) -> Prepared:
    """Check the rows of a batch and lay out the good ones, column by column."""
    checked = check_batch(kind, import_.mapping, import_.header, batch)
    table = TABLES[kind.name]
    columns: dict[str, Sequence[str | None]] = {}
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
        elif name in table.nullable or table.columns[name] != "text":
            columns[name] = [str(value) if value not in (None, "") else None for value in values]
        else:
            columns[name] = values
    if checked.custom is not None:
        columns["custom_fields"] = [json.dumps(value) for value in checked.custom]
    for name, keys in checked.keys.items():
        columns[f"{name}_key"] = keys
    return Prepared(
        count=len(batch.rows),
        staged=Staged(checked.numbers, columns),
        failures=_failures(checked.issues, checked.failed),
        cells=dict(enumerate(batch.rows, batch.first)),
        categories=categories,
        images=images,
    )


def save(session: Session, import_: Import, batch: Prepared, *, room: int | None) -> Counts:
    """Save a batch in the open transaction; tell others what is new, and have the pictures fetched."""
    outcome = apply(session, import_.kind, batch.staged, import_id=import_.id, mode=import_.mode, room=room)
    failures = batch.failures + [
        Failure(
            row,
            [{"column": None, "code": "plan_limit_reached", "message": sentence("plan_limit_reached")}],
            batch.cells[row],
        )
        for row in outcome.no_room
    ]
    _save_failures(session, import_.id, failures)
    if import_.kind == "samples":
        _save_categories(session, batch.categories)
        _save_images(session, import_.id, batch.images, outcome)
        _tell(session, import_.id, outcome)
    else:
        _ask(session, import_, batch.staged, outcome)
    created, updated, failed = len(outcome.created), len(outcome.updated), len(failures)
    return Counts(created, updated, batch.count - created - updated - failed, failed)


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


def _failures(issues: Iterable[Issue], cells: dict[int, list[str]]) -> list[Failure]:
    found = {row: Failure(row, [], raw) for row, raw in cells.items()}
    for issue in issues:
        found[issue.row].issues.append({"column": issue.column, "code": issue.code, "message": issue.message})
    return [found[row] for row in sorted(found)]


_INSERT_FAILURES: Final = """
INSERT INTO import_failures (tenant_id, import_id, row, issues, cells)
SELECT %(tenant)s, %(import)s, failed.row, failed.issues, failed.cells
FROM unnest(%(rows)s::integer[], %(issues)s::jsonb[], %(cells)s::jsonb[]) AS failed(row, issues, cells)
"""

_INSERT_CATEGORIES: Final = """
INSERT INTO categories (id, tenant_id, path_key, name, parent_key)
SELECT found.id, %(tenant)s, found.path_key, found.name, found.parent_key
FROM unnest(%(ids)s::uuid[], %(paths)s::text[], %(names)s::text[], %(parents)s::text[])
     AS found(id, path_key, name, parent_key)
ON CONFLICT DO NOTHING
"""

_INSERT_IMAGES: Final = """
INSERT INTO images (id, tenant_id, sample_id, position, url, host, import_id)
SELECT wanted.id, %(tenant)s, wanted.sample_id, wanted.position, wanted.url, wanted.host, %(import)s
FROM unnest(%(ids)s::uuid[], %(samples)s::uuid[], %(positions)s::smallint[], %(urls)s::text[], %(hosts)s::text[])
     AS wanted(id, sample_id, position, url, host)
ON CONFLICT DO NOTHING
RETURNING id, url
"""


def _save_failures(session: Session, import_id: UUID, failures: list[Failure]) -> None:
    if failures:
        session.connection().exec_driver_sql(
            _INSERT_FAILURES,
            {
                "tenant": current().tenant_id,
                "import": import_id,
                "rows": [failure.row for failure in failures],
                "issues": [json.dumps(failure.issues) for failure in failures],
                "cells": [json.dumps(failure.cells) for failure in failures],
            },
        )


def _save_categories(session: Session, categories: dict[str, tuple[str, str | None]]) -> None:
    if categories:
        # In one order, lest two imports with the same new categories wait for each other.
        found = sorted(categories.items())
        session.connection().exec_driver_sql(
            _INSERT_CATEGORIES,
            {
                "tenant": current().tenant_id,
                "ids": [new_id() for _ in found],
                "paths": [key for key, _ in found],
                "names": [name for _, (name, _) in found],
                "parents": [parent for _, (_, parent) in found],
            },
        )


def _save_images(session: Session, import_id: UUID, images: dict[int, list[str]], outcome: Outcome) -> None:
    wanted = [
        (new_id(), record, position, url)
        for row, record in (*outcome.created.items(), *outcome.updated.items())
        for position, url in enumerate(images.get(row, ()), 1)
    ]
    if not wanted:
        return
    rows = session.connection().exec_driver_sql(
        _INSERT_IMAGES,
        {
            "tenant": current().tenant_id,
            "import": import_id,
            "ids": [image for image, _, _, _ in wanted],
            "samples": [sample for _, sample, _, _ in wanted],
            "positions": [position for _, _, position, _ in wanted],
            "urls": [url for _, _, _, url in wanted],
            "hosts": [(urlsplit(url).hostname or "").lower() for _, _, _, url in wanted],
        },
    )
    enqueue_many(fetch_image, [{"image_id": str(image), "url": url} for image, url in rows], priority=Priority.BULK)


def _tell(session: Session, import_id: UUID, outcome: Outcome) -> None:
    for contract, found in ((SamplesCreated, outcome.created), (SamplesUpdated, outcome.updated)):
        ids = list(found.values())
        publish_many(
            session,
            [
                Occurrence(contract(sample_ids=ids[start : start + _PER_EVENT], import_id=import_id), import_id)
                for start in range(0, len(ids), _PER_EVENT)
            ],
        )


_ASKS: Final[dict[str, tuple[type[Any], str]]] = {
    "members": (MemberRequested, "email"),
    "orders": (OrderRequested, "number"),
}
"""Kinds whose records belong to another service: what asks it for one, and what the event is about."""


def _ask(session: Session, import_: Import, staged: Staged, outcome: Outcome) -> None:
    """Ask the owner of such records for what is new."""
    if import_.kind not in _ASKS:
        return
    contract, subject = _ASKS[import_.kind]
    names = [name for name in staged.columns if name in contract.model_fields]
    cells = dict(zip(staged.rows, zip(*(staged.columns[name] for name in names), strict=True), strict=True))
    occurrences = []
    for row in outcome.created:
        values: dict[str, Any] = {
            name: json.loads(value) if name == "lines" else value
            for name, value in zip(names, cells[row], strict=True)
            if value is not None
        }
        event = contract(**values, requested_by=import_.requested_by, import_id=import_.id)
        occurrences.append(Occurrence(event, str(values[subject])))
    publish_many(session, occurrences)
