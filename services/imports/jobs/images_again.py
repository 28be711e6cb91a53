"""Trying the pictures of an import again because a person says so: the website is back, a name was mended."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import text

from services.imports.jobs.images import fetch_image
from shared.db import unit_of_work
from shared.jobs import Priority, actor, current_job
from shared.jobs.enqueue import enqueue_many

__all__ = ["retry_import_images"]

_BATCH: Final = 500

# How often each was tried stands: it orders what is told of an image. What fails again has failed.
_AGAIN: Final = """
UPDATE images SET state = 'pending', code = NULL, reason = NULL, settled_at = NULL, next_attempt_at = clock_timestamp()
WHERE id = ANY(ARRAY(
    SELECT id FROM images WHERE import_id = :import AND state IN ('pending', 'failed') AND id > :last
    ORDER BY id LIMIT :batch FOR UPDATE
))
RETURNING id, url
"""


@actor(queue_name="default", unique="import_id", subject="Try the pictures of {file_name} again")
def retry_import_images(import_id: UUID, file_name: str) -> dict[str, int]:
    """Have all pictures of an import fetched at once that it does not have yet."""
    job = current_job()
    last, total = UUID(job.checkpoint.get("last", str(UUID(int=0)))), int(job.checkpoint.get("images", 0))
    while True:
        with unit_of_work() as session:
            found = session.execute(text(_AGAIN), {"import": import_id, "last": last, "batch": _BATCH}).all()
            enqueue_many(fetch_image, [{"image_id": row.id, "url": row.url} for row in found], priority=Priority.BULK)
            if found:
                last, total = max(row.id for row in found), total + len(found)
            job.progress(total, None, unit="pictures", checkpoint={"last": str(last), "images": total})
        if len(found) < _BATCH:
            return {"images": total}
        job.breathe()
