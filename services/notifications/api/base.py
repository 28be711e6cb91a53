"""What the operations of notifications share: the api itself, and its own problems."""

from __future__ import annotations

from typing import Final

from shared.web import Api

__all__ = ["MANAGERS", "api"]

api = Api("notifications", description="Mails, notices, alerts, watches and webhooks.")

MANAGERS: Final = ("owner", "manager")
"""Who sees what was sent to others."""
