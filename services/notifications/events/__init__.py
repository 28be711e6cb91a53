"""What notifications does about the events of others, a module per service that tells."""

from services.notifications.events.shipping import note_created_order, note_moved_order
from services.notifications.events.workspaces import note_member

__all__ = ["note_created_order", "note_member", "note_moved_order"]
