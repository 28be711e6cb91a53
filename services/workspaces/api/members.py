"""Members: who looks after them, and what becomes of them. Nobody touches the owner but the owner."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.workspaces import links, members, sessions
from services.workspaces.api import limits
from services.workspaces.api.base import (
    MANAGERS,
    Email,
    EmailTaken,
    MemberStateForbids,
    Name,
    PlanLimit,
    Role,
    api,
    own_workspace,
)
from services.workspaces.audit import audit
from services.workspaces.credentials import revoke
from services.workspaces.members import MemberExists, PlanLimitReached
from services.workspaces.models import Member
from shared.db import unit_of_work
from shared.web import (
    Answer,
    Forbidden,
    Identity,
    NotFound,
    Page,
    PageQuery,
    created,
    etag,
    paginate,
    require_match,
)
from shared.web.problems import PreconditionFailed, TooManyRequests

__all__ = ["MemberView"]

InvitedRole = Literal["manager", "sales", "fulfillment"]
Status = Literal["invited", "active", "disabled"]


class NewMember(BaseModel):
    """Somebody to be invited. There is one owner, who cannot be invited."""

    email: Email
    name: Name
    role: InvitedRole


class MemberChange(BaseModel):
    """What is to be different; what is left out stays."""

    name: Name | None = None
    role: InvitedRole | None = None


class MemberView(BaseModel):
    """A member of the workspace."""

    model_config = ConfigDict(title="Member", from_attributes=True)

    id: UUID
    email: str
    name: str
    role: Role
    status: Status = Field(description="`invited` until the first sign-in.")
    version: int
    created_at: datetime
    updated_at: datetime


class MemberQuery(PageQuery):
    status: Status | None = None
    role: Role | None = None
    email: str | None = Field(None, max_length=254, description="The whole address, without regard to case.")


@api.get("/v1/members", role=MANAGERS)
def list_members(query: MemberQuery) -> Page[MemberView]:
    """List members, the newest first."""
    statement = select(Member)
    if query.status is not None:
        statement = statement.where(Member.status == query.status)
    if query.role is not None:
        statement = statement.where(Member.role == query.role)
    if query.email is not None:
        statement = statement.where(func.lower(Member.email) == query.email.lower())
    with unit_of_work() as session:
        return paginate(session, statement, (Member.id,), query)


@api.get("/v1/members/<uuid:member_id>", role=MANAGERS)
def read_member(member_id: UUID) -> Answer[MemberView]:
    """Read a member."""
    with unit_of_work() as session:
        return _answer(_find(session, member_id))


@api.post("/v1/members", role=MANAGERS, status=201, raises=(NotFound, EmailTaken, PlanLimit))
def invite_member(body: NewMember) -> Answer[MemberView]:
    """Invite somebody: a mail with a link goes out."""
    with unit_of_work() as session:
        own_workspace(session)
        try:
            member = members.invite(session, email=body.email, name=body.name, role=body.role)
        except MemberExists:
            raise EmailTaken(f"{body.email} is a member already.") from None
        except PlanLimitReached as reached:
            raise _plan_limit(reached) from None
        return created(member, f"/v1/members/{member.id}")


@api.patch("/v1/members/<uuid:member_id>", role=MANAGERS, raises=(PreconditionFailed, MemberStateForbids))
def change_member(member_id: UUID, body: MemberChange, identity: Identity) -> Answer[MemberView]:
    """Change a member's name or role. After another role its access tokens are refused; it gets new ones by itself."""
    with unit_of_work() as session:
        member = _find(session, member_id, identity)
        require_match(etag(member.id, member.version))
        changes = {
            name: value for name, value in body.model_dump(exclude_none=True).items() if value != getattr(member, name)
        }
        if "role" in changes and member.role == "owner":
            raise MemberStateForbids("The workspace has exactly one owner, who stays it.")
        if changes:
            before = member.role
            members.change(session, member, **changes)
            if "role" in changes:
                revoke(session, "member", member.id)
                changes["role_before"] = before
            audit(session, "member.changed", f"member:{member.id}", **changes)
        return _answer(member)


@api.post("/v1/members/<uuid:member_id>/disable", role=MANAGERS, standing="any", raises=(MemberStateForbids,))
def disable_member(member_id: UUID, identity: Identity) -> MemberView:
    """Let a member in no more: its links and sessions end, and its access tokens are refused everywhere."""
    with unit_of_work() as session:
        member = _find(session, member_id, identity)
        if member.role == "owner":
            raise MemberStateForbids("The owner cannot be disabled.")
        if member.status != "disabled":
            members.change(session, member, status="disabled")
            links.revoke_links(session, member.id)
            sessions.end_all(session, member.id, "disabled")
            audit(session, "member.disabled", f"member:{member.id}")
        return MemberView.model_validate(member)


@api.post("/v1/members/<uuid:member_id>/enable", role=MANAGERS, raises=(PlanLimit,))
def enable_member(member_id: UUID, identity: Identity) -> MemberView:
    """Let a disabled member in again, who signs in anew; who never did can be invited again."""
    with unit_of_work() as session:
        member = _find(session, member_id, identity)
        if member.status == "disabled":
            try:
                members.enable(session, member)
            except PlanLimitReached as reached:
                raise _plan_limit(reached) from None
        return MemberView.model_validate(member)


@api.post(
    "/v1/members/<uuid:member_id>/invitation", role=MANAGERS, status=204, raises=(MemberStateForbids, TooManyRequests)
)
def invite_again(member_id: UUID, identity: Identity) -> None:
    """Mail the invitation again. The link of the one before is of no more use."""
    with unit_of_work() as session:
        member = _find(session, member_id, identity)
        if member.status != "invited":
            raise MemberStateForbids("Only who has not signed in yet can be invited again.")
        limits.take(session, limits.INVITATIONS, str(member.id))
        members.send_invitation(session, member)


def _find(session: Session, member_id: UUID, identity: Identity | None = None) -> Member:
    """Return a member, locked where `identity` is to change it. Raises NotFound and Forbidden."""
    statement = select(Member).where(Member.id == member_id)
    member = session.scalar(statement if identity is None else statement.with_for_update(key_share=True))
    if member is None:
        raise NotFound(f"There is no member {member_id}.")
    if identity is not None and member.role == "owner" and identity.role != "owner":
        raise Forbidden("The owner alone may do this.", roles=["owner"])
    return member


def _answer(member: Member) -> Answer[MemberView]:
    return Answer(member, etag=etag(member.id, member.version))


def _plan_limit(reached: PlanLimitReached) -> PlanLimit:
    return PlanLimit(f"The plan allows {reached.limit} members.", limit=reached.limit)
