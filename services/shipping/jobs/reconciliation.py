"""Finding what should have happened and did not: hourly for labels of unknown outcome, nightly for the rest.

What is found is queued again once a night; what comes back three nights running is put before a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from shared.jobs import Actor, Priority, actor, cron, current_job, enqueue_many
from shared.jobs.models import LIVE, Job
from shared.telemetry import get_logger

__all__ = ["recheck_unknown_labels", "reconcile_nightly"]

log = get_logger(__name__)

_MOST: Final = 5000
"""Of each kind per night: what is more than this is no stray but an incident, and gets its turn tomorrow."""

_NIGHTS: Final = 3
_GRACE: Final = timedelta(minutes=15)

Found = tuple[str, dict[str, Any]]
"""A tenant and the arguments of the job that mends it."""

_SEEN: Final = """
INSERT INTO reconciliations AS known (name, tenant_id, item, nights, last_night)
SELECT :name, tenant_id, item, 1, :night
FROM unnest(CAST(:tenants AS text[]), CAST(:items AS text[])) AS found(tenant_id, item)
ON CONFLICT (name, tenant_id, item) DO UPDATE SET
    nights = CASE WHEN known.last_night >= CAST(:night AS date) - 1 AND known.last_night < CAST(:night AS date)
                  THEN known.nights + 1 WHEN known.last_night = CAST(:night AS date) THEN known.nights ELSE 1 END,
    last_night = excluded.last_night
RETURNING tenant_id, item, nights
"""
_FORGET: Final = "DELETE FROM reconciliations WHERE last_night < CAST(:night AS date) - 7"


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
        return {"labels": _queue(recheck_label, found)}


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Nightly reconciliation",
    periodic=cron("30 2 * * *"),
)
def reconcile_nightly() -> dict[str, int]:
    """Queue anew what was left lying; see each look-out below."""
    done: dict[str, int] = {}
    night = datetime.now(UTC).date()
    for name, (declared, look) in _LOOKOUTS.items():
        with unit_of_work(system=True) as session:
            found = look(session)
            done[name] = _queue(declared, found)
            _remember(session, name, found, night)
        current_job().breathe()
    with unit_of_work(system=True) as session:
        session.execute(text(_FORGET), {"night": night})
    return done


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


_LOOKOUTS: Final[dict[str, tuple[Actor[Any, Any], Any]]] = {
    "labels_never_begun": (purchase_label, _never_begun),
    "labels_undecided": (recheck_label, _undecided),
    "label_files_missing": (copy_label_file, _without_file),
    "refunds_not_asked": (refund_label, _refunds(asked=False)),
    "refunds_undecided": (poll_refund, _refunds(asked=True)),
    "tracking_stale": (look_up_tracking, _stale_tracking),
    "webhooks_stuck": (process_webhook, _stuck_webhooks),
}
_ROUTINE: Final = ("tracking_stale", "refunds_undecided")
"""Found every night in the ordinary course of things: no reason for an alert."""


def _queue(declared: Actor[Any, Any], found: Sequence[Found]) -> int:
    """Queue a job for each, per tenant; what is live already is left alone. Return how many are new."""
    made = 0
    for tenant_id in dict.fromkeys(tenant for tenant, _ in found):
        arguments = [each for tenant, each in found if tenant == tenant_id]
        made += len(enqueue_many(declared, arguments, tenant_id=tenant_id, priority=Priority.BULK))
    return made


def _remember(session: Session, name: str, found: Iterable[Found], night: Any) -> None:
    """Count the nights on which each was found, and say so when there are too many in a row."""
    items = [(tenant, str(next(iter(arguments.values())))) for tenant, arguments in found]
    if not items or name in _ROUTINE:
        return
    rows = session.execute(
        text(_SEEN),
        {
            "name": f"shipping.{name}",
            "night": night,
            "tenants": [tenant for tenant, _ in items],
            "items": [item for _, item in items],
        },
    ).all()
    stubborn = [row.item for row in rows if row.nights == _NIGHTS]
    if stubborn:
        log.error("reconciliation_in_vain", lookout=name, nights=_NIGHTS, items=stubborn[:20], count=len(stubborn))
