"""A member's watches: written in plain words, shown as a rule, confirmed, paused and resumed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from services.notifications.api.addresses import wrong
from services.notifications.api.base import api
from services.notifications.audience import member_id_of
from services.notifications.jobs.watch_rules import write_watch_rule
from services.notifications.jobs.watches import check_watches_of_workspace
from services.notifications.watches.checking import next_slot, this_slot
from services.notifications.watches.connection import has_model
from services.notifications.watches.models import Watch
from services.notifications.watches.rule import Rule
from services.notifications.watches.words import meaning_of
from shared.db import new_id, unit_of_work
from shared.web import (
    Answer,
    BadRequest,
    Conflict,
    Forbidden,
    Identity,
    NotFound,
    Page,
    PageQuery,
    Unprocessable,
    accepted,
    etag,
    paginate,
    require_match,
)
from shared.web.jobs_view import JobView
from shared.web.problems import PreconditionFailed

__all__: list[str] = []

MOST_ACTIVE: Final = 10
"""Of one member."""
MOST_WATCHES: Final = 50
"""Of one member, drafts and paused ones included."""

Frequency = Literal[15, 30, 60, 1440]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=500)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class NoModel(Conflict):
    """No language model is connected that could read what you write. The owner of the workspace can connect one."""

    slug, title = "no-model", "No language model is connected"


class WatchStateForbids(Conflict):
    """The state of the watch does not allow it: see its `state`, and whether it has a rule yet."""

    slug, title = "watch-state-forbids", "The state of the watch does not allow it"


class TooManyWatches(Unprocessable):
    """A member has a limited number of watches, and of active ones. Pause or delete another one first."""

    slug, title = "too-many-watches", "There are too many watches"


class NewWatch(BaseModel):
    """What you want to be told of."""

    text: Words = Field(
        description="In your own words.", examples=["Tell me when an order is in Processing for more than 3 days"]
    )
    frequency: Frequency = Field(60, description="How often to look, in minutes.")


class WatchChange(BaseModel):
    """What to change; what is left away stays. For another rule write another watch."""

    title: Title | None = None
    frequency: Frequency | None = None


class WatchView(BaseModel):
    """A watch."""

    model_config = ConfigDict(title="Watch", from_attributes=True)

    id: UUID
    text: str = Field(description="What you wrote.")
    title: str = Field(description="Empty until there is a rule.")
    rule: Rule | None = Field(description="Null until it is written.")
    meaning: str | None = Field(description="What the rule does, in plain words: confirm this.")
    frequency: Frequency
    state: Literal["draft", "active", "paused"]
    paused_reason: Literal["by_hand", "errors"] | None
    next_run_at: datetime | None
    last_checked_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, row: Watch) -> WatchView:
        """Return a watch as its member sees it."""
        rule = None if row.rule is None else Rule.model_validate(row.rule)
        values = {name: getattr(row, name) for name in cls.model_fields if name not in ("rule", "meaning")}
        return cls(**values, rule=rule, meaning=None if rule is None else meaning_of(rule))


class WatchDrafted(BaseModel):
    """The watch, and the job that writes its rule. Read the watch when that is done, and confirm it."""

    watch: WatchView
    job: JobView


class WatchQuery(PageQuery):
    """Filters of the list."""

    state: Literal["draft", "active", "paused"] | None = None


@api.post("/v1/watches", status=202, raises=(Forbidden, NoModel, TooManyWatches))
def draft_watch(body: NewWatch, identity: Identity) -> Answer[WatchDrafted]:
    """Write what you want to be told of. A job has a language model make a rule of it, which you then confirm."""
    member_id = _member(identity)
    with unit_of_work() as session:
        if not has_model(session):
            raise NoModel()
        _line_up(session, member_id)
        if _count(session, member_id) >= MOST_WATCHES:
            raise TooManyWatches(f"You have {MOST_WATCHES} watches, drafts included. Delete one first.")
        row = Watch(id=new_id(), member_id=member_id, text=body.text, frequency=body.frequency)
        session.add(row)
        session.flush()
        session.refresh(row)
        answer = accepted(write_watch_rule.send(watch_id=row.id))
        return Answer(WatchDrafted(watch=WatchView.of(row), job=answer.body), status=202, headers=answer.headers)


@api.get("/v1/watches", raises=(Forbidden,))
def list_watches(query: WatchQuery, identity: Identity) -> Page[WatchView]:
    """List your watches, the latest first."""
    statement = select(Watch).where(Watch.member_id == _member(identity))
    if query.state is not None:
        statement = statement.where(Watch.state == query.state)
    with unit_of_work() as session:
        return paginate(session, statement, (Watch.id,), query, view=WatchView.of)


@api.get("/v1/watches/<uuid:watch_id>", raises=(Forbidden, NotFound))
def read_watch(watch_id: UUID, identity: Identity) -> Answer[WatchView]:
    """Read a watch."""
    with unit_of_work() as session:
        row = _find(session, watch_id, identity)
        return Answer(WatchView.of(row), etag=_tag(row))


@api.patch(
    "/v1/watches/<uuid:watch_id>",
    raises=(Forbidden, NotFound, BadRequest, PreconditionFailed),
    examples={"body": {"frequency": 15}},
)
def change_watch(watch_id: UUID, body: WatchChange, identity: Identity) -> Answer[WatchView]:
    """Give a watch another title, or have it checked more or less often."""
    for name in body.model_fields_set:
        if getattr(body, name) is None:
            raise wrong("It cannot be null.", name)
    with unit_of_work() as session:
        row = _find(session, watch_id, identity, lock=True)
        require_match(_tag(row))
        if body.title is not None:
            row.title = body.title
        if body.frequency is not None:
            row.frequency = body.frequency
            if row.state == "active":
                now = datetime.now(UTC)
                row.next_run_at = next_slot(this_slot(now), row.frequency, now)
        return _changed(session, row)


@api.post(
    "/v1/watches/<uuid:watch_id>/confirm",
    raises=(Forbidden, NotFound, PreconditionFailed, WatchStateForbids, TooManyWatches),
)
def confirm_watch(watch_id: UUID, identity: Identity) -> Answer[WatchView]:
    """Say that the rule is what you meant: it is checked now, and from now on."""
    with unit_of_work() as session:
        row = _find(session, watch_id, identity, line_up=True)
        require_match(_tag(row))
        if row.rule is None:
            raise WatchStateForbids("Its rule is not written yet.")
        if row.state == "paused":
            raise WatchStateForbids("It is paused; resume it.")
        return _activated(session, row)


@api.post("/v1/watches/<uuid:watch_id>/resume", raises=(Forbidden, NotFound, WatchStateForbids, TooManyWatches))
def resume_watch(watch_id: UUID, identity: Identity) -> Answer[WatchView]:
    """Have a paused watch checked again. What it has told before and is still so is not told again."""
    with unit_of_work() as session:
        row = _find(session, watch_id, identity, line_up=True)
        if row.state == "draft":
            raise WatchStateForbids("It is a draft; confirm it.")
        return _activated(session, row)


@api.post("/v1/watches/<uuid:watch_id>/pause", raises=(Forbidden, NotFound, WatchStateForbids))
def pause_watch(watch_id: UUID, identity: Identity) -> Answer[WatchView]:
    """Have a watch checked no more until it is resumed."""
    with unit_of_work() as session:
        row = _find(session, watch_id, identity, lock=True)
        if row.state == "draft":
            raise WatchStateForbids("It is a draft, which is not checked anyhow.")
        if row.state == "active":
            row.pause("by_hand")
        return _changed(session, row)


@api.delete("/v1/watches/<uuid:watch_id>", status=204, raises=(Forbidden, NotFound))
def delete_watch(watch_id: UUID, identity: Identity) -> None:
    """Delete a watch."""
    with unit_of_work() as session:
        session.delete(_find(session, watch_id, identity, lock=True))


def _member(identity: Identity) -> UUID:
    """Return the member who asks. Raises Forbidden for who is none."""
    member_id = member_id_of(identity.principal)
    if member_id is None:
        raise Forbidden("Watches belong to members, who are told; this token is of none.")
    return member_id


def _line_up(session: Session, member_id: UUID) -> None:
    """Wait until nobody else counts the watches of this member, and make others wait until the commit."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"watches of {member_id}"})


def _count(session: Session, member_id: UUID, state: str | None = None) -> int:
    counted = select(func.count()).select_from(Watch).where(Watch.member_id == member_id)
    return session.scalar(counted if state is None else counted.where(Watch.state == state)) or 0


def _find(session: Session, watch_id: UUID, identity: Identity, *, lock: bool = False, line_up: bool = False) -> Watch:
    """Return a watch of who asks. Raises NotFound."""
    member_id = _member(identity)
    if line_up:
        _line_up(session, member_id)
    statement = select(Watch).where(Watch.id == watch_id, Watch.member_id == member_id)
    row = session.scalar(statement.with_for_update() if lock or line_up else statement)
    if row is None:
        raise NotFound(f"There is no watch {watch_id}.")
    return row


def _activated(session: Session, row: Watch) -> Answer[WatchView]:
    """Have a watch checked, if there is room for one more; the first time at once."""
    if row.state != "active":
        if _count(session, row.member_id, "active") >= MOST_ACTIVE:
            raise TooManyWatches(f"You have {MOST_ACTIVE} active watches. Pause or delete one of them first.")
        row.activate(this_slot(datetime.now(UTC)))
        check_watches_of_workspace.send()
    return _changed(session, row)


def _changed(session: Session, row: Watch) -> Answer[WatchView]:
    row.version += 1
    row.updated_at = datetime.now(UTC)
    session.flush()
    return Answer(WatchView.of(row), etag=_tag(row))


def _tag(row: Watch) -> str:
    return etag(row.id, row.version, row.last_checked_at)
