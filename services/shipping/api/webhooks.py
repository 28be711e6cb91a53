"""The door for Shippo's webhooks: checked over the raw body, stored, answered; a job does the rest."""

from __future__ import annotations

from datetime import UTC, datetime

import flask
from pydantic import BaseModel, Field
from sqlalchemy import select

from services.shipping.api.base import api
from services.shipping.credentials import HMAC_SECRET, hash_of, open_secret
from services.shipping.jobs import process_webhook
from services.shipping.models import ShippoAccount
from services.shipping.settings import settings
from services.shipping.webhooks import SIGNATURE_HEADER, Unreadable, is_genuine, parse
from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.jobs.webhooks import keep
from shared.web import BadRequest
from shared.web.problems import Unauthorized

__all__: list[str] = []


class WebhookQuery(BaseModel):
    token: str | None = Field(None, max_length=200, description="The token that is part of the registered URL.")


class Received(BaseModel):
    """Taken; whether it says anything new is found out later."""

    received: bool = True


@api.post(
    "/v1/webhooks/shippo/<tenant>",
    public=True,
    content_types=("application/json",),
    raises=(Unauthorized,),
    request_headers={SIGNATURE_HEADER: "Shippo's signature, where one was arranged for."},
)
def receive_webhook(tenant: str, query: WebhookQuery, body: bytes) -> Received:
    """Take a webhook of Shippo. Repetitions are answered like the first."""
    if tenant == SYSTEM:
        raise Unauthorized()
    with use(tenant_id=tenant, principal="provider:shippo"), unit_of_work() as session:
        account = session.scalar(select(ShippoAccount))
        if not _genuine(account, query.token, body):
            # Whether it is the workspace, the token or the signature is nobody's business.
            raise Unauthorized()
        try:
            event = parse(body)
        except Unreadable:
            raise BadRequest("This is no webhook of Shippo.") from None
        keep(session, "shippo", event.key, body, process_webhook)
    return Received()


def _genuine(account: ShippoAccount | None, token: str | None, body: bytes) -> bool:
    secret = None
    if account is not None and account.hmac_secret_sealed is not None:
        secret = open_secret(HMAC_SECRET, account.hmac_secret_sealed)
    # Hashes are compared, so that the token itself need not be kept; as much work for a stranger's workspace.
    known = is_genuine(
        body,
        token=hash_of(token or ""),
        expected_token=account.webhook_token_hash if account is not None else hash_of("no such workspace"),
        signature=flask.request.headers.get(SIGNATURE_HEADER),
        secret=secret,
        now=datetime.now(UTC),
        tolerance=settings().webhook_tolerance_seconds,
    )
    return known and account is not None and bool(token)
