"""What the operations of notifications share: the api itself, and its own problems."""

from __future__ import annotations

from shared.web import Api

__all__ = ["api"]

api = Api("notifications", description="Mails, notices, alerts, watches and webhooks.")
