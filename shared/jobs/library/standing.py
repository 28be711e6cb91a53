"""What a workspace may do, and which credentials are not to be honored any more, kept beside the jobs.

Both come as events of the workspaces service. The web kit asks the two tables before each operation, and the relay
the first one before it hands out a job, so that no service has to.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from shared.db import unit_of_work
from shared.db.signals import refusals_changed
from shared.events.contracts.workspaces import CredentialRevoked, WorkspaceStateChanged
from shared.jobs.handlers import Event, handler
from shared.jobs.library.archiving import archive_workspace

__all__ = ["follow_workspace", "honor_revocation"]

_FOLLOW: Final = """
INSERT INTO standings AS known (tenant_id, state, sequence, changed_at)
VALUES (:tenant, :state, :sequence, :changed_at)
ON CONFLICT (tenant_id) DO UPDATE SET
    state = excluded.state, sequence = excluded.sequence, changed_at = excluded.changed_at,
    noted_at = clock_timestamp(), archived_at = NULL
WHERE known.sequence < excluded.sequence
RETURNING state
"""

_REVOKE: Final = """
INSERT INTO revocations AS known (tenant_id, kind, credential_id, revoked_at, forget_at)
VALUES (:tenant, :kind, :credential, :revoked_at, :forget_at)
ON CONFLICT (tenant_id, kind, credential_id) DO UPDATE SET
    revoked_at = greatest(known.revoked_at, excluded.revoked_at),
    forget_at = greatest(known.forget_at, excluded.forget_at), noted_at = clock_timestamp()
"""


@handler(WorkspaceStateChanged)
def follow_workspace(event: Event[WorkspaceStateChanged]) -> None:
    """Keep what the workspace may do from now on; what is older than what is known changes nothing.

    Jobs that waited go on at once: the relay is woken after each handler.
    """
    change = event.data
    values = {
        "tenant": event.tenant_id,
        "state": change.state,
        "sequence": event.sequence or 0,
        "changed_at": change.changed_at,
    }
    with unit_of_work() as session:
        if session.execute(text(_FOLLOW), values).scalar() is None:
            return
        refusals_changed(session)
        if change.state == "archived":
            archive_workspace.send()


@handler(CredentialRevoked)
def honor_revocation(event: Event[CredentialRevoked]) -> None:
    """Refuse the credential's access tokens from now on, though they have not expired."""
    revoked = event.data
    values = {
        "tenant": event.tenant_id,
        "kind": revoked.kind,
        "credential": revoked.credential_id,
        "revoked_at": revoked.revoked_at,
        "forget_at": revoked.forget_at,
    }
    with unit_of_work() as session:
        session.execute(text(_REVOKE), values)
        refusals_changed(session)
