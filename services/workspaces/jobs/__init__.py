"""Workspaces' work in the back room. Each module's docstring says what its jobs promise."""

from services.workspaces.jobs.billing import check_billing
from services.workspaces.jobs.cancellations import advance_cancellation, advance_cancellations
from services.workspaces.jobs.links import find_members, issue_link
from services.workspaces.jobs.reconciliation import reconcile_nightly
from services.workspaces.jobs.restoring import restore_workspace
from services.workspaces.jobs.summary import count_summary, watch_summaries
from services.workspaces.jobs.upkeep import clean_up_sign_in, rotate_signing_keys, watch_links
from services.workspaces.jobs.webhooks import process_webhook

__all__ = [
    "advance_cancellation",
    "advance_cancellations",
    "check_billing",
    "clean_up_sign_in",
    "count_summary",
    "find_members",
    "issue_link",
    "process_webhook",
    "reconcile_nightly",
    "restore_workspace",
    "rotate_signing_keys",
    "watch_links",
    "watch_summaries",
]
