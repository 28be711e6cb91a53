"""Rows of a file on their way into records: a batch of them is saved, in the transaction of that batch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.orm import Session

from services.imports.apply import Outcome, apply
from services.imports.jobs.images import fetch_image
from services.imports.models import Import
from services.imports.reading.layout import Failure
from services.imports.reading.reader import Prepared
from services.imports.reading.texts import sentence
from shared.context import current
from shared.db import new_id
from shared.events import publish_many
from shared.events.contracts.imports import MemberRequested, OrderRequested, SamplesCreated, SamplesUpdated
from shared.events.publish import Occurrence
from shared.jobs import Priority, enqueue_many

__all__ = ["Counts", "asks", "save", "save_categories", "save_images"]

_PER_EVENT: Final = 500


@dataclass(slots=True)
class Counts:
    """What became of a batch."""

    created: int
    updated: int
    skipped: int
    failed: int


def asks(kind: str) -> bool:
    """Whether records of a kind belong to another service, which is asked for them."""
    return kind in _ASKS


def save(session: Session, import_: Import, batch: Prepared, *, room: int | None) -> Counts:
    """Save a batch in the open transaction; tell others what is new, and have the pictures fetched."""
    outcome = apply(session, import_.kind, batch.staged, import_id=import_.id, mode=import_.mode, room=room)
    failures = batch.failures + [
        Failure(
            row,
            [{"column": None, "code": "plan_limit_reached", "message": sentence("plan_limit_reached")}],
            batch.cells(row),
        )
        for row in outcome.no_room
    ]
    _save_failures(session, import_.id, failures)
    if import_.kind == "samples":
        save_categories(session, batch.categories)
        save_images(session, import_.id, batch.images, outcome)
        _tell(session, import_.id, outcome)
    else:
        _ask(session, import_, batch, outcome)
    created, updated, failed = len(outcome.created), len(outcome.updated), len(failures)
    return Counts(created, updated, batch.count - created - updated - failed, failed)


_INSERT_FAILURES: Final = """
INSERT INTO import_failures (tenant_id, import_id, row, issues, cells)
SELECT %(tenant)s, %(import)s, failed.row, failed.issues, failed.cells
FROM unnest(%(rows)s::integer[], %(issues)b::text[]::jsonb[], %(cells)b::text[]::jsonb[]) AS failed(row, issues, cells)
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


def save_categories(session: Session, categories: dict[str, tuple[str, str | None]]) -> None:
    """Save those that are new, in the open transaction; see `Laid` for what they are."""
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


def save_images(session: Session, import_id: UUID, images: dict[int, list[str]], outcome: Outcome) -> None:
    """Note the pictures of what was created or updated, in the open transaction, and have them fetched."""
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


def _ask(session: Session, import_: Import, batch: Prepared, outcome: Outcome) -> None:
    """Ask the owner of such records for what is new."""
    if import_.kind not in _ASKS:
        return
    contract, subject = _ASKS[import_.kind]
    names = [name for name in batch.columns if name in contract.model_fields]
    cells = dict(zip(batch.staged.numbers, zip(*(batch.columns[name] for name in names), strict=True), strict=True))
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
