"""Alerts: see what went wrong, say that one looks after it, have it tried again, say that it is done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Select, func, literal, select, text
from sqlalchemy.orm import Session

from services.notifications.alerts import resolve
from services.notifications.api.base import api
from services.notifications.tables import Alert, Occurrence
from shared.db import unit_of_work
from shared.events import publish
from shared.events.contracts.notifications import RetryRequested
from shared.web import Answer, Conflict, Identity, NotFound, Page, PageQuery, paginate

__all__: list[str] = []

_SHOWN: Final = 10
"""Failures that are shown with an alert."""

_FIGURES: Final = """
SELECT alert_id, count(*) AS count, count(*) FILTER (WHERE cleared_at IS NULL) AS remaining, max(at) AS last_at
FROM alert_occurrences WHERE tenant_id = :tenant AND alert_id = ANY(:ids) GROUP BY alert_id
"""

_SAMPLE: Final = """
SELECT alert.id AS alert_id, o.key, o.subject, o.at, o.cleared_at
FROM unnest(CAST(:ids AS uuid[])) AS alert(id), LATERAL (
    SELECT * FROM alert_occurrences WHERE tenant_id = :tenant AND alert_id = alert.id ORDER BY at DESC LIMIT :shown
) AS o
"""


class AlertStateForbids(Conflict):
    """The alert does not allow it: it is resolved, or what it tells of cannot be tried again."""

    slug, title = "alert-state-forbids", "The alert does not allow it"


class AlertQuery(PageQuery):
    """Filters of the list."""

    state: Literal["live", "open", "acknowledged", "resolved"] | None = Field(
        None, description="`live` is whatever is not resolved."
    )


class FailureOf(BaseModel):
    """One failure among those of an alert."""

    model_config = ConfigDict(title="AlertFailure")

    job_id: str | None = Field(description="The job of that service, where one failed.")
    subject: str | None = Field(description="What it was about.", examples=["Label for order 1042"])
    at: datetime
    mended_at: datetime | None = Field(description="When it came right after all, where that was told.")


class AlertView(BaseModel):
    """What went wrong from one cause."""

    model_config = ConfigDict(title="Alert")

    id: UUID
    kind: str = Field(description="What sort of thing went wrong, for programs.", examples=["job_failed"])
    state: Literal["open", "acknowledged", "resolved"]
    what: str = Field(description="What happened. This and the three below are sentences for people.")
    meaning: str
    doing: str
    action: str
    service: str
    actor: str | None = Field(description="What kind of job failed.")
    code: str | None
    provider: str | None
    count: int = Field(description="How often it happened: jobs that failed, each counted once.")
    remaining: int = Field(description="How many of them did not come right yet.")
    first_at: datetime
    last_at: datetime
    can_retry: bool
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    retried_by: str | None
    retried_at: datetime | None
    resolved_by: str | None = Field(description="Null where it fell silent by itself.")
    resolved_at: datetime | None
    resolution: str | None = Field(description="Why it is resolved.", examples=["mended"])
    newest: list[FailureOf] = Field(description=f"The newest failures, {_SHOWN} at most.")


@api.get("/v1/alerts")
def list_alerts(query: AlertQuery, identity: Identity) -> Page[AlertView]:
    """List the alerts about which one's role can do something, the newest first."""
    statement = _visible(identity)
    if query.state == "live":
        statement = statement.where(Alert.state != "resolved")
    elif query.state is not None:
        statement = statement.where(Alert.state == query.state)
    with unit_of_work() as session:
        page = paginate(session, statement, (Alert.id,), query)
        return Page(items=_views(session, page.items), next_cursor=page.next_cursor)


@api.get("/v1/alerts/<uuid:alert_id>", raises=(NotFound,))
def read_alert(alert_id: UUID, identity: Identity) -> AlertView:
    """Read an alert."""
    with unit_of_work() as session:
        return _views(session, [_find(session, alert_id, identity)])[0]


@api.post("/v1/alerts/<uuid:alert_id>/acknowledge", raises=(NotFound, AlertStateForbids))
def acknowledge_alert(alert_id: UUID, identity: Identity) -> AlertView:
    """Say that one looks after it. Who was first stays so."""
    with unit_of_work() as session:
        alert = _find(session, alert_id, identity, live=True)
        if alert.state == "open":
            alert.state = "acknowledged"
            alert.acknowledged_by, alert.acknowledged_at = identity.principal, _now(session)
        return _views(session, [alert])[0]


@api.post("/v1/alerts/<uuid:alert_id>/resolve", raises=(NotFound, AlertStateForbids))
def resolve_alert(alert_id: UUID, identity: Identity) -> AlertView:
    """Say that it is done. If the cause strikes again, that is a new alert."""
    with unit_of_work() as session:
        alert = _find(session, alert_id, identity, live=True)
        resolve(session, "id = :id", {"id": alert.id}, "by_hand", by=identity.principal)
        session.refresh(alert)
        return _views(session, [alert])[0]


@api.post("/v1/alerts/<uuid:alert_id>/retry", status=202, raises=(NotFound, AlertStateForbids))
def retry_alert(alert_id: UUID, identity: Identity) -> Answer[AlertView]:
    """Have everything that failed from this cause tried again; asking twice is asking once.

    It can be asked again when something has failed since.
    """
    with unit_of_work() as session:
        alert = _find(session, alert_id, identity, live=True)
        if not _can_retry(alert):
            raise AlertStateForbids("There is nothing here that could be tried again.")
        assert alert.actor is not None
        last_at = session.scalar(
            select(func.max(Occurrence.at)).where(
                Occurrence.tenant_id == alert.tenant_id, Occurrence.alert_id == alert.id
            )
        )
        if alert.retried_at is None or (last_at is not None and last_at > alert.retried_at):
            alert.retried_by, alert.retried_at = identity.principal, _now(session)
            event = RetryRequested(
                service=alert.service,
                actor=alert.actor,
                code=alert.code,
                failed_before=alert.retried_at,
                requested_by=identity.principal,
                alert_id=alert.id,
            )
            publish(session, event, subject=alert.id)
        return Answer(_views(session, [alert])[0], status=202)


def _visible(identity: Identity) -> Select[Any]:
    return select(Alert).where(Alert.tenant_id == identity.tenant_id, literal(identity.role) == func.any(Alert.roles))


def _find(session: Session, alert_id: UUID, identity: Identity, *, live: bool = False) -> Alert:
    """Return an alert that the caller may see; a `live` one is held, and what strikes it waits meanwhile."""
    statement = _visible(identity).where(Alert.id == alert_id)
    alert: Alert | None = session.scalar(statement.with_for_update() if live else statement)
    if alert is None:
        raise NotFound("There is no such alert.")
    if live and alert.state == "resolved":
        raise AlertStateForbids("The alert is resolved already.")
    return alert


def _views(session: Session, alerts: Sequence[Alert]) -> list[AlertView]:
    if not alerts:
        return []
    values = {"tenant": alerts[0].tenant_id, "ids": [alert.id for alert in alerts], "shown": _SHOWN}
    live = [alert.id for alert in alerts if alert.state != "resolved"]
    figures = {row.alert_id: row for row in session.execute(text(_FIGURES), {**values, "ids": live})} if live else {}
    newest: dict[UUID, list[FailureOf]] = {}
    for row in session.execute(text(_SAMPLE), values):
        newest.setdefault(row.alert_id, []).append(
            FailureOf(job_id=row.key, subject=row.subject, at=row.at, mended_at=row.cleared_at)
        )
    return [_view(alert, figures.get(alert.id, alert), newest.get(alert.id, [])) for alert in alerts]


def _view(alert: Alert, figures: Any, newest: list[FailureOf]) -> AlertView:
    own = {name: getattr(alert, name) for name in AlertView.model_fields if hasattr(alert, name)}
    counted = {"count": figures.count, "remaining": figures.remaining, "last_at": figures.last_at}
    if alert.kind != "job_failed":
        newest = [failure.model_copy(update={"job_id": None}) for failure in newest]
    return AlertView.model_validate(own | counted | {"can_retry": _can_retry(alert), "newest": newest})


def _can_retry(alert: Alert) -> bool:
    return alert.kind == "job_failed" and alert.state != "resolved"


def _now(session: Session) -> datetime:
    moment: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return moment
