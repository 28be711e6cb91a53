"""Mail: a row and its job in the transaction of what wants it, and everything else in the back room.

    mail.queue(session, "delivered", member, {...}, dedupe_key=f"ship:{order}:delivered:rep", kind="shipping")

The parts: `queueing` writes rows and jobs; `templates` and `message` make bytes of a row; the job is in
`jobs/mail.py`, and what speaks to the mail server in `providers/smtp.py`.
"""

from services.notifications.mail.address import Address
from services.notifications.mail.models import Kind
from services.notifications.mail.queueing import NewMail, queue, queue_many

__all__ = ["Address", "Kind", "NewMail", "queue", "queue_many"]
