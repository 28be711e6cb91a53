"""API keys: how programs get in. A key is exchanged for short-lived access tokens, which is what services see."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import func, select

from services.workspaces import api_keys
from services.workspaces.api import limits
from services.workspaces.api.base import CredentialRefused, Name, Role, api, need_person, own_workspace
from services.workspaces.credentials import API_KEY, split
from services.workspaces.models import ApiKey
from shared.context import use
from shared.db import unit_of_work
from shared.web import (
    Answer,
    BadRequest,
    FieldError,
    Identity,
    NotFound,
    Page,
    PageQuery,
    Unprocessable,
    created,
    paginate,
)
from shared.web.problems import TooManyRequests

__all__: list[str] = []

_MOST: Final = 100

Scope = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,30}:(read|write)$")]


class NewKey(BaseModel):
    """A key to be made."""

    name: Name = Field(description="What uses it.")
    role: Role = Field(description="What it may do at most, as if it were a member.")
    scopes: list[Scope] = Field(
        min_length=1,
        max_length=20,
        description="`<service>:read` to GET, `<service>:write` for all that the role may.",
        examples=[["shipping:write", "imports:read"]],
    )
    expires_at: AwareDatetime | None = Field(None, description="When it is over by itself.")


class KeyView(BaseModel):
    """A key, without its secret."""

    model_config = ConfigDict(title="ApiKey", from_attributes=True)

    id: UUID
    name: str
    role: Role
    scopes: list[str]
    hint: str = Field(description="The last characters of the secret.")
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class MadeKey(KeyView):
    """A new key. Its secret is shown this once."""

    model_config = ConfigDict(title="NewApiKey", from_attributes=True)

    secret: str


class KeyGiven(BaseModel):
    key: Annotated[str, StringConstraints(min_length=1, max_length=300)]


class Token(BaseModel):
    """An access token."""

    access_token: str = Field(description="Send it as `Authorization: Bearer …` to every service.")
    token_type: str = "Bearer"  # noqa: S105
    expires_in: int = Field(description="Seconds for which it is good.")


# No idempotency key: its answer, and with it the secret, would be kept for a week.
@api.post("/v1/api-keys", role="owner", status=201, idempotency="none", raises=(NotFound, Unprocessable))
def make_key(body: NewKey, identity: Identity) -> Answer[MadeKey]:
    """Make an API key."""
    need_person(identity)
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise BadRequest(errors=[FieldError(pointer="/expires_at", detail="It lies in the past.")])
    with unit_of_work() as session:
        own_workspace(session, lock=True)
        count = session.scalar(select(func.count()).select_from(ApiKey).where(ApiKey.revoked_at.is_(None))) or 0
        if count >= _MOST:
            raise Unprocessable(f"A workspace has {_MOST} keys at most; revoke one first.", limit=_MOST)
        scopes = sorted(set(body.scopes))
        key, secret = api_keys.make(session, body.name, body.role, scopes, body.expires_at)
        made = MadeKey(**KeyView.model_validate(key).model_dump(), secret=secret)
        return created(made, f"/v1/api-keys/{key.id}")


@api.get("/v1/api-keys", role="owner")
def list_keys(query: PageQuery) -> Page[KeyView]:
    """List the keys that are not revoked, the newest first."""
    with unit_of_work() as session:
        return paginate(session, select(ApiKey).where(ApiKey.revoked_at.is_(None)), (ApiKey.id,), query)


@api.delete("/v1/api-keys/<uuid:key_id>", role="owner", standing="any")
def revoke_key(key_id: UUID) -> None:
    """Revoke a key: it gets no more access tokens, and those that it has are refused everywhere."""
    with unit_of_work() as session:
        statement = select(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        key = session.scalar(statement.with_for_update(key_share=True))
        if key is None:
            raise NotFound(f"There is no key {key_id}.")
        api_keys.revoke_key(session, key)


@api.post("/v1/tokens", public=True, raises=(CredentialRefused, TooManyRequests))
def exchange_key(body: KeyGiven) -> Token:
    """Exchange an API key for an access token. Do so again shortly before that expires."""
    with limits.counting_refusals():
        found = split(API_KEY, body.key)
        if found is None:
            raise CredentialRefused()
        tenant_id, secret = found
        with use(tenant_id=tenant_id), unit_of_work() as session:
            token = api_keys.exchange(session, secret)
            if token is None:
                raise CredentialRefused()
            access_token, seconds = token
            return Token(access_token=access_token, expires_in=seconds)
