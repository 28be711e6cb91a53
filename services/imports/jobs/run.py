"""Importing a file: the job that reads it, batch by batch.

A batch is one commit: its records, its failures, the counters, the checkpoint. A run that is killed is resumed after
the last batch that was committed, by whichever worker takes the job over; nothing is done twice, and nothing is left
out. While the database takes one batch, the next is read and checked (`ahead`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.imports.files import Source, open_source
from services.imports.jobs.ahead import look_over, reading
from services.imports.jobs.report import write_report
from services.imports.jobs.rows import asks, save
from services.imports.models import Import
from services.imports.reading.reader import Prepared
from services.imports.reading.table import FileProblem, Limits
from services.imports.room import room_left
from services.imports.settings import settings
from shared import blobs
from shared.db import unit_of_work
from shared.events import publish
from shared.events.contracts.imports import ImportCompleted, ImportFailed, ImportStarted
from shared.jobs import GiveUp, Skip, actor, completion, current_job
from shared.jobs.verdict import Verdict

__all__ = ["run_import"]

_OPEN = ("queued", "running", "failed")
"""States in which there is something to do: a failed import is retried by hand and goes on where it stopped."""


@actor(queue_name="imports", unique="import_id", subject="Import of {file_name}", time_limit=1200)
def run_import(import_id: UUID, file_name: str) -> dict[str, int]:
    """Import one file, from where the last run of it stopped."""
    job = current_job()
    source = _begin(import_id)
    try:
        total = job.checkpoint.get("total")
        if total is None:
            job.progress(0, None, unit="rows", message="Reading the file")
            total = _survey(source)
            _start(import_id, source, total)
        done = int(job.checkpoint.get("row", 0))
        with reading(source, skip=done, size=settings().batch_rows, tell=asks(source.kind.name)) as batches:
            for batch in batches:
                done += batch.count
                _commit(source, batch, done, total)
                job.breathe()
    except FileProblem as problem:
        raise GiveUp(problem.code, **problem.fields) from problem
    except blobs.NoSuchBlob:
        raise GiveUp("file_gone") from None
    write_report(source.import_)
    return _complete(import_id)


@run_import.failed
def _ended(verdict: Verdict, import_id: UUID, file_name: str) -> None:
    """Say so in the import's own row: it failed, or somebody stopped it. What was imported stays."""
    state = "cancelled" if verdict.state == "cancelled" else "failed"
    with unit_of_work() as session:
        row = session.get(Import, import_id, with_for_update=True)
        if row is None or row.state in ("completed", "cancelled"):
            return
        row.state, row.finished_at = state, datetime.now(UTC)
        row.failure = {"code": verdict.code, "fields": verdict.fields}
        assert row.job_id is not None, "an import is made with its job"
        publish(
            session,
            ImportFailed(
                import_id=row.id,
                kind=row.kind,  # type: ignore[arg-type]
                file_name=row.file_name,
                requested_by=row.requested_by,
                code="cancelled" if state == "cancelled" else verdict.code,
                processed=row.processed,
                rows=row.total,
                job_id=row.job_id,
            ),
            subject=row.id,
        )


def _begin(import_id: UUID) -> Source:
    with unit_of_work() as session:
        row = session.get(Import, import_id)
        if row is None:
            raise Skip("import_gone")
        if row.state not in _OPEN:
            raise Skip("already_ended")
        # Reconciliation may have made it another job than its first.
        row.job_id = current_job().id
        if row.state == "failed":
            row.state, row.failure, row.finished_at = "running", None, None
        return open_source(session, row)


def _survey(source: Source) -> int:
    limits = settings()
    found = look_over(source, Limits(rows=limits.max_rows, columns=limits.max_columns, field=limits.max_field_chars))
    if found.header != source.import_.header:
        raise GiveUp("mapping_does_not_fit")
    return found.rows


def _start(import_id: UUID, source: Source, total: int) -> None:
    """Commit what is known of the file before its first row is imported."""
    job = current_job()
    with unit_of_work() as session:
        session.execute(
            update(Import)
            .where(Import.id == import_id)
            .values(state="running", total=total, started_at=datetime.now(UTC), touched_at=datetime.now(UTC))
        )
        room = room_left(session, source.import_.kind)
        publish(
            session,
            ImportStarted(
                import_id=import_id,
                kind=source.import_.kind,  # type: ignore[arg-type]
                file_name=source.import_.file_name,
                requested_by=source.import_.requested_by,
                rows=total,
                job_id=job.id,
            ),
            subject=import_id,
        )
        job.progress(0, total, unit="rows", checkpoint={"total": total, "row": 0, "room": room})


def _commit(source: Source, batch: Prepared, done: int, total: int) -> None:
    job = current_job()
    row = source.import_
    with unit_of_work() as session:
        counts = save(session, row, batch, room=job.checkpoint.get("room"))
        session.execute(
            update(Import)
            .where(Import.id == row.id)
            .values(
                processed=Import.processed + batch.count,
                created=Import.created + counts.created,
                updated=Import.updated + counts.updated,
                skipped=Import.skipped + counts.skipped,
                failed=Import.failed + counts.failed,
                touched_at=datetime.now(UTC),
            )
        )
        room = max(0, job.checkpoint.get("room", 0) - counts.created)
        job.progress(done, total, unit="rows", checkpoint={"total": total, "row": done, "room": room})


def _complete(import_id: UUID) -> dict[str, int]:
    with unit_of_work() as session:
        counts = _counts(session, import_id)
    with completion(counts) as session:
        row = session.get_one(Import, import_id, with_for_update=True)
        row.state, row.finished_at = "completed", datetime.now(UTC)
        publish(
            session,
            ImportCompleted(
                import_id=row.id,
                kind=row.kind,  # type: ignore[arg-type]
                file_name=row.file_name,
                requested_by=row.requested_by,
                **{name: counts[name] for name in ("created", "updated", "skipped", "failed")},
            ),
            subject=row.id,
        )
    return counts


def _counts(session: Session, import_id: UUID) -> dict[str, Any]:
    row = session.execute(
        select(Import.processed, Import.created, Import.updated, Import.skipped, Import.failed).where(
            Import.id == import_id
        )
    ).one()
    return {"rows": row.processed, **{name: getattr(row, name) for name in ("created", "updated", "skipped", "failed")}}
