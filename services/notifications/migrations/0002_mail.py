"""Mails, addresses that are not written to, and what members do not want to be told.

Revision ID: notifications_0002
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "notifications_0002"
down_revision = "notifications_0001"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE workspaces (
    tenant_id  text PRIMARY KEY,
    name       text NOT NULL,
    sequence   bigint NOT NULL
);

CREATE TABLE mails (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    dedupe_key      text NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('sign_in', 'billing', 'shipping', 'alert', 'bulk')),
    template        text NOT NULL,
    recipient       text NOT NULL,
    recipient_name  text NOT NULL,
    member_id       uuid,
    vars            jsonb NOT NULL,
    status          text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'sending', 'sent', 'failed', 'suppressed', 'skipped')),
    code            text,
    reason          text,
    unanswered      smallint NOT NULL DEFAULT 0,
    expires_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    sent_at         timestamptz,
    CONSTRAINT uq_mails_dedupe UNIQUE (tenant_id, dedupe_key)
);
CREATE INDEX ix_mails_tenant ON mails (tenant_id, id);
CREATE INDEX ix_mails_status ON mails (tenant_id, status, id);
CREATE INDEX ix_mails_recipient ON mails (tenant_id, lower(recipient), id);

CREATE TABLE suppressions (
    tenant_id  text NOT NULL,
    address    text NOT NULL CHECK (address = lower(address)),
    reason     text NOT NULL,
    since      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, address)
);

CREATE TABLE preferences (
    tenant_id  text NOT NULL,
    member_id  uuid NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('shipping', 'alert', 'bulk')),
    since      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, member_id, kind)
);
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("workspaces", "mails", "suppressions", "preferences"):
        op.execute(enable_tenancy(table))
