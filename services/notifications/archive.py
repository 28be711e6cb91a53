"""What goes when a workspace is archived: what lets us into its language model, and what signs its webhooks."""

from __future__ import annotations

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from services.notifications.watches.models import ModelConnection
from services.notifications.webhooks.models import WebhookEndpoint

__all__ = ["destroy_credentials"]


def destroy_credentials(session: Session) -> int:
    """Destroy what lets us into third parties on behalf of the session's tenant; return how much there was."""
    kinds = (ModelConnection, WebhookEndpoint)
    count = sum(session.scalar(select(func.count()).select_from(kind)) or 0 for kind in kinds)
    for kind in kinds:
        session.execute(delete(kind))
    return count
