"""What imports tells: somebody is to be invited, as a row of a file asks for."""

from __future__ import annotations

from sqlalchemy import select

from services.workspaces import members
from services.workspaces.members import MemberExists, PlanLimitReached
from services.workspaces.models import Workspace
from shared.context import use
from shared.db import unit_of_work
from shared.events.contracts.imports import MemberRequested
from shared.jobs import Event, GiveUp, Skip, handler

__all__ = ["invite_member"]


@handler(MemberRequested)
def invite_member(event: Event[MemberRequested]) -> None:
    """Invite somebody as the one who imported the file; who is a member already stays as it is."""
    wanted = event.data
    if not members.is_email(wanted.email):
        raise GiveUp("address_unusable", email=wanted.email[:100])
    name = " ".join(f"{wanted.first_name} {wanted.last_name}".split()) or wanted.email.partition("@")[0]
    with use(principal=wanted.requested_by), unit_of_work() as session:
        if session.scalar(select(Workspace.id)) is None:
            raise Skip("no_such_workspace")
        try:
            members.invite(session, email=wanted.email, name=name[:100], role=wanted.role)
        except MemberExists:
            raise Skip("member_exists") from None
        except PlanLimitReached as reached:
            raise GiveUp("plan_limit_reached", email=wanted.email, limit=reached.limit) from None
