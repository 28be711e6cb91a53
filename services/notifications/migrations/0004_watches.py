"""Watches, what they have told, the tenant's own language model; webhooks to tenants' own systems.

Revision ID: notifications_0004
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "notifications_0004"
down_revision = "notifications_0003"
branch_labels = None
depends_on = None

WEBHOOKS = """
CREATE TABLE webhook_endpoints (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    url             text NOT NULL,
    description     text NOT NULL,
    event_types     text[] NOT NULL,
    state           text NOT NULL CONSTRAINT state_known CHECK (state IN ('enabled', 'disabled')),
    disabled_reason text CONSTRAINT reason_known CHECK (disabled_reason IN ('by_hand', 'gone', 'failing')),
    secret_sealed   text NOT NULL,
    previous_sealed text,
    previous_until  timestamptz,
    failures        integer NOT NULL DEFAULT 0,
    failing_since   timestamptz,
    resting_until   timestamptz,
    version         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT disabled_for_a_reason CHECK ((state = 'disabled') = (disabled_reason IS NOT NULL))
);
CREATE INDEX ix_webhook_endpoints_tenant ON webhook_endpoints (tenant_id, id);

-- Of an endpoint that is gone the rows stay until they are cleaned up: a request deletes no thousands of them.
CREATE TABLE webhook_deliveries (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    endpoint_id     uuid NOT NULL,
    message_id      text NOT NULL,
    event_type      text NOT NULL,
    body            text NOT NULL,
    state           text NOT NULL CONSTRAINT state_known CHECK (state IN ('waiting', 'delivered', 'failed', 'dropped')),
    attempts        integer NOT NULL DEFAULT 0,
    code            text,
    response_status smallint,
    response        text NOT NULL DEFAULT '',
    queued_at       timestamptz NOT NULL DEFAULT now(),
    attempted_at    timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_webhook_deliveries_message UNIQUE (tenant_id, endpoint_id, message_id)
);
CREATE INDEX ix_webhook_deliveries_endpoint ON webhook_deliveries (tenant_id, endpoint_id, id);
CREATE INDEX ix_webhook_deliveries_created_at ON webhook_deliveries (created_at);
"""

WATCHES = """
ALTER TABLE orders ADD COLUMN delivery_status text NOT NULL DEFAULT 'unknown', ADD COLUMN delivery_at timestamptz;

CREATE TABLE watches (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    member_id       uuid NOT NULL,
    text            text NOT NULL,
    title           text NOT NULL DEFAULT '',
    rule            jsonb,
    frequency       smallint NOT NULL CONSTRAINT frequency_known CHECK (frequency IN (15, 30, 60, 1440)),
    state           text NOT NULL CONSTRAINT state_known CHECK (state IN ('draft', 'active', 'paused')),
    paused_reason   text CONSTRAINT reason_known CHECK (paused_reason IN ('by_hand', 'errors')),
    next_run_at     timestamptz,
    last_checked_at timestamptz,
    errors          smallint NOT NULL DEFAULT 0,
    holds           boolean NOT NULL DEFAULT false,
    version         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT active_has_a_rule CHECK (state = 'draft' OR rule IS NOT NULL),
    CONSTRAINT active_is_due CHECK ((state = 'active') = (next_run_at IS NOT NULL)),
    CONSTRAINT paused_for_a_reason CHECK ((state = 'paused') = (paused_reason IS NOT NULL))
);
CREATE INDEX ix_watches_member ON watches (tenant_id, member_id, id);
CREATE INDEX ix_watches_due ON watches (next_run_at) WHERE state = 'active';

-- Of a watch that is gone the rows stay until they are cleaned up: a request deletes no thousands of them.
CREATE TABLE watch_matches (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id       text NOT NULL,
    watch_id        uuid NOT NULL,
    item_id         uuid NOT NULL,
    told_at         timestamptz NOT NULL,
    CONSTRAINT uq_watch_matches_item UNIQUE (tenant_id, watch_id, item_id)
);
CREATE INDEX ix_watch_matches_watch ON watch_matches (watch_id);

CREATE TABLE model_connections (
    tenant_id       text PRIMARY KEY,
    base_url        text NOT NULL,
    model           text NOT NULL,
    key_sealed      text NOT NULL,
    key_hint        text NOT NULL,
    connected_by    text,
    updated_at      timestamptz NOT NULL DEFAULT now()
);
"""

TABLES = ("webhook_endpoints", "webhook_deliveries", "watches", "watch_matches", "model_connections")


def upgrade() -> None:
    op.execute(WEBHOOKS)
    op.execute(WATCHES)
    for table in TABLES:
        op.execute(enable_tenancy(table))
