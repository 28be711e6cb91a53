"""Files of pictures in the store: kept once for each workspace and content, removed when no image names them.

Each is noted in `image_files` before it is stored. Removing takes the row's lock and leaves alone what anybody meant
to store within the last day, so that no file goes which is about to be named.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import BinaryIO, Final

from sqlalchemy import text

from services.imports.pictures import Prepared, original_key, thumbnail_key
from shared import blobs
from shared.context import current
from shared.db import unit_of_work
from shared.jobs import Priority, actor, cron, current_job

__all__ = ["clean_up_images", "keep"]

_BATCH: Final = 100
_BUDGET: Final = 60.0
_CHUNK: Final = 1 << 16

_NOTE: Final = """
INSERT INTO image_files (tenant_id, sha256) VALUES (:tenant, :sha256)
ON CONFLICT (tenant_id, sha256) DO UPDATE SET stored_at = now()
"""

_UNNAMED: Final = """
DELETE FROM image_files AS file USING (
    SELECT tenant_id, sha256 FROM image_files AS old
    WHERE stored_at < now() - interval '1 day'
      AND NOT EXISTS (SELECT FROM images WHERE images.tenant_id = old.tenant_id AND images.sha256 = old.sha256)
    ORDER BY stored_at LIMIT :batch FOR UPDATE SKIP LOCKED
) AS unnamed
WHERE file.tenant_id = unnamed.tenant_id AND file.sha256 = unnamed.sha256
RETURNING file.tenant_id, file.sha256
"""


def keep(file: BinaryIO, prepared: Prepared) -> None:
    """Store a picture and its thumbnail for the current tenant. Raises OSError when the store is away."""
    tenant_id, sha256 = current().tenant_id or "", prepared.picture.sha256
    with unit_of_work() as session:
        session.execute(text(_NOTE), {"tenant": tenant_id, "sha256": sha256})
    blobs.store().put(original_key(tenant_id, sha256), _chunks(file))
    blobs.store().put(thumbnail_key(tenant_id, sha256), [prepared.thumbnail])


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Clean up pictures of samples that are gone",
    periodic=cron("50 4 * * *"),
)
def clean_up_images() -> dict[str, int]:
    """Remove stored pictures that no image names any more."""
    deadline = time.monotonic() + _BUDGET
    removed = 0
    while time.monotonic() < deadline:
        with unit_of_work(system=True) as session:
            unnamed = session.execute(text(_UNNAMED), {"batch": _BATCH}).all()
            for row in unnamed:
                # Before the commit: a row that is gone would leave its file behind for ever.
                blobs.store().delete(original_key(row.tenant_id, row.sha256))
                blobs.store().delete(thumbnail_key(row.tenant_id, row.sha256))
            removed += len(unnamed)
            current_job().progress(removed, None, unit="files")
        if len(unnamed) < _BATCH:
            break
        current_job().breathe()
    return {"files": removed}


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK):
        yield chunk
