"""Events that are told again note which event they repeat.

Revision ID: backroom_0002
"""

from alembic import op

revision = "backroom_0002"
down_revision = "backroom_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a default: no row is touched, and the version before neither reads nor writes it.
    op.execute("ALTER TABLE outbox ADD COLUMN replay_of uuid")


def downgrade() -> None:
    op.execute("ALTER TABLE outbox DROP COLUMN replay_of")
