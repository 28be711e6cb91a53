"""Connections to ERPs, what they sent us and is yet to be applied, and the log of what passed between us.

Revision ID: imports_0003
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "imports_0003"
down_revision = "imports_0002"
branch_labels = None
depends_on = None

# `key_id` names the connection in the URL of its feed. While the secret of a feed is being changed, the one before
# stays valid until `previous_until`. `cursor` has, by entity, where a pass over the ERP's pages goes on.
CONNECTIONS = """
CREATE TABLE erp_connections (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    name            text NOT NULL,
    kind            text NOT NULL CONSTRAINT kind_known CHECK (kind IN ('rest')),
    base_url        text NOT NULL,
    token_sealed    text NOT NULL,
    key_id          text COLLATE "C" NOT NULL,
    secret_sealed   text NOT NULL,
    previous_sealed text,
    previous_until  timestamptz,
    state           text NOT NULL DEFAULT 'active'
                    CONSTRAINT state_known CHECK (state IN ('active', 'needs_attention')),
    cursor          jsonb NOT NULL DEFAULT '{}',
    keep_days       integer CONSTRAINT keep_days_sensible CHECK (keep_days BETWEEN 1 AND 3650),
    version         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    CONSTRAINT uq_erp_connections_key UNIQUE (key_id)
);
CREATE INDEX ix_erp_connections_list ON erp_connections (tenant_id, id);
"""

# A body as it was signed. `digest` is of its time and its bytes: the same message sent again is the same feed. Once a
# feed was applied, only that it was there is kept.
FEEDS = """
CREATE TABLE erp_feeds (
    id            uuid PRIMARY KEY,
    tenant_id     text NOT NULL,
    connection_id uuid NOT NULL,
    entity        text NOT NULL CONSTRAINT entity_known CHECK (entity IN ('samples', 'stock')),
    digest        text COLLATE "C" NOT NULL,
    body          bytea NOT NULL,
    state         text NOT NULL DEFAULT 'received'
                  CONSTRAINT state_known CHECK (state IN ('received', 'applied', 'failed')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    settled_at    timestamptz,
    CONSTRAINT uq_erp_feeds_message UNIQUE (tenant_id, connection_id, entity, digest)
);
CREATE INDEX ix_erp_feeds_waiting ON erp_feeds (tenant_id, connection_id, id) WHERE state = 'received';
CREATE INDEX ix_erp_feeds_age ON erp_feeds (created_at);
"""

# Outlives its connection, until the clean-up finds it old enough; therefore nothing refers to one.
LOG = """
CREATE TABLE erp_sync_log (
    id            uuid PRIMARY KEY,
    tenant_id     text NOT NULL,
    connection_id uuid NOT NULL,
    direction     text NOT NULL CONSTRAINT direction_known CHECK (direction IN ('in', 'out')),
    entity        text NOT NULL CONSTRAINT entity_known CHECK (entity IN ('samples', 'stock')),
    external_id   text,
    outcome       text NOT NULL CONSTRAINT outcome_known CHECK (outcome IN ('ok', 'failed')),
    counts        jsonb NOT NULL DEFAULT '{}',
    request       text NOT NULL DEFAULT '' CONSTRAINT request_short CHECK (octet_length(request) <= 4096),
    response      text NOT NULL DEFAULT '' CONSTRAINT response_short CHECK (octet_length(response) <= 4096),
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_erp_sync_log_list ON erp_sync_log (tenant_id, connection_id, id);
CREATE INDEX ix_erp_sync_log_latest ON erp_sync_log (connection_id, entity, id);
CREATE INDEX ix_erp_sync_log_age ON erp_sync_log (created_at, id);
"""

TENANT_TABLES = ("erp_connections", "erp_feeds", "erp_sync_log")


def upgrade() -> None:
    for statements in (CONNECTIONS, FEEDS, LOG):
        op.execute(statements)
    for table in TENANT_TABLES:
        op.execute(enable_tenancy(table))


def downgrade() -> None:
    for table in TENANT_TABLES[::-1]:
        op.execute(f"DROP TABLE IF EXISTS {table}")
