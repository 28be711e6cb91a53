"""What workspaces tells the others: who is who, and what a workspace may do."""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.events.contracts.contract import EventContract, example

__all__ = [
    "CredentialRevoked",
    "LinkIssued",
    "MemberChanged",
    "PlanChanged",
    "WinbackDue",
    "WorkspaceChanged",
    "WorkspaceCreated",
    "WorkspaceStateChanged",
]

State = Literal["active", "canceled", "frozen", "suspended", "archived"]
Role = Literal["owner", "manager", "sales", "fulfillment"]

_MEMBER = "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0c1a"
_CANCELLATION = "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0c2b"


class WorkspaceCreated(EventContract):
    """A workspace exists; its id is the event's tenant."""

    type: ClassVar[str] = "backroom.workspaces.workspace.created.v1"
    model_config = example(name="Acme Packaging", plan="team", owner_id=_MEMBER, time_zone="UTC")

    name: str
    plan: str
    owner_id: UUID
    time_zone: str = "UTC"


class WorkspaceChanged(EventContract):
    """A workspace has another name or time zone. The event's sequence is the workspace's version."""

    type: ClassVar[str] = "backroom.workspaces.workspace.changed.v1"
    model_config = example(name="Acme Packaging", time_zone="Europe/Berlin")

    name: str
    time_zone: str


class WorkspaceStateChanged(EventContract):
    """What a workspace may do has changed. The event's sequence is the workspace's version."""

    type: ClassVar[str] = "backroom.workspaces.workspace.state_changed.v1"
    model_config = example(
        state="frozen",
        previous="canceled",
        reason="lifecycle",
        cancellation_id=_CANCELLATION,
        changed_at="2026-03-15T00:00:00Z",
    )

    state: State
    previous: State
    reason: Literal["subscription", "lifecycle", "reactivated", "operator"]
    cancellation_id: UUID | None = Field(None, description="The cancellation of which this is a step.")
    changed_at: AwareDatetime


class PlanChanged(EventContract):
    """A workspace has another plan. Limits that are not named are those of the service's settings."""

    type: ClassVar[str] = "backroom.workspaces.plan.changed.v1"
    model_config = example(plan="team", limits={"members": 25, "samples": 50000})

    plan: str
    limits: dict[str, int]


class MemberChanged(EventContract):
    """A member is new or has changed. The event's sequence is the member's version."""

    type: ClassVar[str] = "backroom.workspaces.member.changed.v1"
    model_config = example(
        member_id=_MEMBER, email="eve@example.com", name="Eve Example", role="sales", status="active"
    )

    member_id: UUID
    email: str
    name: str
    role: Role
    status: Literal["invited", "active", "disabled"]


class LinkIssued(EventContract):
    """A link is to be mailed to a member. The link lets whoever has it in, so it travels sealed."""

    type: ClassVar[str] = "backroom.workspaces.link.issued.v1"
    model_config = example(
        link_id="0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0c3c",
        purpose="sign_in",
        member_id=_MEMBER,
        email="eve@example.com",
        name="Eve Example",
        workspace_name="Acme Packaging",
        url_sealed="v1:…",
        expires_at="2026-03-01T12:15:00Z",
    )

    link_id: UUID
    purpose: Literal["sign_in", "invitation"]
    member_id: UUID
    email: str
    name: str
    workspace_name: str
    url_sealed: str = Field(description='Sealed for the tenant with the purpose "link.url"; see shared.outbound.vault.')
    expires_at: AwareDatetime
    invited_by: str = Field("", description="The name of who invites.")


class CredentialRevoked(EventContract):
    """Access tokens of this credential are not to be honored any more, though they have not expired."""

    type: ClassVar[str] = "backroom.workspaces.credential.revoked.v1"
    model_config = example(
        kind="session",
        credential_id="0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0c4d",
        revoked_at="2026-03-01T12:00:00Z",
        forget_at="2026-03-01T12:15:00Z",
    )

    kind: Literal["session", "api_key", "member"]
    credential_id: UUID = Field(description="Of a member: every token issued to it until `revoked_at`.")
    revoked_at: AwareDatetime
    forget_at: AwareDatetime = Field(description="When the last of its tokens will have expired.")


class WinbackDue(EventContract):
    """The owner of a cancelled workspace is to be asked back; once per cancellation and step."""

    type: ClassVar[str] = "backroom.workspaces.workspace.winback_due.v1"
    model_config = example(
        step="winback_1",
        cancellation_id=_CANCELLATION,
        owner_id=_MEMBER,
        email="eve@example.com",
        name="Eve Example",
        workspace_name="Acme Packaging",
        freezes_at="2026-03-15T00:00:00Z",
    )

    step: Literal["winback_1", "winback_2"]
    cancellation_id: UUID
    owner_id: UUID
    email: str
    name: str
    workspace_name: str
    freezes_at: AwareDatetime = Field(description="When the workspace will be frozen.")
