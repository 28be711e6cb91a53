"""What imports tells: that a file somebody brought is done with."""

from __future__ import annotations

from typing import Any

from services.notifications import mail
from services.notifications.models import member_of
from shared.db import unit_of_work
from shared.events.contracts.imports import ImportCompleted, ImportFailed
from shared.jobs import Event, Skip, handler

__all__ = ["mail_completed_import", "mail_failed_import"]


@handler(ImportCompleted)
def mail_completed_import(event: Event[ImportCompleted]) -> None:
    """Tell whoever brought the file what became of its rows."""
    done = event.data
    counts = {"created": done.created, "updated": done.updated, "skipped": done.skipped, "failed": done.failed}
    _mail(done, "import_completed", counts)


@handler(ImportFailed)
def mail_failed_import(event: Event[ImportFailed]) -> None:
    """Tell whoever brought the file that it stopped, unless somebody stopped it."""
    failed = event.data
    if failed.code == "cancelled":
        raise Skip("cancelled")
    _mail(failed, "import_failed", {"processed": failed.processed, "rows": failed.rows})


def _mail(told: ImportCompleted | ImportFailed, template: str, values: dict[str, Any]) -> None:
    with unit_of_work() as session:
        importer = member_of(session, told.requested_by)
        if importer is None:
            raise Skip("no_member")
        mail.queue(
            session,
            template,
            importer,
            {"import_id": str(told.import_id), "file_name": told.file_name, **values},
            dedupe_key=f"import:{told.import_id}:{template}",
            kind="bulk",
        )
