"""Sign-in: links, sessions, API keys, the keys that sign tokens, limits for strangers, the audit log.

Revision ID: workspaces_0002
"""

from alembic import op

from shared.db.database import APP_ROLE, SYSTEM_ROLE
from shared.db.migrate import enable_tenancy

revision = "workspaces_0002"
down_revision = "workspaces_0001"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE members ADD COLUMN joined_at timestamptz;
-- Who signs in names an address, and need not name the workspace.
CREATE INDEX ix_members_address ON members (lower(email));
CREATE TABLE links (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL,
    member_id   uuid NOT NULL,
    purpose     text NOT NULL CONSTRAINT purpose_known CHECK (purpose IN ('sign_in', 'invitation')),
    token_hash  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz,
    revoked_at  timestamptz,
    UNIQUE (tenant_id, token_hash),
    FOREIGN KEY (tenant_id, member_id) REFERENCES members (tenant_id, id)
);
-- A new one revokes the old: of two that are issued at once, one waits for the other.
CREATE UNIQUE INDEX uq_links_live ON links (tenant_id, member_id, purpose)
    WHERE used_at IS NULL AND revoked_at IS NULL;
CREATE INDEX ix_links_over ON links (least(used_at, revoked_at, expires_at));
CREATE INDEX ix_links_age ON links (created_at);

CREATE TABLE sessions (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    member_id       uuid NOT NULL,
    family_hash     text NOT NULL,
    refresh_hash    text NOT NULL,
    user_agent      text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at    timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    ended_because   text,
    UNIQUE (tenant_id, family_hash),
    FOREIGN KEY (tenant_id, member_id) REFERENCES members (tenant_id, id),
    CONSTRAINT reason_iff_ended CHECK ((ended_at IS NULL) = (ended_because IS NULL))
);
CREATE INDEX ix_sessions_live ON sessions (tenant_id, member_id) WHERE ended_at IS NULL;
CREATE INDEX ix_sessions_over ON sessions (least(ended_at, expires_at));

CREATE TABLE api_keys (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    name            text NOT NULL,
    role            text NOT NULL CONSTRAINT role_known CHECK (role IN ('owner', 'manager', 'sales', 'fulfillment')),
    scopes          jsonb NOT NULL CONSTRAINT scoped CHECK (jsonb_array_length(scopes) > 0),
    secret_hash     text NOT NULL,
    hint            text NOT NULL,
    created_by      text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz,
    last_used_at    timestamptz,
    revoked_at      timestamptz,
    UNIQUE (tenant_id, secret_hash)
);
CREATE INDEX ix_api_keys_tenant ON api_keys (tenant_id, id);

-- The private half is sealed. Who serves requests may read keys, to sign with them, and make none.
CREATE TABLE signing_keys (
    id              text PRIMARY KEY,
    tenant_id       text NOT NULL,
    public          jsonb NOT NULL,
    private_sealed  text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    signs_from      timestamptz NOT NULL
);

-- How full each bucket is: until when it drips. The key is a hash, so that no address stands here.
CREATE TABLE request_limits (
    tenant_id   text NOT NULL,
    bucket      text NOT NULL,
    key         text NOT NULL,
    empty_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, bucket, key)
);
CREATE INDEX ix_request_limits_empty ON request_limits (empty_at);

CREATE TABLE audit_log (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL,
    principal   text,
    action      text NOT NULL,
    subject     text NOT NULL,
    facts       jsonb NOT NULL,
    request_id  text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ix_audit_log_tenant ON audit_log (tenant_id, id);
"""

SIGNING_KEYS = f"""
ALTER TABLE signing_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON signing_keys FOR SELECT TO {APP_ROLE} USING (true);
CREATE POLICY system ON signing_keys TO {SYSTEM_ROLE} USING (true) WITH CHECK (true);
GRANT SELECT ON signing_keys TO {APP_ROLE};
GRANT SELECT, INSERT, UPDATE, DELETE ON signing_keys TO {SYSTEM_ROLE};
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("links", "sessions", "api_keys", "request_limits"):
        op.execute(enable_tenancy(table))
    # What was noted stays as it was noted.
    op.execute(enable_tenancy("audit_log", app="SELECT, INSERT"))
    op.execute(SIGNING_KEYS)
