"""What the operations of workspaces share: the api itself, who may, the kinds of text, and its own problems."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.workspaces.members import EMAIL
from services.workspaces.models import Workspace
from shared.web import Api, Conflict, Forbidden, Identity, NotFound, Unprocessable
from shared.web.problems import Unauthorized

__all__ = [
    "MANAGERS",
    "CredentialRefused",
    "Email",
    "EmailTaken",
    "MemberStateForbids",
    "Name",
    "PlanLimit",
    "Role",
    "SubdomainTaken",
    "api",
    "member_of",
    "need_person",
    "own_workspace",
]

api = Api("workspaces", description="Workspaces, members, sign-in, keys and subscriptions.")

MANAGERS: Final = ("owner", "manager")
"""Who looks after members."""

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]*$", min_length=1, max_length=100)
]
Email = Annotated[str, StringConstraints(pattern=EMAIL, max_length=254)]
Role = Literal["owner", "manager", "sales", "fulfillment"]


class CredentialRefused(Unauthorized):
    """This lets nobody in: it never did, or does no longer. Which of the two it is, is not told."""

    slug, title = "credential-refused", "This lets nobody in"

    def __init__(self) -> None:
        super().__init__("Ask for a new one.")


class SubdomainTaken(Conflict):
    """Another workspace has this subdomain, or it is reserved. Choose another one, or leave it to us."""

    slug, title = "subdomain-taken", "The subdomain is taken"


class EmailTaken(Conflict):
    """The workspace has a member with this address; one who was disabled can be enabled again."""

    slug, title = "email-taken", "The workspace has this member"


class MemberStateForbids(Conflict):
    """The state of the member does not allow it: who has signed in needs no invitation, for example."""

    slug, title = "member-state-forbids", "The state of the member does not allow it"


class PlanLimit(Unprocessable):
    """The workspace has as much as its plan allows; `limit` says how many. The owner can choose a larger plan."""

    slug, title = "plan-limit-reached", "The plan does not allow more"


def own_workspace(session: Session, *, lock: bool = False) -> Workspace:
    """Return the workspace of the current tenant. Raises NotFound where a token is for one that is not here."""
    statement = select(Workspace)
    found = session.scalar(statement.with_for_update(key_share=True) if lock else statement)
    if found is None:
        raise NotFound("There is no such workspace.")
    return found


def member_of(identity: Identity) -> UUID | None:
    """Return the id of the member who asks, None for anything but a person."""
    kind, _, rest = identity.principal.partition(":")
    try:
        return UUID(rest) if kind == "user" else None
    except ValueError:
        return None


def need_person(identity: Identity) -> UUID:
    """Return the id of the member who asks. Raises Forbidden for an API key: it would outgrow its own scopes."""
    member_id = member_of(identity)
    if member_id is None or identity.scopes is not None:
        raise Forbidden("This is for people who have signed in.")
    return member_id
