"""Tables that every service's database has: jobs, events, workers, effects, keys.

Revision ID: backroom_0001
"""

from alembic import op

from shared.db.database import APP_ROLE, SYSTEM_ROLE
from shared.db.migrate import enable_tenancy

revision = "backroom_0001"
down_revision = None
branch_labels = ("backroom",)
depends_on = None

JOBS = """
CREATE TABLE jobs (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    queue           text NOT NULL,
    actor           text NOT NULL,
    priority        smallint NOT NULL,
    arguments       jsonb NOT NULL,
    subject         text,
    state           text NOT NULL
                    CONSTRAINT state_known CHECK (state IN
                        ('scheduled', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),
    waiting_for     text,
    run_at          timestamptz NOT NULL,
    dispatch        integer NOT NULL DEFAULT 0,
    lost            smallint NOT NULL DEFAULT 0,
    runs            integer NOT NULL DEFAULT 0,
    failures        smallint NOT NULL DEFAULT 0,
    deferrals       integer NOT NULL DEFAULT 0,
    worker_id       bigint,
    unique_key      text,
    once_key        text,
    parent_id       uuid,
    origin          text NOT NULL,
    progress        jsonb,
    checkpoint      jsonb,
    result          jsonb,
    outcome         text,
    failure         jsonb,
    principal       text,
    request_id      text,
    correlation_id  text,
    causation_id    text,
    traceparent     text,
    cancel_requested_at timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    queued_at       timestamptz,
    started_at      timestamptz,
    finished_at     timestamptz,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT finished_iff_final CHECK
        ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled')))
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1);

-- The relay's pick: the front of each tenant's line, in each queue and priority.
CREATE INDEX ix_jobs_line ON jobs (queue, priority, tenant_id, run_at, id) WHERE state = 'scheduled';
-- What is in the hands of RabbitMQ and workers: small by design, counted at every pick, searched for dead workers.
CREATE INDEX ix_jobs_in_flight ON jobs (queue, tenant_id) WHERE state IN ('queued', 'running');
CREATE INDEX ix_jobs_tenant ON jobs (tenant_id, id);
CREATE INDEX ix_jobs_failed ON jobs (tenant_id, finished_at) WHERE state = 'failed';
CREATE INDEX ix_jobs_parent ON jobs (parent_id) WHERE parent_id IS NOT NULL;
CREATE UNIQUE INDEX uq_jobs_live ON jobs (actor, tenant_id, unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('scheduled', 'queued', 'running');
CREATE UNIQUE INDEX uq_jobs_once ON jobs (actor, tenant_id, once_key) WHERE once_key IS NOT NULL;

-- Without a foreign key: each completion would pay for its check. Attempts are written by the statement that
-- settles their job, and deleted by the one that deletes it.
CREATE TABLE job_attempts (
    job_id      uuid NOT NULL,
    number      integer NOT NULL,
    dispatch    integer NOT NULL,
    tenant_id   text NOT NULL,
    worker_id   bigint,
    started_at  timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL,
    outcome     text NOT NULL,
    code        text,
    public      text,
    detail      text,
    trace_id    text,
    PRIMARY KEY (job_id, number)
);

CREATE TABLE queues (
    name        text PRIMARY KEY,
    paused_at   timestamptz,
    paused_by   text,
    reason      text
);

CREATE TABLE workers (
    id            bigint PRIMARY KEY,
    host          text NOT NULL,
    pid           integer NOT NULL,
    version       text NOT NULL,
    threads       integer NOT NULL,
    queues        text[] NOT NULL,
    actors        text[] NOT NULL,
    draining      boolean NOT NULL DEFAULT false,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE schedules (
    name            text PRIMARY KEY,
    cron            text NOT NULL,
    catch_up        text NOT NULL CONSTRAINT catch_up_known CHECK (catch_up IN ('skip', 'once', 'all')),
    last_due_at     timestamptz NOT NULL,
    last_job_id     uuid,
    last_success_at timestamptz
);

CREATE TABLE reconciliations (
    name        text NOT NULL,
    tenant_id   text NOT NULL,
    item        text NOT NULL,
    nights      integer NOT NULL,
    last_night  date NOT NULL,
    job_id      uuid,
    alerted_at  timestamptz,
    PRIMARY KEY (name, tenant_id, item)
);
"""

EVENTS = """
CREATE TABLE outbox (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    type            text NOT NULL,
    subject         text NOT NULL,
    sequence        bigint,
    data            jsonb NOT NULL,
    principal       text,
    correlation_id  text,
    causation_id    text,
    traceparent     text,
    replay_of       uuid,
    created_at      timestamptz NOT NULL DEFAULT now(),
    published_at    timestamptz
);
CREATE INDEX ix_outbox_pending ON outbox (id) WHERE published_at IS NULL;

CREATE TABLE webhook_events (
    id            uuid PRIMARY KEY,
    tenant_id     text NOT NULL,
    provider      text NOT NULL,
    event_key     text NOT NULL,
    body          jsonb NOT NULL,
    state         text NOT NULL DEFAULT 'received'
                  CONSTRAINT state_known CHECK (state IN ('received', 'processed', 'failed')),
    outcome       text,
    received_at   timestamptz NOT NULL DEFAULT now(),
    processed_at  timestamptz,
    UNIQUE (tenant_id, provider, event_key)
);
CREATE INDEX ix_webhook_events_age ON webhook_events (received_at);
"""

OUTBOUND = """
CREATE TABLE effects (
    tenant_id   text NOT NULL,
    key         text NOT NULL,
    state       text NOT NULL CONSTRAINT state_known CHECK (state IN ('intent', 'unknown', 'done', 'refused')),
    job_id      uuid,
    dispatch    integer,
    tries       integer NOT NULL DEFAULT 1,
    started_at  timestamptz NOT NULL,
    settled_at  timestamptz,
    answer      jsonb,
    PRIMARY KEY (tenant_id, key)
);

-- tenant_id '*' stands for the provider as a whole.
CREATE TABLE circuits (
    provider    text NOT NULL,
    tenant_id   text NOT NULL,
    state       text NOT NULL CONSTRAINT state_known CHECK (state IN ('closed', 'open', 'half_open')),
    failures    integer NOT NULL DEFAULT 0,
    openings    integer NOT NULL DEFAULT 0,
    last_error  text,
    opened_at   timestamptz,
    retry_at    timestamptz,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (provider, tenant_id)
);

CREATE TABLE rate_limits (
    provider      text NOT NULL,
    tenant_id     text NOT NULL,
    bucket        text NOT NULL,
    tokens        double precision NOT NULL,
    refilled_at   timestamptz NOT NULL,
    blocked_until timestamptz,
    PRIMARY KEY (provider, tenant_id, bucket)
);
"""

WEB = """
CREATE TABLE idempotency_keys (
    tenant_id   text NOT NULL,
    principal   text NOT NULL,
    route       text NOT NULL,
    key         text NOT NULL,
    fingerprint text NOT NULL,
    status      smallint,
    headers     jsonb,
    body        bytea,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, principal, route, key)
);
CREATE INDEX ix_idempotency_keys_expiry ON idempotency_keys (expires_at);
"""

TENANT_TABLES = (
    "jobs",
    "job_attempts",
    "reconciliations",
    "outbox",
    "webhook_events",
    "effects",
    "idempotency_keys",
)
SYSTEM_TABLES = ("queues", "workers", "schedules", "circuits", "rate_limits")


def upgrade() -> None:
    for statements in (JOBS, EVENTS, OUTBOUND, WEB):
        op.execute(statements)
    for table in TENANT_TABLES:
        op.execute(enable_tenancy(table))
    for table in SYSTEM_TABLES:
        op.execute(f"GRANT SELECT ON {table} TO {APP_ROLE}")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {SYSTEM_ROLE}")
    op.execute(f"GRANT SELECT ON alembic_version TO {APP_ROLE}, {SYSTEM_ROLE}")


def downgrade() -> None:
    for table in (*TENANT_TABLES[::-1], *SYSTEM_TABLES):
        op.execute(f"DROP TABLE IF EXISTS {table} CASCADE")
