"""The table of orders.

Revision ID: chaos_sample_0001
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "chaos_sample_0001"
down_revision = None
branch_labels = ("chaos_sample",)
depends_on = "backroom_0001"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE orders (
            id uuid PRIMARY KEY,
            tenant_id text NOT NULL,
            number text NOT NULL,
            state text NOT NULL DEFAULT 'new',
            job_id uuid,
            rate text,
            "transaction" text,
            created_at timestamptz NOT NULL DEFAULT now(),
            UNIQUE (tenant_id, number)
        );
        """
    )
    op.execute(enable_tenancy("orders"))
