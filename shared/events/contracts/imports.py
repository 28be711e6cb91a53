"""What imports tells the others. Versions never change in meaning: what breaks a reader is a new version.

A file may hold a million rows: of samples, one event names up to 500 of them, by their ids.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.events.contracts.contract import EventContract, example

__all__ = [
    "ImageAttached",
    "ImageFailed",
    "ImportCompleted",
    "ImportFailed",
    "ImportStarted",
    "ImportsSummaryCounted",
    "MemberRequested",
    "OrderRequested",
    "SamplesCreated",
    "SamplesUpdated",
]

Kind = Literal["samples", "customers", "members", "orders"]
SampleIds = Annotated[list[UUID], Field(min_length=1, max_length=500)]

_IMPORT = "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0b1b"
_SAMPLE = "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0b2c"
_IMAGE = "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0b3d"
_JOB = "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0b4e"


class ImportStarted(EventContract):
    """A file has begun to be imported."""

    type: ClassVar[str] = "backroom.imports.import.started.v1"
    model_config = example(
        import_id=_IMPORT, kind="samples", file_name="catalog.csv", requested_by="user:ada", rows=5000, job_id=_JOB
    )

    import_id: UUID
    kind: Kind
    file_name: str
    requested_by: str = Field(description="The principal.")
    rows: int = Field(ge=0, description="Rows of the file, the header apart.")
    job_id: UUID


class ImportCompleted(EventContract):
    """Every row of a file was dealt with; some may have failed."""

    type: ClassVar[str] = "backroom.imports.import.completed.v1"
    model_config = example(
        import_id=_IMPORT,
        kind="samples",
        file_name="catalog.csv",
        requested_by="user:ada",
        created=4870,
        updated=0,
        skipped=100,
        failed=30,
    )

    import_id: UUID
    kind: Kind
    file_name: str
    requested_by: str = Field(description="The principal.")
    created: int = Field(ge=0)
    updated: int = Field(ge=0)
    skipped: int = Field(ge=0, description="Duplicates, within the file or of what was there.")
    failed: int = Field(ge=0, description="Rows with something to mend.")


class ImportFailed(EventContract):
    """An import stopped before its end, or could not begin. Rows before that stay."""

    type: ClassVar[str] = "backroom.imports.import.failed.v1"
    model_config = example(
        import_id=_IMPORT,
        kind="samples",
        file_name="catalog.csv",
        requested_by="user:ada",
        code="file_encoding",
        processed=0,
        rows=None,
        job_id=_JOB,
    )

    import_id: UUID
    kind: Kind
    file_name: str
    requested_by: str = Field(description="The principal.")
    code: str = Field(description="Why, as the failure's code; `cancelled` where somebody stopped it.")
    processed: int = Field(ge=0, description="Rows that were dealt with before.")
    rows: int | None = Field(description="Rows of the file, where they were counted.")
    job_id: UUID


class SamplesCreated(EventContract):
    """Samples are new in the catalog."""

    type: ClassVar[str] = "backroom.imports.sample.created.v1"
    model_config = example(sample_ids=[_SAMPLE], import_id=_IMPORT)

    sample_ids: SampleIds
    import_id: UUID | None = Field(description="The import that brought them; null for other ways.")


class SamplesUpdated(EventContract):
    """Samples of the catalog have changed."""

    type: ClassVar[str] = "backroom.imports.sample.updated.v1"
    model_config = example(sample_ids=[_SAMPLE], import_id=None)

    sample_ids: SampleIds
    import_id: UUID | None = Field(description="The import that changed them; null for other ways.")


class MemberRequested(EventContract):
    """Somebody is to be invited to the workspace, as a row of a file asks for."""

    type: ClassVar[str] = "backroom.imports.member.requested.v1"
    model_config = example(
        email="eve@example.com",
        first_name="Eve",
        last_name="Example",
        role="sales",
        requested_by="user:ada",
        import_id=_IMPORT,
    )

    email: str
    first_name: str = ""
    last_name: str = ""
    role: Literal["manager", "sales", "fulfillment"]
    requested_by: str = Field(description="The principal who imported the file.")
    import_id: UUID


class OrderLine(BaseModel):
    """So many pieces of a sample."""

    model_config = ConfigDict(frozen=True)

    sku: str
    quantity: int = Field(gt=0)


class OrderRequested(EventContract):
    """An order is to be entered, as a row of a file asks for."""

    type: ClassVar[str] = "backroom.imports.order.requested.v1"
    model_config = example(
        number="1042",
        recipient_name="Bob Example",
        street1="1 Broadway",
        city="New York",
        state="NY",
        zip="10004",
        country="US",
        lines=[{"sku": "KB-1", "quantity": 2}],
        requested_by="user:ada",
        import_id=_IMPORT,
    )

    number: str = Field(description="Unique within the workspace.")
    recipient_name: str
    recipient_company: str = ""
    recipient_email: str = ""
    street1: str
    street2: str = ""
    city: str = ""
    state: str = ""
    zip: str = ""
    country: str = Field(description="ISO 3166, two letters.")
    phone: str = ""
    note: str = ""
    lines: list[OrderLine]
    requested_by: str = Field(description="The principal who imported the file.")
    import_id: UUID


class ImageAttached(EventContract):
    """A picture was fetched and belongs to its sample now."""

    type: ClassVar[str] = "backroom.imports.image.attached.v1"
    model_config = example(image_id=_IMAGE, sample_id=_SAMPLE, media_type="image/png", width=800, height=600)

    image_id: UUID
    sample_id: UUID
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    width: int = Field(gt=0, description="In pixels.")
    height: int = Field(gt=0, description="In pixels.")


class ImageFailed(EventContract):
    """A picture cannot be had, and is not tried again."""

    type: ClassVar[str] = "backroom.imports.image.failed.v1"
    model_config = example(image_id=_IMAGE, sample_id=_SAMPLE, url="https://example.com/a.png", code="url_not_found")

    image_id: UUID
    sample_id: UUID
    url: str
    code: str = Field(description="Why.")


class LastImport(BaseModel):
    """The import that was begun last."""

    model_config = ConfigDict(frozen=True)

    file_name: str
    kind: Kind
    state: Literal["queued", "running", "completed", "failed", "cancelled"]
    created_at: AwareDatetime


class ImportsSummaryCounted(EventContract):
    """The figures of a workspace were counted. The event's sequence grows with `counted_at`."""

    type: ClassVar[str] = "backroom.imports.summary.counted.v1"
    model_config = example(
        counted_at="2026-03-01T12:25:00Z",
        samples=4980,
        imports_by_state={"completed": 7, "failed": 1},
        last_import={
            "file_name": "catalog.csv",
            "kind": "samples",
            "state": "completed",
            "created_at": "2026-02-27T09:00:00Z",
        },
    )

    counted_at: AwareDatetime
    samples: int = Field(description="In the catalog, drafts and archived ones included.")
    imports_by_state: dict[str, int] = Field(description="States that no import is in are not there.")
    last_import: LastImport | None
