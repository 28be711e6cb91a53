"""Finding what should have happened and did not, every night; what comes back three nights is put before a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.workspaces.jobs.billing import check_billing
from services.workspaces.jobs.webhooks import process_webhook
from shared.jobs import Priority, actor, cron
from shared.jobs.reconcile import Found, Lookout, reconcile

__all__ = ["reconcile_nightly"]

_MOST: Final = 5000
_GRACE: Final = timedelta(minutes=15)

_STUCK: Final = """
SELECT tenant_id, id FROM webhook_events
WHERE provider = 'paddle' AND state = 'received' AND received_at < :before ORDER BY received_at LIMIT :most
"""
_ENDED: Final = """
SELECT tenant_id, provider_id FROM subscriptions
WHERE ends_at < :before AND status <> 'canceled' ORDER BY ends_at LIMIT :most
"""


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Nightly reconciliation",
    periodic=cron("50 2 * * *"),
)
def reconcile_nightly() -> dict[str, int]:
    """Queue anew what was left lying; see each look-out below."""
    return reconcile(_LOOKOUTS)


def _before() -> dict[str, object]:
    return {"before": datetime.now(UTC) - _GRACE, "most": _MOST}


def _stuck_webhooks(session: Session) -> list[Found]:
    return [(row.tenant_id, {"event_id": row.id}) for row in session.execute(text(_STUCK), _before())]


def _ended_unheard(session: Session) -> list[Found]:
    """Subscriptions that were to end by now, and of which no webhook has told that they did."""
    return [(row.tenant_id, {"subscription_id": row.provider_id}) for row in session.execute(text(_ENDED), _before())]


_LOOKOUTS: Final = (
    Lookout("webhooks_stuck", process_webhook, _stuck_webhooks),
    Lookout("subscriptions_ended", check_billing, _ended_unheard),
)
