"""Rotating the keys that seal secrets at rest: what an older key sealed is sealed with the newest one."""

from __future__ import annotations

from sqlalchemy import select

from services.shipping.credentials import HMAC_SECRET, TOKEN, WEBHOOK_TOKEN, open_secret, seal_secret
from services.shipping.models import ShippoAccount
from shared.context import use
from shared.db import unit_of_work
from shared.jobs import Priority, actor, cron, current_job
from shared.outbound import vault

__all__ = ["reseal_credentials"]


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Seal credentials with the newest key",
    periodic=cron("15 5 * * *"),
)
def reseal_credentials() -> dict[str, int]:
    """Seal anew what was sealed with an older key. When it finds nothing more, that key can be removed."""
    with unit_of_work(system=True) as session:
        accounts = [
            (row.tenant_id, row.id)
            for row in session.scalars(select(ShippoAccount))
            if any(vault.needs_resealing(sealed) for _, sealed in _sealed(row))
        ]
    for tenant_id, account_id in accounts:
        with use(tenant_id=tenant_id), unit_of_work() as session:
            row = session.get_one(ShippoAccount, account_id, with_for_update={"key_share": True})
            for name, sealed in _sealed(row):
                purpose = _PURPOSES[name]
                setattr(row, name, seal_secret(purpose, open_secret(purpose, sealed)))
        current_job().breathe()
    return {"accounts": len(accounts)}


_PURPOSES = {
    "token_sealed": TOKEN,
    "webhook_token_sealed": WEBHOOK_TOKEN,
    "hmac_secret_sealed": HMAC_SECRET,
}


def _sealed(row: ShippoAccount) -> list[tuple[str, str]]:
    return [(name, value) for name in _PURPOSES if (value := getattr(row, name)) is not None]
