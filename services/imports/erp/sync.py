"""Items of an ERP into the catalog, a page in one transaction, whichever way they came.

    counts = apply_page(session, connection, "samples", items, direction="out", …)

Samples go through the statements of a file, in mode `update`, and stock by one statement for all. A page may be applied
any number of times: what is as it says already is left alone, and nobody is told. An item that is wrong never stops
the others; it is in the log with what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import or_, select, text
from sqlalchemy.orm import Session

from services.imports.apply import apply
from services.imports.erp import log
from services.imports.erp.items import Bad, name_of, read_samples, read_stock
from services.imports.erp.models import Entity, ErpConnection
from services.imports.jobs.rows import save_categories, save_images
from services.imports.models import Sample
from services.imports.reading.layout import Laid, stage
from services.imports.reading.texts import sentence
from services.imports.tables import TABLES
from shared.context import current
from shared.db import new_id
from shared.events import publish_many
from shared.events.contracts.imports import SamplesCreated, SamplesUpdated
from shared.events.publish import Occurrence

__all__ = ["apply_page", "lock"]

_PER_EVENT: Final = 500
_TOLD: Final = 50
"""So many items that failed get a line of their own; the line of the page counts them all."""

_STOCK: Final = """
WITH found AS (
    SELECT sample.id, sample.stock, level.stock AS fresh, level.place
    FROM unnest(CAST(:keys AS text[]), CAST(:stocks AS integer[]), CAST(:places AS integer[]))
         AS level(sku_key, stock, place)
    JOIN samples AS sample ON sample.tenant_id = :tenant AND sample.sku_key = level.sku_key
    ORDER BY sample.id FOR UPDATE OF sample
), changed AS (
    UPDATE samples SET stock = found.fresh, version = samples.version + 1, updated_at = now()
    FROM found WHERE samples.id = found.id AND samples.stock IS DISTINCT FROM found.fresh
    RETURNING samples.id
)
SELECT found.id, found.place, changed.id IS NOT NULL AS changed FROM found LEFT JOIN changed USING (id)
"""


def lock(session: Session, connection_id: UUID) -> ErpConnection | None:
    """Return the connection, ours until the transaction ends: pages of one ERP are applied one after the other."""
    return session.get(ErpConnection, connection_id, with_for_update={"key_share": True}, populate_existing=True)


def apply_page(
    session: Session,
    connection: ErpConnection,
    entity: Entity,
    items: Sequence[Any],
    *,
    direction: str,
    secrets: Sequence[str],
    request: str,
    response: str = "",
    room: int | None = None,
) -> dict[str, int]:
    """Apply items in the open transaction, log them and tell others; return what became of them, by count."""
    bad: list[Bad] = []
    if entity == "samples":
        created, updated = _samples(session, items, bad, room)
    else:
        created, updated = [], _stock(session, items, bad)
    _tell(session, created, updated)
    counts = {
        "items": len(items),
        "created": len(created),
        "updated": len(updated),
        "unchanged": len(items) - len(created) - len(updated) - len(bad),
        "failed": len(bad),
    }
    for one in sorted(bad, key=lambda each: each.place)[:_TOLD]:
        log.write(
            session,
            connection.id,
            direction,
            entity,
            failed=True,
            secrets=secrets,
            external_id=one.name,
            response=one.message,
        )
    # After those of its items, so that the latest line is that of the page.
    session.flush()
    log.write(
        session,
        connection.id,
        direction,
        entity,
        failed=bool(bad),
        secrets=secrets,
        counts=counts,
        request=request,
        response=response,
    )
    return counts


def _samples(session: Session, items: Sequence[Any], bad: list[Bad], room: int | None) -> tuple[list[UUID], list[UUID]]:
    run = new_id()
    created: list[UUID] = []
    updated: list[UUID] = []
    seen: list[UUID] = []
    for laid in read_samples(items, bad):
        same = _unchanged(session, laid)
        _leave_out(laid, same)
        left = None if room is None else room - len(created)
        staged = stage(laid.numbers, laid.columns)
        outcome = apply(session, "samples", staged, import_id=run, mode="update", room=left)
        for place in outcome.no_room:
            bad.append(Bad(place, name_of(items[place]), sentence("plan_limit_reached")))
        save_categories(session, laid.categories)
        # A picture may be new where all else is as it was.
        save_images(session, run, laid.images, replace(outcome, updated={**outcome.updated, **same}))
        seen += same.values()
        created += outcome.created.values()
        updated += outcome.updated.values()
    if created or updated or seen:
        # The run served to tell this page from others; there is no import of that name for anybody to look up.
        for table, column in (("samples", "id"), ("images", "sample_id")):
            session.execute(
                text(f"UPDATE {table} SET import_id = NULL WHERE {column} = ANY(:ids) AND import_id = :run"),  # noqa: S608
                {"ids": [*created, *updated, *seen], "run": run},
            )
    return created, updated


def _unchanged(session: Session, laid: Laid) -> dict[int, UUID]:
    """Return the rows, each with its sample, that say what is known already: most of what an ERP says every hour."""
    keys = {name: laid.columns.get(f"{name}_key", ()) for name in TABLES["samples"].keys}
    found = session.scalars(
        select(Sample)
        .where(
            or_(
                Sample.title_key.in_([key for key in keys["title"] if key]),
                Sample.sku_key.in_([key for key in keys["sku"] if key]),
            )
        )
        .execution_options(populate_existing=True)
    ).all()
    by_key: dict[str, dict[str | None, Sample]] = {
        "sku": {sample.sku_key: sample for sample in found if sample.sku_key},
        "title": {sample.title_key: sample for sample in found},
    }
    fixed = {*keys, *(f"{name}_key" for name in keys)}
    changing = [name for name in laid.columns if name not in fixed]
    same: dict[int, UUID] = {}
    for index, row in enumerate(laid.numbers):
        # As an update finds it: the strongest key decides.
        matches = (by_key[name].get(column[index]) for name, column in keys.items() if column)
        sample = next((each for each in matches if each is not None), None)
        if sample is not None and all(_same(sample, name, laid.columns[name][index]) for name in changing):
            same[row] = sample.id
    for sample in found:
        session.expunge(sample)
    return same


def _same(sample: Sample, name: str, value: str | None) -> bool:
    there = getattr(sample, name)
    table = TABLES["samples"]
    if value is None and name not in table.nullable:
        return False  # becomes a default, which only the statement knows
    if table.columns[name] == "jsonb":
        return bool(there == json.loads(value or "null"))
    if table.columns[name] == "numeric":
        return bool(there == (None if value is None else Decimal(value)))
    return bool(there == value)


def _leave_out(laid: Laid, rows: Container[int]) -> None:
    kept = [index for index, row in enumerate(laid.numbers) if row not in rows]
    if len(kept) < len(laid.numbers):
        laid.numbers = [laid.numbers[index] for index in kept]
        laid.columns = {name: [column[index] for index in kept] for name, column in laid.columns.items()}


def _stock(session: Session, items: Sequence[Any], bad: list[Bad]) -> list[UUID]:
    levels = read_stock(items, bad).by_key
    found = session.execute(
        text(_STOCK),
        {
            "tenant": current().tenant_id,
            "keys": list(levels),
            "stocks": [stock for stock, _, _ in levels.values()],
            "places": [place for _, place, _ in levels.values()],
        },
    ).all()
    known = {row.place for row in found}
    for _, place, sku in levels.values():
        if place not in known:
            bad.append(Bad(place, sku, "There is no sample with this SKU."))
    return [row.id for row in found if row.changed]


def _tell(session: Session, created: list[UUID], updated: list[UUID]) -> None:
    for contract, ids in ((SamplesCreated, created), (SamplesUpdated, updated)):
        publish_many(
            session,
            [
                Occurrence(contract(sample_ids=ids[start : start + _PER_EVENT], import_id=None), new_id())
                for start in range(0, len(ids), _PER_EVENT)
            ],
        )
