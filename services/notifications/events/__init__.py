"""What notifications does about the events of others, a module per service that tells, and per thing that it does."""

from services.notifications.events import library, notices, outcomes, webhooks
from services.notifications.events.imports import mail_completed_import, mail_failed_import
from services.notifications.events.shipping import (
    mail_milestone,
    note_created_order,
    note_moved_order,
    note_tracking,
)
from services.notifications.events.workspaces import (
    mail_link,
    mail_winback,
    note_changed_workspace,
    note_member,
    note_workspace,
)

__all__ = [
    "library",
    "mail_completed_import",
    "mail_failed_import",
    "mail_link",
    "mail_milestone",
    "mail_winback",
    "note_changed_workspace",
    "note_created_order",
    "note_member",
    "note_moved_order",
    "note_tracking",
    "note_workspace",
    "notices",
    "outcomes",
    "webhooks",
]
