"""The door for Paddle's webhooks: checked over the raw body, stored, answered; a job does the rest."""

from __future__ import annotations

from datetime import UTC, datetime

import flask
from pydantic import BaseModel
from sqlalchemy import select, text

from services.workspaces.api.base import api
from services.workspaces.jobs import process_webhook
from services.workspaces.lifecycle.paddle_objects import SIGNATURE_HEADER, SubscriptionObject, Unreadable, parse_event
from services.workspaces.models import Workspace
from services.workspaces.settings import settings
from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.jobs.webhooks import keep
from shared.telemetry import get_logger
from shared.web import BadRequest
from shared.web.problems import Unauthorized
from shared.web.signatures import verify_paddle

__all__: list[str] = []

log = get_logger(__name__)

_TENANT_OF = "SELECT tenant_of_subscription(:id)"
_NOBODY = "nobody"
"""A tenant that there is none of, to ask in when it is not known yet whose a subscription is."""


class Received(BaseModel):
    """Taken; whether it says anything new is found out later."""

    received: bool = True


@api.post(
    "/v1/webhooks/paddle",
    public=True,
    content_types=("application/json",),
    raises=(Unauthorized,),
    request_headers={SIGNATURE_HEADER: "Paddle's signature: `ts=<unix seconds>;h1=<hex>`."},
)
def receive_webhook(body: bytes) -> Received:
    """Take a webhook of Paddle. Repetitions are answered like the first, and done once."""
    if not _is_genuine(body):
        raise Unauthorized()
    try:
        event = parse_event(body)
        if not event.is_about_subscription:
            return Received()
        subscription = event.subscription()
    except Unreadable:
        raise BadRequest("This is no webhook of Paddle.") from None
    tenant = _tenant_of(subscription)
    if tenant is None:
        # Paddle could send it a thousand times: there is nobody whose it is.
        log.warning("a webhook about a subscription of no workspace", event_id=event.event_id, told=event.event_type)
        return Received()
    with use(tenant_id=tenant, principal="provider:paddle"), unit_of_work() as session:
        keep(session, "paddle", event.event_id, body, process_webhook)
    return Received()


def _is_genuine(body: bytes) -> bool:
    chosen = settings()
    secret = chosen.paddle_webhook_secret
    return verify_paddle(
        "" if secret is None else secret.get_secret_value(),
        flask.request.headers.get(SIGNATURE_HEADER),
        body,
        datetime.now(UTC),
        tolerance=chosen.paddle_tolerance_seconds,
    )


def _tenant_of(subscription: SubscriptionObject) -> str | None:
    """Return whose subscription it is: as known before, else as it says itself, where there is such a workspace."""
    with use(tenant_id=_NOBODY), unit_of_work() as session:
        known: str | None = session.scalar(text(_TENANT_OF), {"id": subscription.id})
    if known is not None:
        return known
    named = subscription.workspace
    if named is None or named == SYSTEM:
        return None
    with use(tenant_id=named), unit_of_work() as session:
        return named if session.scalar(select(Workspace.id)) is not None else None
