"""Imports: start one, follow it, see what failed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import flask
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.imports.api.base import IMPORTERS, ImportNotEnded, MappingDoesNotFit, api, said
from services.imports.api.uploads import (
    Delimiter,
    Encoding,
    KindName,
    dialect_of,
    find_upload,
    unreadable,
)
from services.imports.files import HEAD
from services.imports.jobs import retry_import_images, run_import
from services.imports.jobs.report import report_key
from services.imports.models import Image, Import
from services.imports.reading.kinds import KINDS
from services.imports.reading.mapping import check_mapping
from services.imports.reading.table import FileProblem, preview
from shared import blobs
from shared.db import unit_of_work
from shared.web import (
    Answer,
    BadRequest,
    FieldError,
    Identity,
    NotFound,
    Page,
    PageQuery,
    accepted,
    paginate,
)
from shared.web.jobs_view import FailureView, JobView

__all__: list[str] = []

_ADDRESS_SECONDS: Final = 300

ImportState = Literal["queued", "running", "completed", "failed", "cancelled"]


class NewImport(BaseModel):
    """What to make of an uploaded file."""

    upload_id: UUID
    kind: KindName
    mapping: dict[str, int] = Field(
        description="Field of the kind → index of its column, from 0; `custom:<name>` for custom fields of samples.",
        max_length=500,
    )
    mode: Literal["create", "update"] = Field(
        "create", description="`create` leaves what exists as it is; `update` brings it up to date."
    )
    encoding: Encoding | None = Field(None, description="Another than the one that was found.")
    delimiter: Delimiter | None = Field(None, description="Another than the one that was found.")


class ImageCounts(BaseModel):
    """Pictures of an import's records."""

    pending: int = 0
    attached: int = 0
    failed: int = 0


class ImportView(BaseModel):
    """A file on its way into records. Created, updated, skipped and failed add up to processed."""

    model_config = ConfigDict(title="Import")

    id: UUID
    kind: KindName
    mode: str
    state: ImportState
    file_name: str
    upload_id: UUID
    job_id: UUID | None
    requested_by: str
    total: int | None = Field(description="Rows of the file, the header apart; null until they were counted.")
    processed: int
    created: int
    updated: int
    skipped: int = Field(description="Duplicates, within the file or of what was there.")
    failed: int = Field(description="Rows with something to mend.")
    images: ImageCounts
    failure: FailureView | None = Field(None, description="Why it stopped, where it did.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


class ImportQuery(PageQuery):
    """Filters of the list; all that are given must hold."""

    kind: KindName | None = None
    state: ImportState | None = None


class Issue(BaseModel):
    """One thing that is wrong with a row."""

    column: str | None = Field(description="As the file names it; null where it is about the row as a whole.")
    code: str
    message: str = Field(description="What is wrong and how to mend it.")


class FailedRow(BaseModel):
    """A row that was not imported."""

    row: int = Field(description="The header is row 1.")
    issues: list[Issue]
    cells: list[str] = Field(description="As they were.")


class FailedRows(BaseModel):
    """Failed rows, in the order of the file."""

    items: list[FailedRow]
    next_after: int | None = Field(description="Send it as `after` for what follows; null at the end.")


class FailedRowsQuery(BaseModel):
    after: int = Field(0, ge=0, description="Rows after this one.")
    limit: int = Field(50, ge=1, le=200)


@api.post(
    "/v1/imports",
    role=IMPORTERS,
    status=202,
    idempotency="required",
    raises=(NotFound, MappingDoesNotFit, BadRequest),
    examples={
        "body": {
            "upload_id": "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0b1b",
            "kind": "samples",
            "mapping": {"title": 0, "sku": 1, "image_url": 4, "custom:Color": 5},
        }
    },
)
def start_import(body: NewImport, identity: Identity) -> Answer[JobView]:
    """Import an uploaded file. The job does it; you may close everything. The import is at `/v1/imports`."""
    with unit_of_work() as session:
        upload = find_upload(session, body.upload_id, with_file=True)
        dialect = dialect_of(upload, body.encoding, body.delimiter)
        try:
            header = preview(upload.head, dialect, whole=upload.size <= HEAD, rows=1).header
        except FileProblem as problem:
            raise unreadable(problem) from None
        problems = check_mapping(KINDS[body.kind], header, body.mapping)
        if problems:
            raise MappingDoesNotFit(
                "Choose the columns again.",
                errors=[
                    FieldError(pointer=f"/mapping/{one.field}" if one.field else "/mapping", detail=one.detail)
                    for one in problems
                ],
            )
        row = Import(
            kind=body.kind,
            mode=body.mode,
            upload_id=upload.id,
            file_name=upload.file_name,
            encoding=dialect.encoding,
            delimiter=dialect.delimiter,
            mapping=body.mapping,
            header=header,
            requested_by=identity.principal,
        )
        session.add(row)
        session.flush()
        message = run_import.send(import_id=row.id, file_name=row.file_name)
        row.job_id = UUID(message.message_id)
        answer = accepted(message)
        answer.body.links["import"] = f"/v1/imports/{row.id}"
        return answer


@api.get("/v1/imports", role=IMPORTERS)
def list_imports(query: ImportQuery) -> Page[ImportView]:
    """List imports, the latest first."""
    statement = select(Import)
    if query.kind is not None:
        statement = statement.where(Import.kind == query.kind)
    if query.state is not None:
        statement = statement.where(Import.state == query.state)
    with unit_of_work() as session:
        page = paginate(session, statement, (Import.id,), query)
        images = _images(session, [row.id for row in page.items])
        page.items[:] = [_view(row, images) for row in page.items]
        return page


@api.get("/v1/imports/<uuid:import_id>", role=IMPORTERS, raises=(NotFound,))
def read_import(import_id: UUID) -> ImportView:
    """Read how an import stands."""
    with unit_of_work() as session:
        row = _find(session, import_id)
        return _view(row, _images(session, [row.id]))


@api.post("/v1/imports/<uuid:import_id>/images/retry", role=IMPORTERS, status=202, raises=(NotFound,))
def retry_pictures(import_id: UUID) -> Answer[JobView]:
    """Try the pictures that the import could not get again, now instead of later, those it gave up included."""
    with unit_of_work() as session:
        row = _find(session, import_id)
        return accepted(retry_import_images.send(import_id=row.id, file_name=row.file_name))


_FAILED: Final = """
SELECT row, issues, cells FROM import_failures WHERE import_id = %s AND row > %s ORDER BY row LIMIT %s
"""


@api.get("/v1/imports/<uuid:import_id>/failures", role=IMPORTERS, raises=(NotFound,))
def list_failures(import_id: UUID, query: FailedRowsQuery) -> FailedRows:
    """List the rows that failed, with what is wrong with each and how to mend it."""
    with unit_of_work() as session:
        _find(session, import_id)
        rows = session.connection().exec_driver_sql(_FAILED, (import_id, query.after, query.limit + 1)).all()
        items = [FailedRow(row=row.row, issues=row.issues, cells=row.cells) for row in rows[: query.limit]]
        return FailedRows(items=items, next_after=items[-1].row if len(rows) > query.limit else None)


@api.get(
    "/v1/imports/<uuid:import_id>/failures.csv",
    role=IMPORTERS,
    raises=(NotFound, ImportNotEnded),
    answer_type="text/csv",
    redirect="The file itself, for five minutes and without a token: where files are kept in a bucket.",
)
def read_failures_file(import_id: UUID) -> flask.Response:
    """Download the rows that failed with the reason of each: mend them, and upload the file again."""
    with unit_of_work() as session:
        row = _find(session, import_id)
    if row.state != "completed":
        raise ImportNotEnded(headers={"Retry-After": "5"})
    name = f"failed-rows-{row.id}.csv"
    store = blobs.store()
    address = store.url_for(report_key(row), _ADDRESS_SECONDS, filename=name, media_type="text/csv")
    if address is not None:
        return flask.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
    try:
        content = store.get(report_key(row))
    except blobs.NoSuchBlob:
        raise NotFound("The file was cleaned up.") from None
    return flask.Response(
        content,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _find(session: Session, import_id: UUID) -> Import:
    row = session.get(Import, import_id)
    if row is None:
        raise NotFound(f"There is no import {import_id}.")
    return row


def _images(session: Session, ids: list[UUID]) -> dict[UUID, dict[str, int]]:
    rows = session.execute(
        select(Image.import_id, Image.state, func.count())
        .where(Image.import_id.in_(ids))
        .group_by(Image.import_id, Image.state)
    )
    found: dict[UUID, dict[str, int]] = {}
    for import_id, state, count in rows:
        assert import_id is not None, "only those of an import were asked for"
        found.setdefault(import_id, {})[state] = count
    return found


def _view(row: Import, images: dict[UUID, dict[str, int]]) -> ImportView:
    path = f"/v1/imports/{row.id}"
    links = {"self": path, "failures": f"{path}/failures"}
    if row.job_id is not None:
        links["job"] = f"/v1/jobs/{row.job_id}"
    if row.state == "completed":
        links["failures_file"] = f"{path}/failures.csv"
    values: dict[str, Any] = {
        name: getattr(row, name) for name in ImportView.model_fields if name not in ("images", "failure", "links")
    }
    return ImportView(**values, images=ImageCounts(**images.get(row.id, {})), failure=_failure(row), links=links)


def _failure(row: Import) -> FailureView | None:
    if row.failure is None:
        return None
    code = str(row.failure.get("code"))
    text = said(code, row.failure.get("fields") or {})
    return FailureView(code=code, what=text.what, meaning=text.meaning, doing=text.doing, action=text.action)
