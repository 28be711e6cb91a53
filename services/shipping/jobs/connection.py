"""Checking that a token opens a Shippo account, and having its webhooks sent to us."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select

from services.shipping.credentials import WEBHOOK_TOKEN, open_secret, webhook_path
from services.shipping.jobs.account import Account, shippo_account
from services.shipping.jobs.said import in_their_words
from services.shipping.models import ShippoAccount
from services.shipping.settings import settings
from shared.context import current
from shared.db import unit_of_work
from shared.events import publish
from shared.events.contracts.shipping import ConnectionChanged
from shared.jobs import GiveUp, Skip, actor, completion
from shared.outbound import Refused

__all__ = ["verify_connection"]


@actor(queue_name="shippo", unique="version", subject="Check the connection to Shippo", time_limit=120)
def verify_connection(version: int) -> None:
    """Try the account's token; register our webhook where we know under which address we are reached."""
    with unit_of_work() as session:
        row = session.scalar(select(ShippoAccount))
    if row is None or row.version != version:
        raise Skip("connected_anew_meanwhile")
    with shippo_account(checking=True) as account:
        try:
            # Asking about the sender tries the token, and tells at once if nothing can be sent from there.
            check = account.shippo.validate_address(account.sender)
            webhook_id = _register(account)
        except Refused as error:
            raise GiveUp("sender_rejected", str(error), carrier_says=in_their_words(error.detail)) from error
    with completion({"sender_valid": check.valid, "webhooks": webhook_id is not None}) as session:
        _connected(row.id, version, webhook_id)


def _register(account: Account) -> str | None:
    public = settings().public_url
    if public is None:
        return None
    token = open_secret(WEBHOOK_TOKEN, account.row.webhook_token_sealed)
    url = f"{public.rstrip('/')}{webhook_path(current().tenant_id or '')}?token={token}"
    return account.shippo.register_webhook(url)


def _connected(account_id: UUID, version: int, webhook_id: str | None) -> None:
    with unit_of_work() as session:
        row = session.get_one(ShippoAccount, account_id, with_for_update={"key_share": True}, populate_existing=True)
        if row.version != version:
            return
        row.status, row.checked_at, row.webhook_id = "connected", datetime.now(UTC), webhook_id or row.webhook_id
        row.version += 1
        row.updated_at = datetime.now(UTC)
        publish(
            session,
            ConnectionChanged(provider="shippo", status="connected"),
            subject=row.id,
            sequence=row.version,
        )
