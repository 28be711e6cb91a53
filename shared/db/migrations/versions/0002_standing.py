"""Tables that every service's database has: what its workspaces may do, and which credentials are revoked.

Revision ID: backroom_0002
"""

from alembic import op

from shared.db.database import APP_ROLE, SYSTEM_ROLE
from shared.db.migrate import enable_tenancy

revision = "backroom_0002"
down_revision = "backroom_0001"
branch_labels = None
depends_on = None

# A workspace without a row is in good standing: what nobody told, nobody forbids. `noted_at` is when this database
# learned it, by which others find what is new; `archived_at`, when this service had exported an archived one and
# destroyed its credentials.
STANDINGS = """
CREATE TABLE standings (
    tenant_id   text PRIMARY KEY,
    state       text NOT NULL
                CONSTRAINT state_known CHECK (state IN ('active', 'canceled', 'frozen', 'suspended', 'archived')),
    sequence    bigint NOT NULL,
    changed_at  timestamptz NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    archived_at timestamptz
);
CREATE INDEX ix_standings_noted ON standings (noted_at);
-- Asked by the relay in each of its rounds.
CREATE INDEX ix_standings_held ON standings (tenant_id)
    WHERE state IN ('suspended', 'archived') AND archived_at IS NULL;
"""

REVOCATIONS = """
CREATE TABLE revocations (
    tenant_id     text NOT NULL,
    kind          text NOT NULL CONSTRAINT kind_known CHECK (kind IN ('session', 'api_key', 'member')),
    credential_id uuid NOT NULL,
    revoked_at    timestamptz NOT NULL,
    forget_at     timestamptz NOT NULL,
    noted_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, kind, credential_id)
);
CREATE INDEX ix_revocations_noted ON revocations (noted_at);
CREATE INDEX ix_revocations_forget ON revocations (forget_at);
"""

# The one window in the wall. A process that serves requests must know what it refuses before it knows who will ask;
# through here it sees that, of all tenants, and nothing else.
REFUSALS = """
CREATE FUNCTION backroom_refusals(since timestamptz)
RETURNS TABLE (tenant_id text, state text, kind text, credential_id uuid, revoked_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT s.tenant_id, s.state, NULL::text, NULL::uuid, NULL::timestamptz FROM standings s WHERE s.noted_at >= since
    UNION ALL
    SELECT r.tenant_id, NULL, r.kind, r.credential_id, r.revoked_at FROM revocations r
    WHERE r.noted_at >= since AND r.forget_at > statement_timestamp()
$$;
REVOKE ALL ON FUNCTION backroom_refusals(timestamptz) FROM PUBLIC;
"""

TENANT_TABLES = ("standings", "revocations")


def upgrade() -> None:
    for statements in (STANDINGS, REVOCATIONS):
        op.execute(statements)
    for table in TENANT_TABLES:
        op.execute(enable_tenancy(table))
    op.execute(REFUSALS)
    op.execute(f"GRANT EXECUTE ON FUNCTION backroom_refusals(timestamptz) TO {APP_ROLE}, {SYSTEM_ROLE}")


def downgrade() -> None:
    op.execute("DROP FUNCTION IF EXISTS backroom_refusals(timestamptz)")
    for table in TENANT_TABLES:
        op.execute(f"DROP TABLE IF EXISTS {table}")
