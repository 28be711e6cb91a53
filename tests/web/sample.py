"""A tiny service to try the kit on: a shelf of things, in one table."""

from __future__ import annotations

import contextlib
import time
import uuid
from datetime import datetime
from typing import Annotated, Any, BinaryIO
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped

from shared.context import current
from shared.db import TYPES, TenantRecord, metadata, unit_of_work
from shared.db.migrate import enable_tenancy
from shared.jobs import actor
from shared.web import (
    Answer,
    Api,
    Conflict,
    Identity,
    NotFound,
    Page,
    PageQuery,
    accepted,
    etag,
    paginate,
    require_match,
)
from shared.web.problems import PreconditionFailed


class Base(DeclarativeBase):
    metadata = metadata()
    type_annotation_map = TYPES


class Thing(TenantRecord, Base):
    __tablename__ = "things"

    name: Mapped[str]
    weight: Mapped[int]


SCHEMA = """
CREATE TABLE things (
    id uuid PRIMARY KEY, tenant_id text NOT NULL, name text NOT NULL, weight integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
""" + enable_tenancy("things")


class NewThing(BaseModel):
    """A thing to be put on the shelf."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    weight: Annotated[int, Field(ge=0, le=100_000)] = 0
    note: str | None = None


class ThingView(BaseModel):
    id: UUID
    name: str
    weight: int
    created_at: datetime


class ThingQuery(PageQuery):
    name: str | None = None


class Who(BaseModel):
    tenant_id: str
    principal: str
    role: str
    request_id: str


class Size(BaseModel):
    size: int


class ThingBroken(Conflict):
    """The thing fell off the shelf."""

    slug, title = "thing-broken", "The thing is broken"


api = Api("sample", description="Things on a shelf.")


@api.post("/v1/things", role=("owner", "manager"), status=201, examples={"body": {"name": "Box", "weight": 3}})
def create_thing(body: NewThing) -> Answer[ThingView]:
    """Put a thing on the shelf.

    Its name need not be unique.
    """
    with unit_of_work() as session:
        thing = Thing(name=body.name, weight=body.weight)
        session.add(thing)
        session.flush()
        session.refresh(thing)
    return Answer(thing, headers={"Location": f"/v1/things/{thing.id}"})


@api.get("/v1/things")
def list_things(query: ThingQuery) -> Page[ThingView]:
    """List the things, the newest first."""
    statement = select(Thing)
    if query.name is not None:
        statement = statement.where(Thing.name == query.name)
    with unit_of_work() as session:
        return paginate(session, statement, (Thing.created_at, Thing.id), query)


def _find(session: Any, thing_id: UUID) -> Thing:
    thing = session.get(Thing, thing_id)
    if thing is None:
        raise NotFound(f"There is no thing {thing_id}.")
    return thing


@api.get("/v1/things/<uuid:thing_id>", raises=(NotFound,))
def read_thing(thing_id: UUID) -> Answer[ThingView]:
    """Read one thing."""
    with unit_of_work() as session:
        thing = _find(session, thing_id)
        return Answer(thing, etag=etag(thing.id, thing.name, thing.weight))


@api.patch("/v1/things/<uuid:thing_id>", raises=(NotFound, PreconditionFailed))
def change_thing(thing_id: UUID, body: NewThing) -> Answer[ThingView]:
    """Change a thing, if it is still as the caller knows it."""
    with unit_of_work() as session:
        thing = _find(session, thing_id)
        require_match(etag(thing.id, thing.name, thing.weight))
        thing.name, thing.weight = body.name, body.weight
        return Answer(thing)


@api.delete("/v1/things/<uuid:thing_id>", role="owner", raises=(NotFound,))
def remove_thing(thing_id: UUID) -> None:
    """Take a thing off the shelf."""
    with unit_of_work() as session:
        session.delete(_find(session, thing_id))


@api.post("/v1/things/<uuid:thing_id>/drop", idempotency="required", status=202, raises=(NotFound, ThingBroken))
def drop_thing(thing_id: UUID) -> Answer[ThingView]:
    """Drop a thing. It leaves a dented twin; heavy ones break."""
    with unit_of_work() as session:
        thing = _find(session, thing_id)
        session.add(Thing(name=f"{thing.name} (dented)", weight=thing.weight))
        session.flush()
        if thing.weight > 1000:
            raise ThingBroken(f"{thing.name} is too heavy to be dropped.", weight=thing.weight)
    return Answer(thing)


@actor(queue_name="polish", unique="thing_id", subject="Polish {name}")
def polish(thing_id: UUID, name: str) -> None:
    """Polish a thing. Nobody runs it here."""


@api.post("/v1/things/<uuid:thing_id>/polish", idempotency="optional", status=202, raises=(NotFound,))
def polish_thing(thing_id: UUID):
    """Have a thing polished in the back room."""
    with unit_of_work() as session:
        thing = _find(session, thing_id)
        return accepted(polish.send(thing_id=thing.id, name=thing.name))


@api.get("/v1/whoami")
def whoami(identity: Identity) -> Who:
    """Say who asks."""
    context = current()
    return Who(
        tenant_id=identity.tenant_id,
        principal=identity.principal,
        role=identity.role,
        request_id=context.request_id or "",
    )


@api.post("/v1/uploads", idempotency="optional", content_types=("text/csv",), max_body=4 << 20)
def upload(body: BinaryIO) -> Size:
    """Take a file."""
    return Size(size=len(body.read()))


@api.post("/v1/hooks", public=True, status=202, answer=Size)
def hook(body: bytes) -> Size:
    """Take a webhook, verified over its raw bytes by whoever owns it."""
    return Size(size=len(body))


unruly = Api("unruly", description="Operations that break the Rule or simply break. Never in a document.")


@unruly.post("/v1/unruly/crash", hidden=True)
def crash() -> Size:
    with unit_of_work() as session:
        session.add(Thing(name="crashed", weight=0))
        session.flush()
        raise ZeroDivisionError("a secret in the message")


@unruly.post("/v1/unruly/slow-query", hidden=True)
def slow_query() -> Size:
    with unit_of_work() as session:
        session.connection().exec_driver_sql("SELECT pg_sleep(30)")
    return Size(size=0)


@unruly.post("/v1/unruly/slow-code", hidden=True)
def slow_code() -> Size:
    with unit_of_work() as session:
        session.add(Thing(name="slow", weight=0))
        time.sleep(2.1)
    return Size(size=0)


class Count(BaseModel):
    count: int
    how: str


@unruly.post("/v1/unruly/many", hidden=True)
def many(body: Count) -> Size:
    with unit_of_work() as session:
        rows = [{"id": uuid.uuid4(), "tenant_id": "acme", "name": "many", "weight": n} for n in range(body.count)]
        if body.how == "orm":
            session.add_all(Thing(**row) for row in rows)
        elif body.how == "bulk":
            session.execute(insert(Thing), rows)
        elif body.how == "sql":
            session.connection().exec_driver_sql(
                "INSERT INTO things (id, tenant_id, name, weight)"
                " SELECT gen_random_uuid(), 'acme', 'many', n FROM generate_series(1, %s) AS n",
                (body.count,),
            )
        elif body.how == "pieces":
            for row in rows:
                session.execute(insert(Thing).values(**row))
        elif body.how == "swallowed":
            with contextlib.suppress(Exception):
                session.execute(insert(Thing), rows)
    return Size(size=body.count)


@unruly.post("/v1/unruly/out-of-range", hidden=True)
def out_of_range() -> Size:
    with unit_of_work() as session:
        session.add(Thing(name="huge", weight=1 << 40))
    return Size(size=0)


@unruly.post("/v1/unruly/call-out", hidden=True)
def call_out() -> Size:
    import socket

    socket.create_connection(("127.0.0.1", 9), timeout=1)
    return Size(size=0)


@unruly.post("/v1/unruly/lock", hidden=True)
def lock() -> Size:
    with unit_of_work() as session:
        session.connection().exec_driver_sql("SET LOCAL lock_timeout = '50ms'")
        session.connection().exec_driver_sql("LOCK TABLE things IN ACCESS EXCLUSIVE MODE")
    return Size(size=0)
