"""Signing in and out: links, sessions, and who it is that asks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import flask
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import select

from services.workspaces import credentials, names, sessions
from services.workspaces.api import limits
from services.workspaces.api.base import CredentialRefused, Email, api, member_of, need_person, own_workspace
from services.workspaces.api.members import MemberView
from services.workspaces.api.workspaces import WorkspaceView
from services.workspaces.audit import audit
from services.workspaces.jobs import find_members
from services.workspaces.models import Member, UserSession
from services.workspaces.sessions import Admission
from services.workspaces.settings import settings
from shared.context import use
from shared.db import unit_of_work
from shared.web import Identity, NotFound, Page, PageQuery, paginate
from shared.web.problems import TooManyRequests

__all__: list[str] = []

_Subdomain = Annotated[str, StringConstraints(max_length=63)]
_Secret = Annotated[str, StringConstraints(min_length=1, max_length=300)]


class LinkWanted(BaseModel):
    """Who wants to sign in."""

    email: Email
    workspace: _Subdomain | None = Field(None, description="Its subdomain; left out: every workspace of this address.")


class LinkFollowed(BaseModel):
    """What a link says behind its #."""

    token: _Secret
    workspace: _Subdomain


class RefreshToken(BaseModel):
    refresh_token: _Secret


class Admitted(BaseModel):
    """Somebody is let in."""

    access_token: str = Field(description="Send it as `Authorization: Bearer …` to every service.")
    token_type: str = "Bearer"  # noqa: S105
    expires_in: int = Field(description="Seconds for which the access token is good.")
    refresh_token: str = Field(description="Good once, for the next access token. Used twice, it ends the session.")
    session_id: UUID
    member: MemberView


class SessionView(BaseModel):
    """A browser in which one is signed in."""

    model_config = ConfigDict(title="Session")

    id: UUID
    current: bool = Field(description="Whether it is the one that asks.")
    user_agent: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


class Me(BaseModel):
    """Who asks."""

    principal: str
    role: str
    scopes: list[str] | None = Field(description="To what an API key is limited; null for a person.")
    session_id: str | None
    workspace: WorkspaceView
    member: MemberView | None = Field(description="Null for an API key.")


@api.post("/v1/links", public=True, status=202, raises=(TooManyRequests,))
def ask_for_link(body: LinkWanted) -> None:
    """Have a link to sign in mailed, if there is a member with this address.

    The answer is the same whether there is one or not, and so is all that is done for it: a job looks.
    """
    with use(tenant_id=names.PUBLIC), unit_of_work() as session:
        limits.take(session, limits.LINKS_PER_CLIENT, limits.client())
        limits.take(session, limits.LINKS_PER_ADDRESS, body.email.lower())
        find_members.send(email=body.email, workspace=body.workspace)


@api.post("/v1/sessions", public=True, status=201, raises=(CredentialRefused, TooManyRequests))
def start_session(body: LinkFollowed) -> Admitted:
    """Sign in with a link, which is of no more use afterwards."""
    agent = "".join(c for c in flask.request.headers.get("User-Agent", "")[:200] if c.isprintable())
    with limits.counting_refusals():
        # No name that is reserved may come from outside: work of the tenant "system" sees all others.
        if not names.is_subdomain(body.workspace):
            raise CredentialRefused()
        with use(tenant_id=body.workspace), unit_of_work() as session:
            admission = sessions.sign_in(session, body.token, agent)
        return _admitted(admission)


@api.post("/v1/sessions/refresh", public=True, raises=(CredentialRefused, TooManyRequests))
def refresh_session(body: RefreshToken) -> Admitted:
    """Exchange a refresh token for new tokens. One that was used before ends its session."""
    with limits.counting_refusals():
        found = credentials.split(credentials.REFRESH, body.refresh_token)
        if found is None:
            raise CredentialRefused()
        tenant_id, secret = found
        with use(tenant_id=tenant_id), unit_of_work() as session:
            admission = sessions.refresh(session, secret)
        return _admitted(admission)


def _admitted(admission: Admission | None) -> Admitted:
    """Outside of the unit of work: what ended with the refusal has ended."""
    if admission is None:
        raise CredentialRefused()
    return Admitted(
        access_token=admission.access_token,
        expires_in=settings().access_seconds,
        refresh_token=admission.refresh_token,
        session_id=admission.session.id,
        member=MemberView.model_validate(admission.member),
    )


@api.get("/v1/sessions")
def list_sessions(query: PageQuery, identity: Identity) -> Page[SessionView]:
    """List where one is signed in oneself."""
    member_id = need_person(identity)
    statement = select(UserSession).where(UserSession.member_id == member_id, sessions.is_live())

    def view(row: UserSession) -> SessionView:
        shown = ("id", "user_agent", "created_at", "last_used_at", "expires_at")
        current = str(row.id) == identity.session_id
        return SessionView(**{name: getattr(row, name) for name in shown}, current=current)

    with unit_of_work() as session:
        return paginate(session, statement, (UserSession.id,), query, view=view)


@api.delete("/v1/sessions/<uuid:session_id>", standing="any", raises=(NotFound,))
def end_session(session_id: UUID, identity: Identity) -> None:
    """Sign out of one of one's own sessions, for example the current one (see `/v1/me`)."""
    member_id = need_person(identity)
    with unit_of_work() as session:
        mine = select(UserSession).where(UserSession.member_id == member_id, UserSession.ended_at.is_(None))
        found = session.scalar(mine.where(UserSession.id == session_id).with_for_update(key_share=True))
        if found is None:
            raise NotFound(f"You have no session {session_id}.")
        sessions.end(session, found, "signed_out")


@api.delete("/v1/sessions", standing="any")
def end_sessions(identity: Identity) -> None:
    """Sign out everywhere."""
    member_id = need_person(identity)
    with unit_of_work() as session:
        sessions.end_all(session, member_id, "signed_out")
        audit(session, "session.ended", f"member:{member_id}", because="signed_out")


@api.get("/v1/me", raises=(NotFound,))
def read_me(identity: Identity) -> Me:
    """Say who asks, and in which workspace."""
    member_id = member_of(identity)
    with unit_of_work() as session:
        workspace = own_workspace(session)
        member = session.get(Member, member_id) if member_id is not None else None
        return Me(
            principal=identity.principal,
            role=identity.role,
            scopes=sorted(identity.scopes) if identity.scopes is not None else None,
            session_id=identity.session_id,
            workspace=WorkspaceView.model_validate(workspace),
            member=MemberView.model_validate(member) if member is not None else None,
        )
