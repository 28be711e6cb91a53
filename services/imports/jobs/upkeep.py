"""Keeping house: uploads that are old, imports that stand still, pictures that nobody went for."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from services.imports.jobs.images import fetch_image
from services.imports.jobs.run import run_import
from services.imports.models import Image, Import, Upload
from services.imports.settings import settings
from shared import blobs
from shared.db import unit_of_work
from shared.jobs import Priority, actor, cron, current_job
from shared.jobs.models import LIVE, Job
from shared.jobs.reconcile import Found, Lookout, reconcile

__all__ = ["clean_up_uploads", "reconcile_nightly"]

_BATCH: Final = 100
"""Few enough that their deletion, one call each, ends long before a transaction that waits for it is cut off."""
_BUDGET: Final = 60.0
_MOST: Final = 5000
"""Of each kind per night: what is more than this is no stray but an incident, and gets its turn tomorrow."""

_STILL: Final = timedelta(minutes=30)
_FORGOTTEN: Final = timedelta(hours=1)


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Clean up old uploads",
    periodic=cron("10 4 * * *"),
)
def clean_up_uploads() -> dict[str, int]:
    """Remove uploaded files that are older than they are kept, and those of which the rest never came.

    What an import still reads is left alone. The upload's row stays, without its file.
    """
    before = datetime.now(UTC) - timedelta(days=settings().upload_days)
    reading = exists().where(Import.upload_id == Upload.id, Import.state.in_(("queued", "running")))
    deadline = time.monotonic() + _BUDGET
    removed = 0
    while time.monotonic() < deadline:
        with unit_of_work(system=True) as session:
            old = session.scalars(
                select(Upload)
                .where(Upload.created_at < before, Upload.blob_key != "", ~reading)
                .order_by(Upload.created_at)
                .limit(_BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            for upload in old:
                # The file first: a row that forgot its file would leave it behind for ever.
                blobs.store().delete(upload.blob_key)
                upload.blob_key, upload.head = "", b""
            removed += len(old)
            current_job().progress(removed, None, unit="files")
        if len(old) < _BATCH:
            break
        current_job().breathe()
    return {"files": removed}


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Nightly reconciliation",
    periodic=cron("40 2 * * *"),
)
def reconcile_nightly() -> dict[str, int]:
    """Queue anew what was left lying; see each look-out below."""
    return reconcile(_LOOKOUTS)


def _standing_still(session: Session) -> list[Found]:
    """Imports that are neither at their end nor in anybody's hands."""
    rows = session.execute(
        select(Import.tenant_id, Import.id, Import.file_name)
        .where(
            Import.state.in_(("queued", "running")),
            Import.touched_at < datetime.now(UTC) - _STILL,
            ~exists().where(Job.id == Import.job_id, Job.state.in_(LIVE)),
        )
        .order_by(Import.touched_at)
        .limit(_MOST)
    )
    return [(row.tenant_id, {"import_id": row.id, "file_name": row.file_name}) for row in rows]


def _never_fetched(session: Session) -> list[Found]:
    """Pictures that were due long ago."""
    rows = session.execute(
        select(Image.tenant_id, Image.id, Image.url)
        .where(Image.state == "pending", Image.next_attempt_at < datetime.now(UTC) - _FORGOTTEN)
        .order_by(Image.next_attempt_at)
        .limit(_MOST)
    )
    return [(row.tenant_id, {"image_id": row.id, "url": row.url}) for row in rows]


_LOOKOUTS: Final = (
    Lookout("imports_standing_still", run_import, _standing_still),
    Lookout("images_never_fetched", fetch_image, _never_fetched),
)
