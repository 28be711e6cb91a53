"""Alerts: one per workspace and cause, however often it strikes, told once to each who can act.

What goes wrong adds an occurrence; the alert's row it only shares (`FOR SHARE`), so that five thousand failures at a
time wait for nobody, and none is lost to a resolution at the same moment. The first of a cause makes the alert and
tells of it. What belongs to no workspace is an alert of the tenant `SYSTEM`: the log and a metric tell the operators.

An alert falls silent when its cause is gone. `jobs/alerts.py` says how that is found out.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.notifications import mail
from services.notifications.audience import People, in_roles, member_id_of
from services.notifications.models import Member
from services.notifications.notices import tell
from services.notifications.settings import settings
from services.notifications.tables import Alert, Occurrence
from shared.context import SYSTEM, current
from shared.db import new_id
from shared.jobs import FailureText
from shared.telemetry import get_logger, metrics

__all__ = ["Cause", "resolve", "strike"]

log = get_logger(__name__)

_TRIES: Final = 5

_HOLD: Final = "SELECT id FROM alerts WHERE state <> 'resolved' AND {where} ORDER BY id LIMIT 1000 FOR UPDATE"

_RESOLVE: Final = """
UPDATE alerts SET
    state = 'resolved', resolution = :resolution, resolved_by = :by, resolved_at = clock_timestamp(),
    (count, remaining, last_at) = (
        SELECT count(*), count(*) FILTER (WHERE cleared_at IS NULL), coalesce(max(at), alerts.last_at)
        FROM alert_occurrences AS o WHERE o.tenant_id = alerts.tenant_id AND o.alert_id = alerts.id
    )
WHERE id = ANY(:held) AND {where}
"""


@dataclass(frozen=True, slots=True)
class Cause:
    """What goes wrong: `kind` and `key` make it one alert. `says` is what people read."""

    kind: str
    key: str
    service: str
    people: People
    says: FailureText
    actor: str | None = None
    code: str | None = None
    provider: str | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.service}:{self.key}"


def strike(session: Session, cause: Cause, *, key: str, subject: str | None, at: datetime) -> None:
    """Note that something went wrong in the current tenant, and open an alert where none of its cause is live.

    `key` is the id of what failed: the same job that fails again is counted once. `subject` is its name for people.
    """
    tenant_id = current().tenant_id
    assert tenant_id is not None
    alert_id, new = _live(session, tenant_id, cause, at)
    occurrence = insert(Occurrence).values(tenant_id=tenant_id, alert_id=alert_id, key=key, subject=subject, at=at)
    session.execute(
        occurrence.on_conflict_do_update(
            index_elements=["tenant_id", "alert_id", "key"],
            set_={"at": func.greatest(Occurrence.at, occurrence.excluded.at), "cleared_at": None},
            # An old event that comes late does not undo what was cleared since.
            where=Occurrence.at < occurrence.excluded.at,
        )
    )
    if new:
        _announce(session, tenant_id, alert_id, cause)


def resolve(
    session: Session,
    where: str,
    values: Mapping[str, Any],
    resolution: str,
    *,
    by: str | None = None,
    skip_busy: bool = False,
) -> int:
    """Resolve the live alerts that fulfil a condition in SQL on `alerts`; return how many.

    They are those of the session's tenant; for `SYSTEM` those of all. `skip_busy` passes over those that something
    just strikes. The condition is looked at again once they are held: what has struck meanwhile keeps them live.
    """
    statement = _HOLD.format(where=where) + (" SKIP LOCKED" if skip_busy else "")
    held = session.scalars(text(statement), values).all()
    if not held:
        return 0
    resolved = session.execute(
        text(_RESOLVE.format(where=where)), {**values, "held": held, "resolution": resolution, "by": by}
    )
    return int(resolved.rowcount)  # type: ignore[attr-defined]


def _live(session: Session, tenant_id: str, cause: Cause, at: datetime) -> tuple[uuid.UUID, bool]:
    """Return the live alert of a cause, shared until the transaction ends, and whether it is new."""
    known = (
        select(Alert.id)
        .where(Alert.tenant_id == tenant_id, Alert.cause == cause.name, Alert.state != "resolved")
        .with_for_update(read=True)
    )
    new = (
        insert(Alert)
        .values(
            tenant_id=tenant_id,
            id=new_id(),
            kind=cause.kind,
            cause=cause.name,
            service=cause.service,
            actor=cause.actor,
            code=cause.code,
            provider=cause.provider,
            roles=list(cause.people.roles),
            what=cause.says.what,
            meaning=cause.says.meaning,
            doing=cause.says.doing,
            action=cause.says.action,
            state="open",
            first_at=at,
            last_at=at,
        )
        .on_conflict_do_nothing()
        .returning(Alert.id)
    )
    # Between a conflict and the second look, somebody may have resolved it.
    for _ in range(_TRIES):
        if (alert_id := session.scalar(known)) is not None:
            return alert_id, False
        if (alert_id := session.scalar(new)) is not None:
            return alert_id, True
    raise RuntimeError(f"the alert {cause.name} could neither be opened nor found")


def _announce(session: Session, tenant_id: str, alert_id: uuid.UUID, cause: Cause) -> None:
    metrics.alert_opened(cause.kind, cause.service)
    if tenant_id == SYSTEM:
        log.error("alert", kind=cause.kind, cause=cause.name, what=cause.says.what, about=cause.service)
        return
    who = in_roles(cause.people.roles)
    if cause.people.told_apart and (starter := member_id_of(current().principal)) is not None:
        who = and_(who, Member.id != starter)
    says, link = cause.says, f"/alerts/{alert_id}"
    told = tell(
        session,
        "alert",
        who,
        says.what,
        f"{says.meaning} {says.action}",
        link=link,
        dedupe_key=f"alert:{alert_id}",
    )
    if not cause.people.by_mail:
        return
    values = {
        "title": says.what,
        "what": says.what,
        "meaning": says.meaning,
        "doing": says.doing,
        "action": says.action,
        "count": 1,
        "url": settings().console_url + link,
    }
    members = session.scalars(select(Member).where(Member.tenant_id == tenant_id, Member.id.in_(told)))
    mails = [mail.NewMail(member, values, f"alert:{alert_id}:{member.id}") for member in members]
    mail.queue_many(session, "alert", mails, kind="alert")
