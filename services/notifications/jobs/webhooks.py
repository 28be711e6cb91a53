"""Webhooks go out: signed, at least once each, on a schedule that outlasts a weekend.

Each attempt is written down with the delivery before the job goes on. What was answered with 2xx has arrived; anything
else is tried again. A crash between that answer and our commit sends the message once more, under the same id.

A slow or dead endpoint holds up nobody else: two messages are under way to it at a time, and after three failures in a
row it rests, longer each time, while what waits for it burns no attempt. It is disabled when it answers 410, or has
taken nothing for days; the owner is told, and what waited is dropped, to be sent again by hand.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Update, update
from sqlalchemy.orm import Session

from services.notifications.models import Member
from services.notifications.notices import tell
from services.notifications.providers import webhook
from services.notifications.settings import settings
from services.notifications.webhooks.catalog import TEST
from services.notifications.webhooks.models import WebhookDelivery, WebhookEndpoint
from services.notifications.webhooks.secrets import secrets_of
from shared.db import unit_of_work
from shared.jobs import Retry, Skip, Snooze, Verdict, actor, completion
from shared.jobs.places import pause_after, place_at
from shared.outbound import ProviderError, RateLimited
from shared.telemetry import bounded

__all__ = ["RETRY", "deliver_webhook"]

RETRY: Final = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Seconds between attempts, as Standard Webhooks suggests them: more than three days in all."""

_PLACES: Final = 2
_PATIENCE: Final = 3
"""So many failures in a row, and an endpoint rests."""
_FIRST_REST: Final = 5.0
_LONGEST_REST: Final = 300.0
_GONE: Final = 410

_WHY_DISABLED: Final = {
    "gone": "The address says that it wants no more of them. Enter another one, or switch it on again.",
    "failing": "Nothing was taken there for days. What was to be sent is kept for a while: mend the receiver, switch "
    "it on again, and have it sent.",
}


@actor(
    queue_name="webhooks_out",
    unique="delivery_id",
    subject="Webhook {event_type} to {host:.100}",
    retry=RETRY,
    time_limit=120,
)
def deliver_webhook(delivery_id: UUID, event_type: str, host: str) -> None:
    """Send one message to one endpoint, and write down what came of it."""
    delivery, endpoint = _begin(delivery_id)
    secrets = secrets_of(endpoint, datetime.now(UTC))
    try:
        with place_at(f"webhook {endpoint.id}", most=_PLACES, due=delivery.queued_at, busy="endpoint_busy"):
            taken = webhook.send(endpoint.url, secrets, delivery.message_id, delivery.body)
    except ProviderError as error:
        raise _failed(delivery, endpoint, error) from error
    with completion({"status": taken.status}) as session:
        session.execute(_attempt(delivery, "delivered", None, taken.status, taken.said))
        session.execute(
            update(WebhookEndpoint)
            .where(WebhookEndpoint.id == endpoint.id, WebhookEndpoint.failures > 0)
            .values(failures=0, failing_since=None, resting_until=None)
        )


@deliver_webhook.failed
def _given_up(verdict: Verdict, delivery_id: UUID, event_type: str, host: str) -> None:
    state = "failed" if verdict.state == "failed" else "dropped"
    with unit_of_work() as session:
        session.execute(_of(delivery_id).where(WebhookDelivery.state == "waiting").values(state=state))


def _begin(delivery_id: UUID) -> tuple[WebhookDelivery, WebhookEndpoint]:
    """Return what is to be sent and where. Raises Skip where there is nothing to do, Snooze while it rests."""
    with unit_of_work() as session:
        delivery = session.get(WebhookDelivery, delivery_id)
        if delivery is None or delivery.state == "delivered":
            raise Skip("webhook_settled")
        endpoint = session.get(WebhookEndpoint, delivery.endpoint_id)
        if endpoint is None or endpoint.state != "enabled":
            delivery.state = "dropped"
            endpoint = None
    if endpoint is None:
        raise Skip("endpoint_disabled")
    now = datetime.now(UTC)
    if endpoint.resting_until is not None and endpoint.resting_until > now and delivery.event_type != TEST:
        # The longer it fails the less often each asks, so that what waits for a dead one costs little.
        pause = pause_after(now - (endpoint.failing_since or now))
        raise Snooze("endpoint_resting", until=endpoint.resting_until + timedelta(seconds=pause))
    return delivery, endpoint


def _failed(delivery: WebhookDelivery, endpoint: WebhookEndpoint, error: ProviderError) -> Exception:
    """Write down a failed attempt and draw the consequences for its endpoint; return how the run ends."""
    ending = _ending(error)
    # What we found out about an address that does not answer stays with us.
    said = "" if error.status is None else error.detail
    with unit_of_work() as session:
        known = session.get(WebhookEndpoint, endpoint.id, with_for_update=True)
        # Of another address by now this says nothing.
        disabled = known is not None and known.url == endpoint.url and _has_failed(session, known, error)
        session.execute(_attempt(delivery, "dropped" if disabled else "waiting", ending.code, error.status, said))
    if disabled:
        return Skip("endpoint_disabled")
    return error if isinstance(error, RateLimited) else ending


def _ending(error: ProviderError) -> Retry:
    if error.code == "url_not_allowed":
        return Retry("webhook_address", str(error))
    if error.status is None:
        return Retry("webhook_unreachable", str(error))
    return Retry("webhook_refused", str(error))


def _has_failed(session: Session, endpoint: WebhookEndpoint, error: ProviderError) -> bool:
    """Count a failure of a locked endpoint, and let it rest; return whether it is disabled now."""
    now = datetime.now(UTC)
    if endpoint.state != "enabled":
        return True
    endpoint.failures += 1
    endpoint.failing_since = endpoint.failing_since or now
    endpoint.resting_until = _rest(endpoint.failures, error, now)
    days = timedelta(days=settings().webhook_failing_days)
    reason = "gone" if error.status == _GONE else "failing" if now - endpoint.failing_since > days else None
    if reason is None:
        return False
    endpoint.disable(reason, now)
    tell(
        session,
        "webhook_disabled",
        Member.role == "owner",
        f"Webhooks to {urlsplit(endpoint.url).hostname:.100} are switched off",
        _WHY_DISABLED[reason],
        link=f"/settings/webhooks/{endpoint.id}",
        dedupe_key=f"webhook-disabled:{endpoint.id}:{endpoint.version}",
    )
    return True


def _rest(failures: int, error: ProviderError, now: datetime) -> datetime | None:
    if isinstance(error, RateLimited):
        return now + timedelta(seconds=error.retry_after)
    if failures < _PATIENCE:
        return None
    return now + timedelta(seconds=min(_FIRST_REST * 2 ** min(failures - _PATIENCE, 20), _LONGEST_REST))


def _attempt(delivery: WebhookDelivery, state: str, code: str | None, status: int | None, said: str) -> Update:
    return _of(delivery.id).values(
        state=state,
        attempts=WebhookDelivery.attempts + 1,
        attempted_at=datetime.now(UTC),
        code=code,
        response_status=status,
        response=bounded(said, webhook.EXCERPT),
    )


def _of(delivery_id: UUID) -> Update:
    return update(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
