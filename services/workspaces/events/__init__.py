"""What workspaces does about the events of others, a module for each matter."""

from services.workspaces.events import imports
from services.workspaces.events.summary import note_imports, note_shipping

__all__ = ["imports", "note_imports", "note_shipping"]
