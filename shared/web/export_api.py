"""The API of exports: a workspace's data in this service, as files, for its owner; whatever its standing is.

Every service has these operations. What an export holds is told in `shared.jobs.library.exporting`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import flask
from pydantic import BaseModel, Field
from sqlalchemy import select

from shared import blobs
from shared.db import unit_of_work
from shared.jobs.library import export_workspace
from shared.jobs.models import Job
from shared.web.answers import accepted
from shared.web.api import Answer, Api
from shared.web.jobs_view import JobView
from shared.web.problems import NotFound

__all__ = ["api"]

_ADDRESS_SECONDS: Final = 600
_MEDIA_TYPE: Final = "application/gzip"

api = Api("export", description="The workspace's data as files, for its owner.")


class ExportedTable(BaseModel):
    """A file with all rows of a table, each a line of JSON."""

    table: str
    rows: int
    bytes: int = Field(description="Of the compressed file.")
    sha256: str = Field(description="Of the compressed file.")
    left_out: list[str] = Field(description="Columns that hold secrets.")


class Export(BaseModel):
    """The newest export that is complete."""

    exported_at: datetime
    tables: list[ExportedTable]


@api.post("/v1/export", role="owner", status=202, standing="any")
def start_export() -> Answer[JobView]:
    """Export the workspace's data in this service. The newest export replaces the one before."""
    return accepted(export_workspace.send())


@api.get("/v1/export", role="owner", raises=(NotFound,))
def read_export() -> Export:
    """Read what the newest export holds."""
    return Export.model_validate(_newest())


@api.get(
    "/v1/export/<table>",
    role="owner",
    raises=(NotFound,),
    answer_type=_MEDIA_TYPE,
    redirect="The file in the store, for ten minutes.",
)
def read_exported_table(table: str) -> flask.Response:
    """Download the rows of a table, of the newest export."""
    key = next((one["key"] for one in _newest()["tables"] if one["table"] == table), None)
    if key is None:
        raise NotFound("There is no such table in the export.")
    store, name = blobs.store(), f"{table}.jsonl.gz"
    address = store.url_for(key, _ADDRESS_SECONDS, filename=name, media_type=_MEDIA_TYPE)
    if address is not None:
        return flask.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
    try:
        content = store.get(key)
    except blobs.NoSuchBlob:
        raise NotFound("The file is not in the store any more.") from None
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return flask.Response(content, content_type=_MEDIA_TYPE, headers=headers)


def _newest() -> dict[str, Any]:
    statement = (
        select(Job.result)
        .where(Job.actor == export_workspace.actor_name, Job.state == "succeeded")
        .order_by(Job.id.desc())
        .limit(1)
    )
    with unit_of_work() as session:
        result = session.scalar(statement)
    if result is None:
        raise NotFound("Nothing was exported yet.")
    return dict(result)
