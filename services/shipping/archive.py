"""What becomes of an archived workspace's access to third parties."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

__all__ = ["destroy_credentials"]

_DESTROY: Final = """
UPDATE shippo_accounts SET token_sealed = '', token_hint = '', webhook_token_sealed = '', hmac_secret_sealed = NULL,
    status = 'needs_reauthorization', version = version + 1, updated_at = clock_timestamp()
WHERE token_sealed <> ''
"""


def destroy_credentials(session: Session) -> int:
    """Destroy what lets us into the workspace's Shippo account; return of how many accounts.

    The hash of the webhooks' token stays: Shippo goes on sending for a while, and is told that it was heard, lest it
    repeats everything for days.
    """
    return int(session.execute(text(_DESTROY)).rowcount)  # type: ignore[attr-defined]
