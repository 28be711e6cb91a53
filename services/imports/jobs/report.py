"""The failed rows of an import as a file: to be mended and uploaded again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import text

from services.imports.models import Import
from services.imports.reading.export import failed_rows
from shared import blobs
from shared.db import unit_of_work

__all__ = ["report_key", "write_report"]

_PAGE: Final = 2_000

_FAILED: Final = text(
    "SELECT row, cells, issues FROM import_failures WHERE import_id = :id AND row > :after ORDER BY row LIMIT :page"
)


def report_key(import_: Import) -> str:
    """Return where the file lies."""
    return f"imports/{blobs.tenant_part(import_.tenant_id)}/reports/{import_.id}.csv"


def write_report(import_: Import) -> None:
    """Write the file anew, a page of rows at a time."""
    blobs.store().put(report_key(import_), failed_rows(import_.header, _rows(import_)))


def _rows(import_: Import) -> Iterator[tuple[list[str], list[str]]]:
    after = 0
    while True:
        # Not one long transaction: the store may be slow.
        with unit_of_work() as session:
            page = session.execute(_FAILED, {"id": import_.id, "after": after, "page": _PAGE}).all()
        for row in page:
            yield row.cells, [issue["message"] for issue in row.issues]
        if len(page) < _PAGE:
            return
        after = page[-1].row
