"""Notifications over HTTP."""

from services.notifications.api import (
    alerts,
    mails,
    model_connection,
    notices,
    preferences,
    suppressions,
    watches,
    webhook_deliveries,
    webhook_endpoints,
)
from services.notifications.api.base import api

__all__ = [
    "alerts",
    "api",
    "mails",
    "model_connection",
    "notices",
    "preferences",
    "suppressions",
    "watches",
    "webhook_deliveries",
    "webhook_endpoints",
]
