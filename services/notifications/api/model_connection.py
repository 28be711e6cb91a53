"""The workspace's own language model, which writes its watches instead of ours. For the owner alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from services.notifications.api.addresses import checked, wrong
from services.notifications.api.base import api
from services.notifications.settings import settings
from services.notifications.watches.connection import seal
from services.notifications.watches.models import ModelConnection
from shared.context import current
from shared.db import unit_of_work
from shared.web import BadRequest, NotFound

__all__: list[str] = []

_HINT = 4
_LONG_ENOUGH = 24  # of a shorter key four characters would say too much


class NewModelConnection(BaseModel):
    """A language model to be asked."""

    base_url: Annotated[str, StringConstraints(min_length=8, max_length=500)] = Field(
        description="Where it answers, over https and on the internet. `/v1/chat/completions` is called there, or "
        "`/chat/completions` below the path that it has.",
        examples=["https://api.openai.com/v1"],
    )
    model: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")] = Field(description="Its name there.")
    key: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{8,1000}$")] = Field(
        description="Lets us in there, as a bearer token. It is kept encrypted and never shown again."
    )


class ModelConnectionView(BaseModel):
    """The model that is asked."""

    model_config = ConfigDict(title="ModelConnection", from_attributes=True)

    base_url: str
    model: str
    key_hint: str = Field(description="The last characters of the key.")
    connected_by: str | None
    updated_at: datetime


@api.get("/v1/model-connection", role="owner", raises=(NotFound,))
def read_model_connection() -> ModelConnectionView:
    """Read which language model of your own is asked."""
    with unit_of_work() as session:
        row = session.scalar(select(ModelConnection))
        if row is None:
            raise NotFound("No language model of your own is connected.")
        return ModelConnectionView.model_validate(row)


@api.put("/v1/model-connection", role="owner", raises=(BadRequest,))
def connect_model(body: NewModelConnection) -> ModelConnectionView:
    """Connect a language model, or another one. It is asked when the next watch is written."""
    target = checked(body.base_url, "base_url", settings().model_trusted_hosts, "a key is sent there")
    if "?" in target.target:
        raise wrong("The address must have no query.", "base_url")
    fields = {
        "base_url": target.url.rstrip("/"),
        "model": body.model,
        "key_sealed": seal(body.key),
        "key_hint": body.key[-_HINT:] if len(body.key) >= _LONG_ENOUGH else "",
        "connected_by": current().principal,
        "updated_at": datetime.now(UTC),
    }
    with unit_of_work() as session:
        row = session.scalars(
            insert(ModelConnection)
            .values(tenant_id=current().tenant_id, **fields)
            .on_conflict_do_update(index_elements=["tenant_id"], set_=fields)
            .returning(ModelConnection),
            execution_options={"populate_existing": True},
        ).one()
        return ModelConnectionView.model_validate(row)


@api.delete("/v1/model-connection", role="owner", status=204, raises=(NotFound,))
def disconnect_model() -> None:
    """Forget your own language model and its key; watches go on."""
    with unit_of_work() as session:
        row = session.scalar(select(ModelConnection))
        if row is None:
            raise NotFound("No language model of your own is connected.")
        session.delete(row)
