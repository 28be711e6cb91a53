"""Workspaces over HTTP."""

from services.workspaces.api import (
    api_keys,
    audit,
    keys,
    members,
    sign_in,
    subscription,
    summary,
    webhooks,
    workspaces,
)
from services.workspaces.api.base import api

__all__ = [
    "api",
    "api_keys",
    "audit",
    "keys",
    "members",
    "sign_in",
    "subscription",
    "summary",
    "webhooks",
    "workspaces",
]
