"""What the plans of workspaces allow.

Revision ID: imports_0004
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "imports_0004"
down_revision = "imports_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE plan_limits (
            tenant_id   text PRIMARY KEY,
            limits      jsonb NOT NULL,
            sequence    bigint NOT NULL
        )
        """
    )
    op.execute(enable_tenancy("plan_limits"))


def downgrade() -> None:
    op.execute("DROP TABLE IF EXISTS plan_limits")
