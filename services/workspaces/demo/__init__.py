"""Who is who in the story, and what becomes of a workspace that nobody pays for any more.

In the beginning four workspaces are made, and their people come in by links that are mailed to them. In the end one
more workspace is cancelled, and a moved clock walks it through ninety days.
"""

from services.workspaces.demo import cancellation, sign_in

__all__ = ["CHAPTERS", "ENVIRONMENT"]

CHAPTERS = {10: sign_in.run, 90: cancellation.run}
"""By their place in the whole story."""

ENVIRONMENT = {
    "WORKSPACES_PADDLE_API_KEY": cancellation.KEY,
    "WORKSPACES_PADDLE_WEBHOOK_SECRET": cancellation.SECRET,
}
"""Access to Paddle, as the sandbox plays it."""
