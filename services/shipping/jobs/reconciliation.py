"""Finding what should have happened and did not: hourly for labels of unknown outcome, nightly for the rest.

What is found is queued again once a night; what comes back three nights running is put before a person.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, exists, select, text
from sqlalchemy.orm import Session

from services.shipping.jobs.files import copy_label_file
from services.shipping.jobs.purchase import purchase_label
from services.shipping.jobs.recheck import recheck_label
from services.shipping.jobs.refunds import poll_refund, refund_label
from services.shipping.jobs.tracking import look_up_tracking
from services.shipping.jobs.webhooks import process_webhook
from services.shipping.models import Label, Order, Tracking
from services.shipping.settings import settings
from shared.db import unit_of_work
from shared.jobs import Priority, actor, cron
from shared.jobs.models import LIVE, Job
from shared.jobs.reconcile import Found, Lookout, queue_again, reconcile

__all__ = ["recheck_unknown_labels", "reconcile_nightly"]

_MOST: Final = 5000
"""Of each kind per night: what is more than this is no stray but an incident, and gets its turn tomorrow."""

_GRACE: Final = timedelta(minutes=15)


@actor(
    queue_name="default",
    priority=Priority.HIGH,
    unique=(),
    subject="Look for labels of unknown outcome",
    periodic=cron("7 * * * *"),
)
def recheck_unknown_labels() -> dict[str, int]:
    """Have every label of unknown outcome looked for, for a day after it was asked for."""
    since = datetime.now(UTC) - timedelta(hours=settings().recheck_hours)
    with unit_of_work(system=True) as session:
        found = _labels(session, Label.status.in_(("unknown", "needs_review")), Label.created_at > since)
        return {"labels": queue_again(recheck_label, found)}


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Nightly reconciliation",
    periodic=cron("30 2 * * *"),
)
def reconcile_nightly() -> dict[str, int]:
    """Queue anew what was left lying; see each look-out below."""
    return reconcile(_LOOKOUTS)


def _idle(job: Any = Label.job_id) -> ColumnElement[bool]:
    """True where the label's own job has ended, or there is none."""
    return ~exists().where(Job.id == job, Job.state.in_(LIVE))


def _labels(session: Session, *conditions: ColumnElement[bool]) -> list[Found]:
    rows = session.execute(
        select(Label.tenant_id, Label.id, Order.number)
        .join(Order, Order.id == Label.order_id)
        .where(*conditions, _idle())
        .order_by(Label.created_at)
        .limit(_MOST)
    )
    return [(row.tenant_id, {"label_id": row.id, "number": row.number}) for row in rows]


def _before(grace: timedelta = _GRACE) -> datetime:
    return datetime.now(UTC) - grace


def _never_begun(session: Session) -> list[Found]:
    return _labels(session, Label.status == "requested", Label.updated_at < _before())


def _undecided(session: Session) -> list[Found]:
    return _labels(session, Label.status.in_(("purchasing", "waiting", "unknown")), Label.updated_at < _before())


def _without_file(session: Session) -> list[Found]:
    return _labels(
        session,
        Label.status == "purchased",
        Label.file_key.is_(None),
        Label.file_deleted_at.is_(None),
        Label.purchased_at < _before(timedelta(hours=1)),
        Label.purchased_at > _before(timedelta(days=settings().label_file_days)),
    )


def _refunds(asked: bool) -> Any:
    def look(session: Session) -> list[Found]:
        known = Label.refund_provider_id.is_not(None) if asked else Label.refund_provider_id.is_(None)
        return _labels(session, Label.status == "refund_pending", Label.updated_at < _before(), known)

    return look


def _stale_tracking(session: Session) -> list[Found]:
    days, hours = settings().tracking_days, settings().tracking_stale_hours
    rows = session.execute(
        select(Tracking.tenant_id, Tracking.id, Order.number)
        .join(Order, Order.id == Tracking.order_id)
        .where(
            Tracking.status.in_(("unknown", "pre_transit", "transit")),
            Tracking.checked_at < _before(timedelta(hours=hours)),
            Tracking.created_at > _before(timedelta(days=days)),
        )
        .order_by(Tracking.checked_at)
        .limit(_MOST)
    )
    return [(row.tenant_id, {"tracking_id": row.id, "number": row.number}) for row in rows]


def _stuck_webhooks(session: Session) -> list[Found]:
    rows = session.execute(
        text(
            "SELECT tenant_id, id FROM webhook_events WHERE state = 'received' AND received_at < :before "
            "ORDER BY received_at LIMIT :most"
        ),
        {"before": _before(), "most": _MOST},
    )
    return [(row.tenant_id, {"event_id": row.id}) for row in rows]


_LOOKOUTS: Final = (
    Lookout("labels_never_begun", purchase_label, _never_begun),
    Lookout("labels_undecided", recheck_label, _undecided),
    Lookout("label_files_missing", copy_label_file, _without_file),
    Lookout("refunds_not_asked", refund_label, _refunds(asked=False)),
    Lookout("refunds_undecided", poll_refund, _refunds(asked=True), routine=True),
    Lookout("tracking_stale", look_up_tracking, _stale_tracking, routine=True),
    Lookout("webhooks_stuck", process_webhook, _stuck_webhooks),
)
