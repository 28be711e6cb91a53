"""The catalog: samples, their categories, their pictures."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import flask
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.imports import catalog
from services.imports.api.base import IMPORTERS, api
from services.imports.models import Category, Image, Sample
from services.imports.pictures.keys import THUMBNAIL_MEDIA_TYPE, original_key, thumbnail_key
from services.imports.pictures.texts import TEXTS
from services.imports.reading.checks import LEVEL, normalize_key
from shared import blobs
from shared.db import unit_of_work
from shared.web import (
    Answer,
    Conflict,
    FieldError,
    NotFound,
    Page,
    PageQuery,
    Unprocessable,
    etag,
    paginate,
    require_match,
)
from shared.web.problems import PreconditionFailed

__all__: list[str] = []

_ADDRESS_SECONDS: Final = 300

Status = Literal["active", "draft", "archived"]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Sku = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Paths = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=500)]], Field(max_length=20)]
CustomName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
CustomValue = Annotated[str, StringConstraints(max_length=1000)]


class SampleTaken(Conflict):
    """Another sample has this title or this SKU already; `field` says which."""

    slug, title = "sample-taken", "Another sample is known by this"


class ImageNotReady(Conflict):
    """The picture is not here yet, or could not be had; its `state` says which."""

    slug, title, retryable = "image-not-ready", "The picture is not here", True


class SampleView(BaseModel):
    """A product of which samples are sent."""

    model_config = ConfigDict(title="Sample", from_attributes=True)

    id: UUID
    title: str
    sku: str | None
    description: str
    status: Status
    unit_cost: str | None = Field(description="A decimal, in the currency of the workspace.")
    stock: int | None = Field(description="Pieces at hand, where a connected system says it.")
    categories: list[str] = Field(description="Paths of categories, levels joined by `>`, as keys.")
    custom_fields: dict[str, str]
    import_id: UUID | None = Field(description="The import that made or last changed it.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, sample: Sample) -> SampleView:
        """Return a sample as clients see it."""
        values = {name: getattr(sample, name) for name in cls.model_fields}
        return cls(**{**values, "unit_cost": None if sample.unit_cost is None else f"{sample.unit_cost.normalize():f}"})


class SampleChange(BaseModel):
    """What to change; what is left away stays."""

    title: Title | None = None
    sku: Sku | None = None
    description: Annotated[str, StringConstraints(max_length=10_000)] | None = None
    status: Status | None = None
    unit_cost: Annotated[str, StringConstraints(pattern=r"^\d{1,12}(\.\d{1,4})?$")] | None = None
    categories: Paths | None = Field(None, description="Paths of categories that exist, levels joined by `>`.")
    custom_fields: Annotated[dict[CustomName, CustomValue], Field(max_length=100)] | None = Field(
        None, description="Replaces them all."
    )


class SampleQuery(PageQuery):
    """Filters of the list; all that are given must hold."""

    search: str | None = Field(None, min_length=1, max_length=200, description="In title, SKU or description.")
    status: Status | None = None
    category: str | None = Field(None, max_length=500, description="A path; samples below it count as well.")
    sku: str | None = Field(None, max_length=100, description="Exactly this SKU, however it is written.")


class CategoryView(BaseModel):
    """A node of the tree of categories."""

    model_config = ConfigDict(title="Category", from_attributes=True)

    path_key: str = Field(description="Keys of its parents and its own, joined by `>`.")
    name: str
    parent_key: str | None


class Categories(BaseModel):
    """All categories, parents before their children."""

    items: list[CategoryView]


class ImageView(BaseModel):
    """A picture of a sample."""

    model_config = ConfigDict(title="Image", from_attributes=True)

    id: UUID
    position: int
    url: str = Field(description="Where it came from.")
    state: Literal["pending", "attached", "failed"]
    code: str | None = Field(description="Why it is not here, as a word for programs.")
    message: str | None = Field(None, description="Why it is not here, and what to do.")
    attempts: int
    media_type: str | None
    width: int | None
    height: int | None


class Images(BaseModel):
    """The pictures of a sample, in order."""

    items: list[ImageView]


class ImageFileQuery(BaseModel):
    size: Literal["full", "thumbnail"] = "full"


@api.get("/v1/samples")
def list_samples(query: SampleQuery) -> Page[SampleView]:
    """List or search samples, the latest first."""
    statement = select(Sample)
    if query.status is not None:
        statement = statement.where(Sample.status == query.status)
    if query.sku is not None:
        statement = statement.where(Sample.sku_key == normalize_key(query.sku))
    if query.category is not None:
        statement = statement.where(_below(query.category))
    if query.search is not None:
        statement = statement.where(_matching(query.search))
    with unit_of_work() as session:
        return paginate(session, statement, (Sample.id,), query, view=SampleView.of)


@api.get("/v1/samples/<uuid:sample_id>", raises=(NotFound,))
def read_sample(sample_id: UUID) -> Answer[SampleView]:
    """Read a sample."""
    with unit_of_work() as session:
        sample = _find(session, sample_id)
        return Answer(SampleView.of(sample), etag=etag(sample.id, sample.version))


@api.patch(
    "/v1/samples/<uuid:sample_id>",
    role=IMPORTERS,
    raises=(NotFound, SampleTaken, Unprocessable, PreconditionFailed),
    examples={"body": {"status": "archived"}},
)
def change_sample(sample_id: UUID, body: SampleChange) -> Answer[SampleView]:
    """Change a sample. With `If-Match` only if nobody else has changed it meanwhile."""
    values: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    required = [name for name in ("title", "description", "status", "categories", "custom_fields") if name in values]
    empty = [FieldError(pointer=f"/{name}", detail="It cannot be null.") for name in required if values[name] is None]
    if empty:
        raise Unprocessable("Some of it cannot be empty.", errors=empty)
    if values.get("unit_cost") is not None:
        values["unit_cost"] = Decimal(values["unit_cost"])
    try:
        with unit_of_work() as session:
            sample = _find(session, sample_id, lock=True)
            require_match(etag(sample.id, sample.version))
            if "categories" in values:
                values["categories"] = _known_categories(session, values["categories"])
            taken = catalog.taken_by(session, title=values.get("title"), sku=values.get("sku"), besides=sample_id)
            if taken is not None:
                raise SampleTaken(f"Another sample has this {taken} already.", field=taken)
            if catalog.change(session, sample, values):
                sample.updated_at = datetime.now(UTC)
            session.flush()
            return Answer(SampleView.of(sample), etag=etag(sample.id, sample.version))
    except IntegrityError:
        # Somebody was faster by a moment.
        raise SampleTaken("Another sample has this title or SKU already.") from None


@api.get("/v1/categories")
def list_categories() -> Categories:
    """List the tree of categories."""
    with unit_of_work() as session:
        found = session.scalars(select(Category).order_by(Category.path_key).limit(10_000))
        return Categories(items=[CategoryView.model_validate(one) for one in found])


@api.get("/v1/samples/<uuid:sample_id>/images", raises=(NotFound,))
def list_images(sample_id: UUID) -> Images:
    """List the pictures of a sample, also those that are still to be fetched."""
    with unit_of_work() as session:
        _find(session, sample_id)
        found = session.scalars(
            select(Image).where(Image.sample_id == sample_id).order_by(Image.position, Image.id).limit(200)
        )
        return Images(items=[_image_view(one) for one in found])


@api.get(
    "/v1/images/<uuid:image_id>/file",
    raises=(NotFound, ImageNotReady),
    answer_type="image/*",
    redirect="The file itself, for five minutes and without a token: where files are kept in a bucket.",
)
def read_image_file(image_id: UUID, query: ImageFileQuery) -> flask.Response:
    """Read a picture, or its thumbnail. It never changes: the address names its content."""
    with unit_of_work() as session:
        image = session.get(Image, image_id)
    if image is None:
        raise NotFound(f"There is no picture {image_id}.")
    if image.sha256 is None or image.media_type is None:
        raise ImageNotReady(state=image.state, reason=image.code)
    if query.size == "full":
        key, media_type = original_key(image.tenant_id, image.sha256), image.media_type
    else:
        key, media_type = thumbnail_key(image.tenant_id, image.sha256), THUMBNAIL_MEDIA_TYPE
    store = blobs.store()
    address = store.url_for(key, _ADDRESS_SECONDS, filename=image.sha256, media_type=media_type)
    if address is not None:
        return flask.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
    try:
        content = store.get(key)
    except blobs.NoSuchBlob:
        raise NotFound("The picture's file is not in the store any more.") from None
    return flask.Response(
        content,
        content_type=media_type,
        # It came from a stranger: a browser shows it as a picture and as nothing else.
        headers={"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"},
    )


def _image_view(image: Image) -> ImageView:
    view = ImageView.model_validate(image)
    view.message = TEXTS.get(image.code) if image.code is not None else None
    return view


def _find(session: Session, sample_id: UUID, *, lock: bool = False) -> Sample:
    sample = session.get(Sample, sample_id, with_for_update={"key_share": True} if lock else None)
    if sample is None:
        raise NotFound(f"There is no sample {sample_id}.")
    return sample


def _known_categories(session: Session, paths: list[str]) -> list[str]:
    keys = catalog.category_paths(session, paths)
    if keys is None:
        raise Unprocessable(
            "A category does not exist.",
            errors=[FieldError(pointer="/categories", detail="Use the paths that `GET /v1/categories` lists.")],
        )
    return keys


def _below(path: str) -> ColumnElement[bool]:
    key = LEVEL.join(normalize_key(part) for part in path.split(LEVEL))
    keys = select(Category.path_key).where(
        or_(Category.path_key == key, Category.path_key.startswith(key + LEVEL, autoescape=True))
    )
    return Sample.categories.op("?|", is_comparison=True)(func.array(keys.scalar_subquery()))


def _matching(search: str) -> ColumnElement[bool]:
    return or_(
        Sample.title_key.contains(normalize_key(search), autoescape=True),
        Sample.sku_key.contains(normalize_key(search), autoescape=True),
        Sample.description.icontains(search, autoescape=True),
    )
