"""What a member wants to be told by mail, and how a mail program ends it with one click."""

from __future__ import annotations

from html import escape
from typing import Final
from uuid import UUID

import flask
from pydantic import BaseModel, Field
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.notifications.api.base import api
from services.notifications.mail import unsubscribing
from services.notifications.mail.models import CHOSEN, Preference
from services.notifications.models import Member, member_of
from shared.context import use
from shared.db import unit_of_work
from shared.web import BadRequest, Conflict, FieldError, Identity

__all__: list[str] = []


class NotAMember(Conflict):
    """Only members get mails, and this token is of none: it is a program's, or of somebody who is new this second."""

    slug, title = "not-a-member", "Only members have preferences"


class Preferences(BaseModel):
    """Which mails a member gets. Mails about signing in and about billing cannot be turned off."""

    shipping: bool = Field(True, description="Labels and parcels of the orders that the member entered.")
    alert: bool = Field(True, description="What failed and needs somebody.")
    bulk: bool = Field(True, description="Digests, reminders, imports that are complete.")


class UnsubscribeQuery(BaseModel):
    token: str = Field(max_length=1000, description="From the List-Unsubscribe header of a mail.")


class Unsubscribed(BaseModel):
    """No more mails of this kind, until the member wants them again."""

    unsubscribed: str = Field(description="The kind.")


@api.get("/v1/preferences", raises=(NotAMember,))
def read_preferences(identity: Identity) -> Preferences:
    """Read which mails you get."""
    with unit_of_work() as session:
        return _preferences(session, _member(session, identity).id)


@api.put("/v1/preferences", raises=(NotAMember,))
def choose_preferences(body: Preferences, identity: Identity) -> Preferences:
    """Choose which mails you get."""
    with unit_of_work() as session:
        member = _member(session, identity)
        off = [kind for kind in CHOSEN if not getattr(body, kind)]
        session.execute(delete(Preference).where(Preference.member_id == member.id, Preference.kind.not_in(off)))
        _turn_off(session, member.tenant_id, member.id, off)
        return body


@api.post("/v1/unsubscribe", public=True, raises=(BadRequest,))
def unsubscribe(query: UnsubscribeQuery, body: bytes) -> Unsubscribed:
    """Turn off the kind of mail that the token is of, as mail programs do with one click (RFC 8058)."""
    leave = _leave(query.token)
    with use(tenant_id=leave.tenant_id, principal=f"user:{leave.member_id}"), unit_of_work() as session:
        _turn_off(session, leave.tenant_id, leave.member_id, [leave.kind])
    return Unsubscribed(unsubscribed=leave.kind)


@api.get("/v1/unsubscribe", public=True, raises=(BadRequest,), answer_type="text/html")
def offer_to_unsubscribe(query: UnsubscribeQuery) -> flask.Response:
    """Show a button that turns the mails off. A GET does not: scanners of mails follow every link."""
    leave = _leave(query.token)
    page = _PAGE.format(kind=_KINDS[leave.kind], token=escape(flask.request.query_string.decode("ascii", "replace")))
    policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    return flask.Response(page, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


_KINDS: Final = {"shipping": "about your orders", "alert": "about what failed", "bulk": "with digests and reminders"}

_PAGE: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Unsubscribe</title>
<meta name="viewport" content="width=device-width"></head>
<body><h1>No more mails {kind}?</h1>
<form method="post" action="/v1/unsubscribe?{token}"><button>Yes, send me none</button></form>
<p>You can change this at any time in your preferences.</p></body></html>
"""


def _leave(token: str) -> unsubscribing.Leave:
    try:
        return unsubscribing.read(token)
    except unsubscribing.BadToken:
        raise BadRequest(errors=[FieldError(pointer="query:token", detail="This is none of our links.")]) from None


def _member(session: Session, identity: Identity) -> Member:
    member = member_of(session, identity.principal)
    if member is None:
        raise NotAMember()
    return member


def _preferences(session: Session, member_id: UUID) -> Preferences:
    off = session.scalars(select(Preference.kind).where(Preference.member_id == member_id))
    return Preferences(**dict.fromkeys(off, False))


def _turn_off(session: Session, tenant_id: str, member_id: UUID, kinds: list[str]) -> None:
    if kinds:
        rows = [{"tenant_id": tenant_id, "member_id": member_id, "kind": kind} for kind in kinds]
        session.execute(insert(Preference).values(rows).on_conflict_do_nothing())
