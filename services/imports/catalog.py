"""Changing the catalog by hand: one sample at a time, under the same keys as imports."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.imports.models import Category, Sample
from services.imports.reading.checks import LEVEL, normalize_key
from shared.events import publish
from shared.events.contracts.imports import SamplesUpdated

__all__ = ["category_paths", "change", "taken_by"]


def taken_by(session: Session, *, title: str | None, sku: str | None, besides: UUID | None = None) -> str | None:
    """Return which of the two another sample has already: `title`, `sku` or None."""
    for field, value, column in (("title", title, Sample.title_key), ("sku", sku, Sample.sku_key)):
        if value:
            statement = select(Sample.id).where(column == normalize_key(value))
            if besides is not None:
                statement = statement.where(Sample.id != besides)
            if session.scalar(statement.limit(1)) is not None:
                return field
    return None


def change(session: Session, sample: Sample, values: dict[str, Any]) -> bool:
    """Change a sample and say so to others; return whether anything was different."""
    changed = {name: value for name, value in values.items() if getattr(sample, name) != value}
    for name, value in changed.items():
        setattr(sample, name, value)
    if "title" in changed:
        sample.title_key = normalize_key(sample.title)
    if "sku" in changed:
        sample.sku_key = normalize_key(sample.sku) if sample.sku else None
    if changed:
        sample.version += 1
        publish(
            session, SamplesUpdated(sample_ids=[sample.id], import_id=None), subject=sample.id, sequence=sample.version
        )
    return bool(changed)


def category_paths(session: Session, paths: list[str]) -> list[str] | None:
    """Return those of the paths' keys that exist, or None when one does not."""
    keys = [LEVEL.join(normalize_key(part) for part in path.split(LEVEL)) for path in paths]
    known = set(session.scalars(select(Category.path_key).where(Category.path_key.in_(keys))))
    return keys if known >= set(keys) else None
