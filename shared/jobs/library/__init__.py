"""Jobs and handlers that every service has without doing anything.

- `cleaning`: each night what is old goes: jobs, events, keys, webhooks, revocations;
- `cancelling`: what a cancelled job started is cancelled, too;
- `standing`: what a workspace may do, and which credentials are revoked, is kept beside the jobs;
- `retrying`: the failed jobs of one cause are tried again, when an event asks for it;
- `resealing`: what an older key sealed is sealed with the newest one;
- `dead_letters`: each hour somebody is told of messages that nobody could handle;
- `exporting`, `archiving`: a workspace's data as files; and what becomes of one that is archived.
"""

from shared.jobs.library.archiving import archive_workspace, resume_archives
from shared.jobs.library.cancelling import cancel_children_of
from shared.jobs.library.cleaning import (
    clean_up_events,
    clean_up_idempotency_keys,
    clean_up_jobs,
    clean_up_revocations,
    clean_up_webhook_events,
)
from shared.jobs.library.dead_letters import look_for_dead_letters
from shared.jobs.library.exporting import export_workspace
from shared.jobs.library.resealing import reseal_secrets
from shared.jobs.library.retrying import retry_failed, retry_failed_jobs
from shared.jobs.library.standing import follow_workspace, honor_revocation

__all__ = [
    "archive_workspace",
    "cancel_children_of",
    "clean_up_events",
    "clean_up_idempotency_keys",
    "clean_up_jobs",
    "clean_up_revocations",
    "clean_up_webhook_events",
    "export_workspace",
    "follow_workspace",
    "honor_revocation",
    "look_for_dead_letters",
    "reseal_secrets",
    "resume_archives",
    "retry_failed",
    "retry_failed_jobs",
]
