"""Label files: copied to our own store, since Shippo's links to them expire, and removed when they are old.

A copy that fails never harms the purchase: it is a job of its own, and the label stays bought.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select

from services.shipping import labels
from services.shipping.jobs.account import shippo_account
from services.shipping.jobs.said import given_up
from services.shipping.models import Label
from services.shipping.settings import settings
from shared import blobs
from shared.context import current
from shared.db import unit_of_work
from shared.jobs import Priority, Skip, actor, completion, cron, current_job
from shared.outbound import Refused

__all__ = ["clean_up_label_files", "copy_label_file"]

_SUFFIXES: Final = {"application/pdf": "pdf", "image/png": "png", "application/zpl": "zpl"}
_BATCH: Final = 100
"""Few enough that their deletion, one call each, ends long before a transaction that waits for it is cut off."""
_BUDGET: Final = 60.0


@actor(queue_name="files", unique="label_id", subject="Label file for order {number}", time_limit=120)
def copy_label_file(label_id: UUID, number: str) -> None:
    """Copy the file of a bought label into our store."""
    with unit_of_work() as session:
        label = session.get(Label, label_id)
    if label is None or label.provider_id is None or label.file_key is not None:
        raise Skip("nothing_to_copy")
    with shippo_account() as account:
        try:
            # Read again for a fresh link: that of the purchase may have expired, and is no job's argument.
            url = account.shippo.get_label(label.provider_id).url
            content, media_type = account.shippo.download_label(url)
        except Refused as error:
            raise given_up(error, number) from error
    key = f"shipping/{blobs.tenant_part(current().tenant_id or '')}/labels/{label_id}.{_SUFFIXES[media_type]}"
    blobs.store().put(key, [content])
    with completion({"bytes": len(content)}) as session:
        fresh = session.get_one(Label, label_id, with_for_update={"key_share": True}, populate_existing=True)
        fresh.file_key, fresh.file_media_type, fresh.file_deleted_at = key, media_type, None
        labels.touch(fresh)


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Clean up old label files",
    periodic=cron("30 4 * * *"),
)
def clean_up_label_files() -> dict[str, int]:
    """Remove label files that are older than they are kept. The labels themselves stay."""
    before = datetime.now(UTC) - timedelta(days=settings().label_file_days)
    deadline = time.monotonic() + _BUDGET
    removed = 0
    while time.monotonic() < deadline:
        with unit_of_work(system=True) as session:
            old = session.scalars(
                select(Label)
                .where(Label.purchased_at < before, Label.file_key.is_not(None))
                .order_by(Label.purchased_at)
                .limit(_BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            for label in old:
                assert label.file_key is not None
                # The file first: a row that forgot its file would leave it behind for ever.
                blobs.store().delete(label.file_key)
                label.file_key, label.file_deleted_at = None, datetime.now(UTC)
            removed += len(old)
            current_job().progress(removed, None, unit="files")
        if len(old) < _BATCH:
            break
        current_job().breathe()
    return {"files": removed}
