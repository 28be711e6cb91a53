"""What the operations of workspaces share: the api itself, and its own problems."""

from __future__ import annotations

from shared.web import Api

__all__ = ["api"]

api = Api("workspaces", description="Workspaces, members, sign-in, keys and subscriptions.")
