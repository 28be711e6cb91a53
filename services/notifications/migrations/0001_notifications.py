"""Projections of members and orders.

Revision ID: notifications_0001
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "notifications_0001"
down_revision = None
branch_labels = ("notifications",)
depends_on = "backroom_0001"

TABLES = """
CREATE TABLE members (
    tenant_id   text NOT NULL,
    id          uuid NOT NULL,
    email       text NOT NULL,
    name        text NOT NULL,
    role        text NOT NULL,
    status      text NOT NULL,
    sequence    bigint NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE orders (
    tenant_id           text NOT NULL,
    id                  uuid NOT NULL,
    number              text NOT NULL,
    created_by          text NOT NULL,
    recipient_name      text NOT NULL,
    recipient_company   text NOT NULL,
    state               text NOT NULL,
    since               timestamptz NOT NULL,
    ordered_at          timestamptz NOT NULL,
    sequence            bigint NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX ix_orders_state ON orders (tenant_id, state, since);
CREATE INDEX ix_orders_created_by ON orders (tenant_id, created_by);
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("members", "orders"):
        op.execute(enable_tenancy(table))
