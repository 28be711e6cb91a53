"""Notifications' work in the back room. Each module's docstring says what its jobs promise."""

from services.notifications.jobs.alerts import prune_alerts, silence_alerts
from services.notifications.jobs.mail import prune_mails, send_account_mail, send_mail
from services.notifications.jobs.mornings import begin_mornings, tell_morning
from services.notifications.jobs.notices import prune_notices
from services.notifications.jobs.watch_rules import write_watch_rule
from services.notifications.jobs.watches import check_watches, check_watches_of_workspace, clean_up_watches
from services.notifications.jobs.webhook_log import clean_up_webhook_deliveries, replay_webhooks
from services.notifications.jobs.webhooks import deliver_webhook

__all__ = [
    "begin_mornings",
    "check_watches",
    "check_watches_of_workspace",
    "clean_up_watches",
    "clean_up_webhook_deliveries",
    "deliver_webhook",
    "prune_alerts",
    "prune_mails",
    "prune_notices",
    "replay_webhooks",
    "send_account_mail",
    "send_mail",
    "silence_alerts",
    "tell_morning",
    "write_watch_rule",
]
