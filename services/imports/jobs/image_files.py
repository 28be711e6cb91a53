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

_MOST: Final = 20_000
"""In one night; the rest gets its turn the next."""
_BATCH: Final = 50
"""Few enough that their deletion, two calls each, ends long before a transaction that waits for it is cut off."""
_BUDGET: Final = 60.0
_CHUNK: Final = 1 << 16

_NOTE: Final = """
INSERT INTO image_files (tenant_id, sha256) VALUES (:tenant, :sha256)
ON CONFLICT (tenant_id, sha256) DO UPDATE SET stored_at = now()
"""

_UNNAMED: Final = """
    stored_at < now() - interval '1 day' AND NOT EXISTS (
        SELECT FROM images WHERE images.tenant_id = file.tenant_id AND images.sha256 = file.sha256
    )
"""

_FIND: Final = f"SELECT tenant_id, sha256 FROM image_files AS file WHERE {_UNNAMED} ORDER BY stored_at LIMIT :most"  # noqa: S608

# Whoever notes a file that is about to go waits for this to commit, and notes it anew; whoever was first keeps it.
_FORGET: Final = f"""
DELETE FROM image_files AS file
USING unnest(CAST(:tenants AS text[]), CAST(:digests AS text[])) AS found(tenant, digest)
WHERE file.tenant_id = found.tenant AND file.sha256 = found.digest AND {_UNNAMED}
RETURNING file.tenant_id, file.sha256
"""  # noqa: S608


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
    with unit_of_work(system=True) as session:
        found = session.execute(text(_FIND), {"most": _MOST}).all()
    removed = 0
    for start in range(0, len(found), _BATCH):
        if time.monotonic() > deadline:
            break
        batch = found[start : start + _BATCH]
        with unit_of_work(system=True) as session:
            parameters = {"tenants": [row.tenant_id for row in batch], "digests": [row.sha256 for row in batch]}
            gone = session.execute(text(_FORGET), parameters).all()
            for row in gone:
                # Before the commit: a row that is gone would leave its file behind for ever.
                blobs.store().delete(original_key(row.tenant_id, row.sha256))
                blobs.store().delete(thumbnail_key(row.tenant_id, row.sha256))
            removed += len(gone)
            current_job().progress(removed, len(found), unit="files")
        current_job().breathe()
    return {"files": removed}


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK):
        yield chunk
