"""The table of effects.

Revision ID: sample_0001
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "sample_0001"
down_revision = None
branch_labels = ("sample",)
depends_on = "backroom_0001"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE done (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            tenant_id text NOT NULL,
            key text NOT NULL,
            attempt integer,
            at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
        """
    )
    op.execute(enable_tenancy("done"))
