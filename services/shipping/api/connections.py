"""The workspace's account with Shippo. For the owner alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.shipping.api.base import api
from services.shipping.api.views import AddressIn
from services.shipping.credentials import (
    HMAC_SECRET,
    TOKEN,
    WEBHOOK_TOKEN,
    hash_of,
    new_webhook_token,
    seal_secret,
    webhook_path,
)
from services.shipping.jobs import verify_connection
from services.shipping.models import ShippoAccount
from services.shipping.settings import settings
from shared.context import current
from shared.db import new_id, unit_of_work
from shared.web import Answer, NotFound, accepted
from shared.web.jobs_view import JobView

__all__: list[str] = []


class NewConnection(BaseModel):
    """An account to be connected, or connected again."""

    token: Annotated[str, StringConstraints(pattern=r"^shippo_(live|test)_[\w.-]{1,200}$")] = Field(
        description="An API token of Shippo. It is kept encrypted and never shown again."
    )
    sender: AddressIn = Field(description="From where the workspace ships.")
    hmac_secret: Annotated[str, StringConstraints(min_length=8, max_length=200)] | None = Field(
        None, description="The secret with which Shippo signs webhooks, where one was arranged for."
    )
    renew_webhook_token: bool = Field(
        False, description="Make a new token for the URL of webhooks; the old one is refused from then on."
    )


class ConnectionView(BaseModel):
    """How the account stands."""

    status: Literal["checking", "connected", "needs_reauthorization"]
    token_hint: str = Field(description="The last characters of the token.")
    test: bool = Field(description="Whether labels are test labels, which cost nothing and ship nothing.")
    sender: AddressIn
    signed_webhooks: bool
    webhooks_registered: bool = Field(description="Whether we registered our webhook with Shippo by ourselves.")
    connected_by: str | None
    checked_at: datetime | None


class Connected(BaseModel):
    """The account, and the job that checks it."""

    connection: ConnectionView
    job: JobView
    webhook_url: str | None = Field(
        description="Where Shippo is to send webhooks; shown only when its token is new. Without a public address "
        "in the settings it is a path."
    )


@api.get("/v1/connections/shippo", role="owner", raises=(NotFound,))
def read_connection() -> ConnectionView:
    """Read how the account with Shippo stands."""
    with unit_of_work() as session:
        row = session.scalar(select(ShippoAccount))
        if row is None:
            raise NotFound("No account with Shippo is connected.")
        return _view(row)


@api.put("/v1/connections/shippo", role="owner", status=202)
def connect(body: NewConnection) -> Answer[Connected]:
    """Connect an account with Shippo, or replace its token. A job checks it; see its progress."""
    with unit_of_work() as session:
        row, token = _write(session, body)
        session.flush()
        answer = accepted(verify_connection.send(version=row.version))
        url = None
        if token is not None:
            url = f"{(settings().public_url or '').rstrip('/')}{webhook_path(row.tenant_id)}?token={token}"
        connected = Connected(connection=_view(row), job=answer.body, webhook_url=url)
        return Answer(connected, status=202, headers=answer.headers)


def _write(session: Session, body: NewConnection) -> tuple[ShippoAccount, str | None]:
    """Return the account as it is now, and the token of its webhooks if that is new."""
    token = new_webhook_token()
    now = datetime.now(UTC)
    fields = {
        "status": "checking",
        "token_sealed": seal_secret(TOKEN, body.token),
        "token_hint": body.token[-4:] if len(body.token) > 24 else "",
        "test": body.token.startswith("shippo_test_"),
        "hmac_secret_sealed": seal_secret(HMAC_SECRET, body.hmac_secret) if body.hmac_secret else None,
        "sender": body.sender.model_dump(),
        "connected_by": current().principal,
        "checked_at": None,
        "updated_at": now,
    }
    webhook = {
        "webhook_token_hash": hash_of(token),
        "webhook_token_sealed": seal_secret(WEBHOOK_TOKEN, token),
        "webhook_id": None,
    }
    # Two owners' clicks at once: one makes the row, the other waits for it and changes it.
    made = session.execute(
        insert(ShippoAccount)
        .values(id=new_id(), tenant_id=current().tenant_id, version=1, **fields, **webhook)
        .on_conflict_do_nothing()
        .returning(ShippoAccount.id)
    ).scalar()
    row = session.scalars(select(ShippoAccount).with_for_update(key_share=True)).one()
    if made is not None:
        return row, token
    renewed = webhook if body.renew_webhook_token else {}
    for name, value in {**fields, **renewed}.items():
        setattr(row, name, value)
    row.version += 1
    return row, token if renewed else None


def _view(row: ShippoAccount) -> ConnectionView:
    return ConnectionView(
        status=row.status,  # type: ignore[arg-type]
        token_hint=row.token_hint,
        test=row.test,
        sender=AddressIn.model_construct(**row.sender),
        signed_webhooks=row.hmac_secret_sealed is not None,
        webhooks_registered=row.webhook_id is not None,
        connected_by=row.connected_by,
        checked_at=row.checked_at,
    )
