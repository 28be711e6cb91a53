"""Subscriptions, cancellations and their steps, and the summary of each workspace.

Revision ID: workspaces_0003
"""

from alembic import op

from shared.db.database import APP_ROLE, SYSTEM_ROLE
from shared.db.migrate import enable_tenancy

revision = "workspaces_0003"
down_revision = "workspaces_0002"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE subscriptions (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL,
    provider_id text NOT NULL,
    customer_id text NOT NULL,
    status      text NOT NULL
                CONSTRAINT status_known CHECK (status IN ('trialing', 'active', 'past_due', 'paused', 'canceled')),
    plan        text,
    ends_at     timestamptz,
    canceled_at timestamptz,
    occurred_at timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, provider_id),
    CONSTRAINT canceled_has_its_time CHECK ((status = 'canceled') = (canceled_at IS NOT NULL))
);
CREATE INDEX ix_subscriptions_provider_id ON subscriptions (provider_id);
CREATE INDEX ix_subscriptions_ending ON subscriptions (ends_at) WHERE ends_at IS NOT NULL AND status <> 'canceled';

CREATE TABLE cancellations (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    canceled_at     timestamptz NOT NULL,
    ended_at        timestamptz,
    reactivated_at  timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id)
);
CREATE UNIQUE INDEX uq_cancellations_open ON cancellations (tenant_id) WHERE ended_at IS NULL;
CREATE INDEX ix_cancellations_open ON cancellations (canceled_at) WHERE ended_at IS NULL;

CREATE TABLE cancellation_steps (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    cancellation_id uuid NOT NULL,
    step            text NOT NULL
                    CONSTRAINT step_known CHECK (step IN ('winback_1', 'winback_2', 'freeze', 'suspend', 'archive')),
    outcome         text NOT NULL CONSTRAINT outcome_known
                    CHECK (outcome IN ('done', 'skipped_stale', 'skipped_no_owner', 'cancelled')),
    due_at          timestamptz NOT NULL,
    done_at         timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, cancellation_id, step),
    FOREIGN KEY (tenant_id, cancellation_id) REFERENCES cancellations (tenant_id, id)
);

CREATE TABLE summaries (
    tenant_id   text NOT NULL,
    part        text NOT NULL,
    data        jsonb NOT NULL,
    counted_at  timestamptz NOT NULL,
    sequence    bigint NOT NULL,
    PRIMARY KEY (tenant_id, part)
);
CREATE INDEX ix_summaries_part ON summaries (part, counted_at);
"""

# A webhook of Paddle names a subscription and knows no tenant, and a request sees none but its own. This one
# question is answered over the wall; whoever asks it holds what Paddle has signed.
TENANT_OF = f"""
CREATE FUNCTION tenant_of_subscription(wanted text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS
$$ SELECT tenant_id FROM subscriptions WHERE provider_id = wanted ORDER BY created_at LIMIT 1 $$;
REVOKE ALL ON FUNCTION tenant_of_subscription(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenant_of_subscription(text) TO {APP_ROLE}, {SYSTEM_ROLE};
"""  # noqa: S608


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("subscriptions", "cancellations", "cancellation_steps", "summaries"):
        op.execute(enable_tenancy(table))
    op.execute(TENANT_OF)
