"""Files: sent as they are, shown as we read them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, BinaryIO, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.imports.api.base import IMPORTERS, api, said
from services.imports.files import HEAD, receive, upload_key
from services.imports.models import Import, Upload
from services.imports.reading.detect import DELIMITERS, ENCODINGS, Dialect, detect
from services.imports.reading.kinds import KINDS
from services.imports.reading.mapping import propose
from services.imports.reading.table import FileProblem, preview
from services.imports.settings import settings
from shared.context import current
from shared.db import new_id, unit_of_work
from shared.web import Answer, BadRequest, FieldError, Identity, NotFound, created

__all__ = ["Delimiter", "Encoding", "KindName", "dialect_of", "find_upload"]

KindName = Literal["samples", "customers", "members", "orders"]
Encoding = Literal["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
Delimiter = Literal[",", ";", "\t", "|"]

assert set(Encoding.__args__) == set(ENCODINGS)  # type: ignore[attr-defined]
assert set(Delimiter.__args__) == set(DELIMITERS)  # type: ignore[attr-defined]
assert set(KindName.__args__) == set(KINDS)  # type: ignore[attr-defined]

FileName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class NewUpload(BaseModel):
    """What is said about the file beside its bytes."""

    file_name: FileName = Field("upload.csv", description="What people call it; it names nothing on our side.")


class UploadView(BaseModel):
    """An uploaded file."""

    model_config = ConfigDict(title="Upload", from_attributes=True)

    id: UUID
    file_name: str
    size: int = Field(description="In bytes.")
    sha256: str
    encoding: Encoding = Field(description="As we found it; another may be chosen.")
    delimiter: Delimiter = Field(description="As we found it; another may be chosen.")
    created_by: str
    created_at: datetime
    imported_as: list[UUID] = Field(
        default_factory=list,
        description="Imports of the very same bytes, the latest first: perhaps it is done already.",
    )


class PreviewQuery(BaseModel):
    """How to read the file."""

    kind: KindName = "samples"
    encoding: Encoding | None = Field(None, description="Another than the one that was found.")
    delimiter: Delimiter | None = Field(None, description="Another than the one that was found.")


class PreviewView(BaseModel):
    """The beginning of a file, as it is read, and which column we take for what."""

    model_config = ConfigDict(title="Preview")

    encoding: Encoding
    delimiter: Delimiter
    header: list[str]
    rows: list[list[str]] = Field(description="The first rows; cells as they are.")
    mapping: dict[str, int] = Field(description="Field of the kind → index of its column, as we would choose.")
    missing: list[str] = Field(description="Required fields for which no column was recognized.")


@api.post(
    "/v1/uploads",
    role=IMPORTERS,
    status=201,
    content_types=("text/csv", "text/plain", "text/tab-separated-values", "application/octet-stream"),
    max_body=lambda: settings().max_file_bytes,
    timed=False,  # as long as it takes to send; nothing but the store is waited for
    raises=(BadRequest,),
)
def upload_file(body: BinaryIO, query: NewUpload, identity: Identity) -> Answer[UploadView]:
    """Upload a file: the bytes are the body. What is too large is refused and leaves nothing behind."""
    tenant_id = current().tenant_id
    assert tenant_id is not None, "a request has a tenant"
    upload_id = new_id()
    upload = Upload(
        id=upload_id,
        created_by=identity.principal,
        file_name=query.file_name,
        blob_key=upload_key(tenant_id, upload_id),
        size=0,
        sha256="",
        head=b"",
        encoding="utf-8",
        delimiter=",",
    )
    # The row first: should we die in between, a clean-up knows of the file.
    with unit_of_work() as session:
        session.add(upload)
    received = receive(upload.blob_key, body)
    if not received.size:
        raise BadRequest("The file is empty.", errors=[FieldError(pointer="", detail="Send the file's bytes.")])
    dialect = detect(received.head, whole=received.size <= HEAD)
    with unit_of_work() as session:
        upload = session.get_one(Upload, upload_id)
        upload.size, upload.sha256, upload.head = received.size, received.sha256, received.head
        upload.encoding, upload.delimiter = dialect.encoding, dialect.delimiter
        session.flush()
        return created(_view(session, upload), f"/v1/uploads/{upload_id}")


@api.get("/v1/uploads/<uuid:upload_id>", role=IMPORTERS, raises=(NotFound,))
def read_upload(upload_id: UUID) -> UploadView:
    """Read what is known of an uploaded file."""
    with unit_of_work() as session:
        return _view(session, find_upload(session, upload_id))


@api.get("/v1/uploads/<uuid:upload_id>/preview", role=IMPORTERS, raises=(NotFound, BadRequest))
def preview_upload(upload_id: UUID, query: PreviewQuery) -> PreviewView:
    """Show the first rows as they would be read, and which column we take for what."""
    with unit_of_work() as session:
        upload = find_upload(session, upload_id, with_file=True)
        head, whole = upload.head, upload.size <= HEAD
    dialect = dialect_of(upload, query.encoding, query.delimiter)
    try:
        seen = preview(head, dialect, whole=whole)
    except FileProblem as problem:
        raise unreadable(problem) from None
    kind = KINDS[query.kind]
    mapping = propose(kind, seen.header)
    return PreviewView(
        encoding=dialect.encoding,  # type: ignore[arg-type]
        delimiter=dialect.delimiter,  # type: ignore[arg-type]
        header=seen.header,
        rows=seen.rows,
        mapping=mapping,
        missing=[field.name for field in kind.fields if field.required and field.name not in mapping],
    )


def unreadable(problem: FileProblem) -> BadRequest:
    """Return what a person is told about a file that cannot be read as was asked."""
    explained = said(problem.code, problem.fields)
    return BadRequest(f"{explained.what} {explained.action}", reason=problem.code)


def find_upload(session: Session, upload_id: UUID, *, with_file: bool = False) -> Upload:
    """Return an upload; `with_file` one whose file is still kept. Raises NotFound."""
    upload = session.get(Upload, upload_id)
    if upload is None or not upload.sha256:
        raise NotFound(f"There is no upload {upload_id}.")
    if with_file and not upload.blob_key:
        raise NotFound("The file of this upload was cleaned up; upload it again.")
    return upload


def dialect_of(upload: Upload, encoding: str | None, delimiter: str | None) -> Dialect:
    """Return how to read an upload: as we found it, but for what was chosen otherwise."""
    return Dialect(encoding or upload.encoding, delimiter or upload.delimiter)


def _view(session: Session, upload: Upload) -> UploadView:
    same = select(Upload.id).where(Upload.sha256 == upload.sha256)
    done = session.scalars(select(Import.id).where(Import.upload_id.in_(same)).order_by(Import.id.desc()).limit(5))
    view = UploadView.model_validate(upload)
    view.imported_as = list(done)
    return view
