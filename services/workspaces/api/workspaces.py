"""Signing up, and the workspace itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from services.workspaces import names
from services.workspaces.api import limits
from services.workspaces.api.base import Email, Name, SubdomainTaken, api, own_workspace
from services.workspaces.audit import audit
from services.workspaces.plans import DEFAULT_PLAN, PlanName
from services.workspaces.signing_up import make_workspace
from shared.context import use
from shared.db import unit_of_work
from shared.events import publish
from shared.events.contracts.workspaces import WorkspaceChanged
from shared.web import Answer, NotFound, created, etag, require_match
from shared.web.problems import PreconditionFailed, TooManyRequests

__all__: list[str] = []

_ZONES: Final = frozenset(available_timezones())


def _is_zone(name: str) -> str:
    if name not in _ZONES:
        raise ValueError("is no time zone, such as Europe/Berlin")
    return name


TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_is_zone)]


class NewWorkspace(BaseModel):
    """A workspace to be made, with its owner."""

    name: Name = Field(description="Of the company.")
    subdomain: Annotated[str, StringConstraints(pattern=names.SUBDOMAIN)] | None = Field(
        None, description="Made of the owner's address or the company's name where it is left out."
    )
    email: Email = Field(description="The owner's; a link to sign in goes there.")
    owner_name: Name
    plan: PlanName = DEFAULT_PLAN
    time_zone: TimeZone = Field("UTC", description="As in the IANA database.", examples=["Europe/Berlin"])


class WorkspaceView(BaseModel):
    """A workspace as it is."""

    model_config = ConfigDict(title="Workspace", from_attributes=True)

    id: UUID
    subdomain: str = Field(validation_alias="tenant_id")
    name: str
    plan: str
    time_zone: str
    state: Literal["active", "canceled", "frozen", "suspended", "archived"]
    created_at: datetime


class WorkspaceChange(BaseModel):
    """What is to be different; what is left out stays."""

    name: Name | None = None
    time_zone: TimeZone | None = None


@api.post("/v1/workspaces", public=True, status=201, raises=(SubdomainTaken, TooManyRequests))
def sign_up(body: NewWorkspace) -> Answer[WorkspaceView]:
    """Make a workspace. Its owner is mailed a link to sign in, and is not let in before using it."""
    with use(tenant_id=names.PUBLIC), unit_of_work() as session:
        limits.take(session, limits.SIGN_UPS_PER_CLIENT, limits.client())
        limits.take(session, limits.SIGN_UPS_PER_ADDRESS, body.email.lower())
    if body.subdomain is None:
        choices = names.candidates(body.email, body.name)
    else:
        choices = iter([body.subdomain] if names.is_subdomain(body.subdomain) else [])
    for subdomain in choices:
        workspace = make_workspace(subdomain, body)
        if workspace is not None:
            return created(workspace, "/v1/workspace")
    raise SubdomainTaken()


@api.get("/v1/workspace", raises=(NotFound,))
def read_workspace() -> Answer[WorkspaceView]:
    """Read the workspace that the token is for."""
    with unit_of_work() as session:
        workspace = own_workspace(session)
        return Answer(workspace, etag=etag(workspace.id, workspace.version))


@api.patch("/v1/workspace", role="owner", raises=(NotFound, PreconditionFailed))
def change_workspace(body: WorkspaceChange) -> Answer[WorkspaceView]:
    """Change the name or the time zone of the workspace."""
    with unit_of_work() as session:
        workspace = own_workspace(session, lock=True)
        require_match(etag(workspace.id, workspace.version))
        changes = {
            name: value
            for name, value in body.model_dump(exclude_none=True).items()
            if value != getattr(workspace, name)
        }
        if changes:
            for name, value in changes.items():
                setattr(workspace, name, value)
            workspace.version += 1
            workspace.updated_at = datetime.now(UTC)
            event = WorkspaceChanged(name=workspace.name, time_zone=workspace.time_zone)
            publish(session, event, subject=workspace.id, sequence=workspace.version)
            audit(session, "workspace.changed", f"workspace:{workspace.id}", **changes)
        return Answer(workspace, etag=etag(workspace.id, workspace.version))
