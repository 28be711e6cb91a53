"""Workspaces and their members.

Revision ID: workspaces_0001
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "workspaces_0001"
down_revision = None
branch_labels = ("workspaces",)
depends_on = "backroom_0001"

TABLES = """
CREATE TABLE workspaces (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL UNIQUE,
    name        text NOT NULL,
    plan        text NOT NULL,
    time_zone   text NOT NULL,
    state       text NOT NULL
                CONSTRAINT state_known CHECK (state IN ('active', 'canceled', 'frozen', 'suspended', 'archived')),
    version     integer NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE members (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL,
    email       text NOT NULL,
    name        text NOT NULL,
    role        text NOT NULL CONSTRAINT role_known CHECK (role IN ('owner', 'manager', 'sales', 'fulfillment')),
    status      text NOT NULL CONSTRAINT status_known CHECK (status IN ('invited', 'active', 'disabled')),
    version     integer NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    CONSTRAINT owner_is_not_disabled CHECK (role <> 'owner' OR status <> 'disabled')
);
CREATE UNIQUE INDEX uq_members_email ON members (tenant_id, lower(email));
CREATE UNIQUE INDEX uq_members_owner ON members (tenant_id) WHERE role = 'owner';
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("workspaces", "members"):
        op.execute(enable_tenancy(table))
