"""Workspaces over HTTP."""

from services.workspaces.api.base import api

__all__ = ["api"]
