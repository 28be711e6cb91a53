"""Who was told of what went wrong in the story, and a watch that speaks up once."""

from services.notifications.demo import told

__all__ = ["CHAPTERS", "ENVIRONMENT"]

CHAPTERS = {40: told.run}
"""By their place in the whole story."""

ENVIRONMENT: dict[str, str] = {}
"""Settings of the story: none."""
