"""What handlers saw.

Revision ID: bus_0001
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "bus_0001"
down_revision = None
branch_labels = ("bus",)
depends_on = "backroom_0001"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE seen (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            tenant_id text NOT NULL,
            handler text NOT NULL,
            event_id text NOT NULL,
            what text NOT NULL
        );
        CREATE TABLE newest (
            tenant_id text NOT NULL,
            subject text NOT NULL,
            sequence bigint NOT NULL,
            name text NOT NULL,
            PRIMARY KEY (tenant_id, subject)
        );
        """
    )
    for table in ("seen", "newest"):
        op.execute(enable_tenancy(table))
