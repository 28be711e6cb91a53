"""Notifications over HTTP."""

from services.notifications.api.base import api

__all__ = ["api"]
