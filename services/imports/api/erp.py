"""ERPs: their connections, asking them, and the door through which they send us samples and stock.

The door checks who it is over the raw body, stores the body and answers; a job does the rest. A feed says how things
are and not what to do, so that it may be sent again at any time; the very same message sent again within the minutes
in which its signature is good (a retry of the sender, or a recording of somebody else's) is answered as the first one
was and does nothing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import flask
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from services.imports.api.base import IMPORTERS, api
from services.imports.erp.credentials import SECRET, TOKEN, feed_secrets, seal
from services.imports.erp.models import Entity, ErpConnection, ErpFeed, ErpLog
from services.imports.erp.passes import completed_at
from services.imports.erp.signing import (
    SIGNATURE_HEADER,
    digest_of,
    is_genuine,
    new_key_id,
    new_secret,
    path_of,
    tenant_of,
)
from services.imports.jobs import apply_feed, pull_erp
from services.imports.settings import settings
from shared.context import current, use
from shared.db import new_id, unit_of_work
from shared.outbound.addresses import parse
from shared.outbound.errors import Refused
from shared.web import (
    Answer,
    BadRequest,
    Conflict,
    FieldError,
    NotFound,
    Page,
    PageQuery,
    accepted,
    created,
    etag,
    paginate,
    require_match,
)
from shared.web.jobs_view import JobView
from shared.web.problems import PreconditionFailed, Unauthorized

__all__: list[str] = []

_MOST_ITEMS: Final = 500
_PORT: Final = 443
_HEADERS: Final = {
    SIGNATURE_HEADER: "`t=<unix seconds>,v1=<hex>`: hex is the HMAC-SHA256, with the connection's secret, of "
    "`<t>.PUT <path>`, a line feed, and the body."
}

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
BaseUrl = Annotated[str, StringConstraints(min_length=8, max_length=500)]
Token = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{8,1000}$")]
KeepDays = Annotated[
    int | None, Field(ge=1, le=3650, description="For how many days its log is kept; null: as long as is usual.")
]


class NewErpConnection(BaseModel):
    """An ERP to be connected."""

    name: Name = Field(description="What people call it.")
    kind: Literal["rest"] = "rest"
    base_url: BaseUrl = Field(
        description="Where it answers, over https and on the internet; `/samples` and `/stock` are below it."
    )
    token: Token = Field(description="Lets us in there, as a bearer token. It is kept encrypted and never shown again.")
    keep_days: KeepDays = None


class ErpConnectionChange(BaseModel):
    """What to change; what is left away stays."""

    name: Name | None = None
    base_url: BaseUrl | None = Field(
        None, description="Where it is now. Its token must come with it, and everything is asked for anew."
    )
    token: Token | None = Field(None, description="A new one; the connection is active again.")
    keep_days: KeepDays = None


class Pull(BaseModel):
    """What an ERP is to be asked for."""

    entity: Entity


class ErpNeedsAttention(Conflict):
    """The ERP does not accept our token. Give the connection a new one first."""

    slug, title = "erp-needs-attention", "The ERP does not accept our token"


class ErpConnectionView(BaseModel):
    """A connected ERP."""

    model_config = ConfigDict(title="ErpConnection")

    id: UUID
    name: str
    kind: Literal["rest"]
    base_url: str
    key_id: str = Field(description="Names the connection in the addresses of its feed.")
    state: Literal["active", "needs_attention"] = Field(
        description="Of one that needs attention the ERP no longer accepts the token; it is not asked until it has a "
        "new one."
    )
    keep_days: int | None
    pulled_at: dict[Entity, datetime] = Field(description="By what was asked for: all changes before this are here.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: ErpConnection) -> ErpConnectionView:
        """Return a connection as clients see it."""
        values = {name: getattr(row, name) for name in cls.model_fields if name != "pulled_at"}
        return cls(**values, pulled_at=completed_at(row))


class ErpConnected(BaseModel):
    """A connection with the secret of its feed, which is shown here and never again."""

    connection: ErpConnectionView
    secret: str = Field(description="What the ERP signs its feed with.")
    feeds: dict[str, str] = Field(description="Where the ERP sends what: a path for samples and one for stock.")


class ErpLogView(BaseModel):
    """What passed between an ERP and us: a page or a feed, or an item of it that failed."""

    model_config = ConfigDict(title="ErpLogEntry", from_attributes=True)

    id: UUID
    direction: Literal["in", "out"] = Field(description="`in`: sent to us; `out`: asked for by us.")
    entity: Entity
    external_id: str | None = Field(description="What the item is known by; null for a page as a whole.")
    outcome: Literal["ok", "failed"]
    counts: dict[str, int]
    request: str = Field(description="An excerpt without secrets.")
    response: str = Field(description="An excerpt without secrets, or what is wrong with the item.")
    created_at: datetime


class ErpLogQuery(PageQuery):
    """Filters of the log; all that are given must hold."""

    entity: Entity | None = None
    outcome: Literal["ok", "failed"] | None = None


class Receipt(BaseModel):
    """Taken; a job applies it. What became of it is in the log of the connection."""

    receipt_id: UUID


@api.post("/v1/erp/connections", role=IMPORTERS, status=201, idempotency="none", raises=(BadRequest,))
def connect_erp(body: NewErpConnection) -> Answer[ErpConnected]:
    """Connect an ERP. The secret of its feed is in this answer only, so keep it now."""
    tenant_id = current().tenant_id
    assert tenant_id is not None, "a request has a tenant"
    secret = new_secret()
    row = ErpConnection(
        id=new_id(),
        name=body.name,
        kind=body.kind,
        base_url=_address(body.base_url),
        token_sealed=seal(TOKEN, body.token),
        key_id=new_key_id(tenant_id),
        secret_sealed=seal(SECRET, secret),
        keep_days=body.keep_days,
    )
    with unit_of_work() as session:
        session.add(row)
        session.flush()
        session.refresh(row)
        return created(_connected(row, secret), f"/v1/erp/connections/{row.id}")


@api.get("/v1/erp/connections", role=IMPORTERS)
def list_erp_connections(query: PageQuery) -> Page[ErpConnectionView]:
    """List the connected ERPs, the latest first."""
    with unit_of_work() as session:
        return paginate(session, select(ErpConnection), (ErpConnection.id,), query, view=ErpConnectionView.of)


@api.get("/v1/erp/connections/<uuid:connection_id>", role=IMPORTERS, raises=(NotFound,))
def read_erp_connection(connection_id: UUID) -> Answer[ErpConnectionView]:
    """Read how a connection stands."""
    with unit_of_work() as session:
        row = _find(session, connection_id)
        return Answer(ErpConnectionView.of(row), etag=_tag(row))


@api.patch(
    "/v1/erp/connections/<uuid:connection_id>",
    role=IMPORTERS,
    raises=(NotFound, BadRequest, PreconditionFailed),
    examples={"body": {"keep_days": 14}},
)
def change_erp_connection(connection_id: UUID, body: ErpConnectionChange) -> Answer[ErpConnectionView]:
    """Change a connection. With `If-Match` only if nobody else has changed it meanwhile.

    A new token makes a connection active again that needs attention.
    """
    given = body.model_fields_set
    for name in ("name", "base_url", "token"):
        if name in given and getattr(body, name) is None:
            raise _bad("It cannot be null.", name)
    with unit_of_work() as session:
        row = _find(session, connection_id, for_update=True)
        require_match(_tag(row))
        if body.name is not None:
            row.name = body.name
        if "keep_days" in given:
            row.keep_days = body.keep_days
        address = row.base_url if body.base_url is None else _address(body.base_url)
        if address != row.base_url:
            if body.token is None:
                # Or whoever may change an address could have the token sent to one of his own.
                raise _bad("The token must be given anew, since it would be sent to the new address.", "token")
            row.base_url, row.cursor = address, {}
        if body.token is not None:
            row.token_sealed, row.state = seal(TOKEN, body.token), "active"
        row.version += 1
        row.updated_at = datetime.now(UTC)
        session.flush()
        return Answer(ErpConnectionView.of(row), etag=_tag(row))


@api.post(
    "/v1/erp/connections/<uuid:connection_id>/pull",
    role=IMPORTERS,
    status=202,
    raises=(NotFound, ErpNeedsAttention),
    examples={"body": {"entity": "stock"}},
)
def pull_from_erp(connection_id: UUID, body: Pull) -> Answer[JobView]:
    """Ask an ERP now for what changed, which is done every hour anyway. The job does it, one at a time for each."""
    with unit_of_work() as session:
        row = _find(session, connection_id)
        if row.state != "active":
            raise ErpNeedsAttention()
        return accepted(pull_erp.send(connection_id=row.id, entity=body.entity, name=row.name))


@api.delete("/v1/erp/connections/<uuid:connection_id>", role=IMPORTERS, status=204, raises=(NotFound,))
def disconnect_erp(connection_id: UUID) -> None:
    """Disconnect an ERP. What it brought stays; what it sent and is not applied yet is dropped."""
    with unit_of_work() as session:
        session.delete(_find(session, connection_id))


@api.post("/v1/erp/connections/<uuid:connection_id>/secret", role=IMPORTERS, idempotency="none", raises=(NotFound,))
def renew_erp_secret(connection_id: UUID) -> ErpConnected:
    """Make a new secret for the feed. The one before stays valid for a day, so that nothing is lost meanwhile."""
    secret = new_secret()
    with unit_of_work() as session:
        row = _find(session, connection_id, for_update=True)
        now = datetime.now(UTC)
        row.previous_sealed, row.previous_until = (
            row.secret_sealed,
            now + timedelta(hours=settings().erp_rotation_hours),
        )
        row.secret_sealed = seal(SECRET, secret)
        row.version += 1
        row.updated_at = now
        session.flush()
        return _connected(row, secret)


@api.get("/v1/erp/connections/<uuid:connection_id>/log", role=IMPORTERS, raises=(NotFound,))
def list_erp_log(connection_id: UUID, query: ErpLogQuery) -> Page[ErpLogView]:
    """List what passed between this ERP and us, the latest first."""
    statement = select(ErpLog).where(ErpLog.connection_id == connection_id)
    if query.entity is not None:
        statement = statement.where(ErpLog.entity == query.entity)
    if query.outcome is not None:
        statement = statement.where(ErpLog.outcome == query.outcome)
    with unit_of_work() as session:
        _find(session, connection_id)
        return paginate(session, statement, (ErpLog.id,), query)


@api.put(
    "/v1/erp/<key_id>/samples",
    public=True,
    standing="usual",
    status=202,
    content_types=("application/json",),
    raises=(Unauthorized, BadRequest),
    request_headers=_HEADERS,
)
def receive_samples(key_id: str, body: bytes) -> Receipt:
    """Take samples from an ERP: `{"items": [{"title": …, "sku": …, …}]}`, at most 500 of them in a megabyte.

    Each has the fields of a file of samples (`title`, `sku`, `description`, `category`, `image_url`, `unit_cost`,
    `status`) and must have a title. A field that an item does not name stays as it is.
    """
    return _receive(key_id, "samples", body)


@api.put(
    "/v1/erp/<key_id>/stock",
    public=True,
    standing="usual",
    status=202,
    content_types=("application/json",),
    raises=(Unauthorized, BadRequest),
    request_headers=_HEADERS,
)
def receive_stock(key_id: str, body: bytes) -> Receipt:
    """Take stock from an ERP: `{"items": [{"sku": …, "stock": …}]}`, at most 500 of them in a megabyte."""
    return _receive(key_id, "stock", body)


def _receive(key_id: str, entity: Entity, body: bytes) -> Receipt:
    tenant = tenant_of(key_id)
    header = flask.request.headers.get(SIGNATURE_HEADER)
    if tenant is None:
        raise Unauthorized()
    now = datetime.now(UTC)
    with use(tenant_id=tenant, principal="provider:erp"), unit_of_work() as session:
        connection = session.scalar(select(ErpConnection).where(ErpConnection.key_id == key_id))
        known = feed_secrets(connection, now)
        genuine = is_genuine(known, header, key_id, entity, body, now, tolerance=settings().erp_tolerance_seconds)
        if connection is None or header is None or not genuine:
            # Whether it is the key, the time or the signature is nobody's business.
            raise Unauthorized()
        _check(body)
        digest = digest_of(header, body)
        feed_id = session.scalar(
            insert(ErpFeed)
            .values(id=new_id(), tenant_id=tenant, connection_id=connection.id, entity=entity, digest=digest, body=body)
            .on_conflict_do_nothing()
            .returning(ErpFeed.id)
        )
        if feed_id is not None:
            apply_feed.send(feed_id=feed_id, connection_id=connection.id)
        else:
            feed_id = session.scalars(
                select(ErpFeed.id).where(
                    ErpFeed.connection_id == connection.id, ErpFeed.entity == entity, ErpFeed.digest == digest
                )
            ).one()
        return Receipt(receipt_id=feed_id)


class _Feed(BaseModel):
    """The outside of a feed; its items are looked at one by one when it is applied."""

    items: Annotated[list[Any], Field(max_length=_MOST_ITEMS)]


def _check(body: bytes) -> None:
    try:
        _Feed.model_validate(json.loads(body.decode()))
    except ValidationError as error:
        pointer = "/" + "/".join(str(part) for part in error.errors()[0]["loc"])
        raise BadRequest(
            f"A feed is an object with a list of at most {_MOST_ITEMS} `items`.",
            errors=[FieldError(pointer=pointer, detail=error.errors()[0]["msg"])],
        ) from None
    except (ValueError, RecursionError):
        raise BadRequest("The body is no JSON in UTF-8.") from None


def _address(base_url: str) -> str:
    """Return the address of an ERP in its only spelling. Where it leads is judged each time that it is asked."""
    try:
        target = parse(base_url)
    except Refused as error:
        raise _bad(f"This is no address that we may ask: {error.detail}.", "base_url") from None
    trusted = f"{target.host}:{target.port}" in settings().erp_trusted_hosts
    if target.scheme != "https" and not trusted:
        raise _bad("The address must begin with https://, since a token is sent there.", "base_url")
    if not trusted and target.port != _PORT:
        raise _bad("The address must be on the usual port of https.", "base_url")
    if "?" in target.target:
        raise _bad("The address must have no query.", "base_url")
    return target.url.rstrip("/")


def _bad(detail: str, field: str) -> BadRequest:
    return BadRequest(detail, errors=[FieldError(pointer=f"/{field}", detail=detail)])


def _find(session: Any, connection_id: UUID, *, for_update: bool = False) -> ErpConnection:
    row: ErpConnection | None = session.get(ErpConnection, connection_id, with_for_update=for_update)
    if row is None:
        raise NotFound(f"There is no connection {connection_id}.")
    return row


def _tag(row: ErpConnection) -> str:
    """Of what clients see, so that it does not change with every page that is taken over."""
    return etag(row.id, row.version, *sorted(completed_at(row).items()))


def _connected(row: ErpConnection, secret: str) -> ErpConnected:
    return ErpConnected(
        connection=ErpConnectionView.of(row),
        secret=secret,
        feeds={entity: path_of(row.key_id, entity) for entity in ("samples", "stock")},
    )
