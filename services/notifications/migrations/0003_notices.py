"""Notices, alerts, and what digests are made of.

Revision ID: notifications_0003
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "notifications_0003"
down_revision = "notifications_0002"
branch_labels = None
depends_on = None

NOTICES = """
CREATE TABLE notices (
    tenant_id   text NOT NULL,
    id          uuid NOT NULL,
    kind        text NOT NULL,
    title       text NOT NULL,
    text        text NOT NULL,
    link        text,
    dedupe_key  text NOT NULL,
    count       integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_notices_dedupe_key UNIQUE (tenant_id, dedupe_key)
);
CREATE INDEX ix_notices_created_at ON notices (created_at);

CREATE TABLE notice_receipts (
    tenant_id   text NOT NULL,
    member_id   uuid NOT NULL,
    notice_id   uuid NOT NULL,
    told_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    read_at     timestamptz,
    PRIMARY KEY (tenant_id, member_id, notice_id)
);
CREATE INDEX ix_notice_receipts_unread ON notice_receipts (tenant_id, member_id, told_at) WHERE read_at IS NULL;
CREATE INDEX ix_notice_receipts_told_at ON notice_receipts (tenant_id, member_id, told_at);
CREATE INDEX ix_notice_receipts_old ON notice_receipts (told_at);

CREATE TABLE notice_marks (
    tenant_id   text NOT NULL,
    member_id   uuid NOT NULL,
    read_until  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, member_id)
);
"""

# What fails adds a row of its own and only shares the alert's: thousands at a time wait for nobody.
ALERTS = """
CREATE TABLE alerts (
    tenant_id       text NOT NULL,
    id              uuid NOT NULL,
    kind            text NOT NULL,
    cause           text NOT NULL,
    service         text NOT NULL,
    actor           text,
    code            text,
    provider        text,
    roles           text[] NOT NULL,
    what            text NOT NULL,
    meaning         text NOT NULL,
    doing           text NOT NULL,
    action          text NOT NULL,
    state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'acknowledged', 'resolved')),
    count           integer NOT NULL DEFAULT 0,
    remaining       integer NOT NULL DEFAULT 0,
    first_at        timestamptz NOT NULL,
    last_at         timestamptz NOT NULL,
    acknowledged_by text,
    acknowledged_at timestamptz,
    retried_by      text,
    retried_at      timestamptz,
    resolved_by     text,
    resolved_at     timestamptz,
    resolution      text,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX uq_alerts_live ON alerts (tenant_id, cause) WHERE state <> 'resolved';
CREATE INDEX ix_alerts_resolved_at ON alerts (resolved_at) WHERE state = 'resolved';

CREATE TABLE alert_occurrences (
    tenant_id   text NOT NULL,
    alert_id    uuid NOT NULL,
    key         text NOT NULL,
    subject     text,
    at          timestamptz NOT NULL,
    cleared_at  timestamptz,
    PRIMARY KEY (tenant_id, alert_id, key)
);
CREATE INDEX ix_alert_occurrences_at ON alert_occurrences (tenant_id, alert_id, at);
CREATE INDEX ix_alert_occurrences_uncleared ON alert_occurrences (tenant_id, key) WHERE cleared_at IS NULL;
CREATE INDEX ix_alert_occurrences_old ON alert_occurrences (at);
"""

PROJECTIONS = """
CREATE TABLE mornings (
    tenant_id   text PRIMARY KEY,
    time_zone   text NOT NULL,
    told_on     date NOT NULL
);
CREATE INDEX ix_mornings_time_zone ON mornings (time_zone, told_on);

CREATE TABLE outcomes (
    tenant_id       text NOT NULL,
    kind            text NOT NULL,
    id              uuid NOT NULL,
    thing           uuid NOT NULL,
    failed_job      text,
    succeeded_at    timestamptz,
    noted_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, kind, id)
);
CREATE INDEX ix_outcomes_thing ON outcomes (tenant_id, thing);
CREATE INDEX ix_outcomes_failed_job ON outcomes (tenant_id, failed_job) WHERE failed_job IS NOT NULL;
CREATE INDEX ix_outcomes_succeeded_at ON outcomes (tenant_id, kind, succeeded_at);
CREATE INDEX ix_outcomes_noted_at ON outcomes (noted_at);
"""


def upgrade() -> None:
    for tables in (NOTICES, ALERTS, PROJECTIONS):
        op.execute(tables)
    for table in (
        "notices",
        "notice_receipts",
        "notice_marks",
        "alerts",
        "alert_occurrences",
        "mornings",
        "outcomes",
    ):
        op.execute(enable_tenancy(table))
