"""Which files of pictures lie in the store, so that those which no image names any more are found; and why we gave up.

Revision ID: imports_0002
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "imports_0002"
down_revision = "imports_0001"
branch_labels = None
depends_on = None

# Written before the file is: a row without a file is nothing, a file without a row would stay for ever. `stored_at` is
# when somebody last meant to store it; whoever removes files locks the row and leaves alone what is younger than a day.
IMAGE_FILES = """
CREATE TABLE image_files (
    tenant_id  text NOT NULL,
    sha256     text NOT NULL,
    stored_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, sha256)
);
CREATE INDEX ix_image_files_age ON image_files (stored_at);
"""

# With the code `image_gave_up`: what the last try failed with.
REASON = "ALTER TABLE images ADD COLUMN reason text"


def upgrade() -> None:
    op.execute(IMAGE_FILES)
    op.execute(enable_tenancy("image_files"))
    op.execute(REASON)


def downgrade() -> None:
    op.execute("ALTER TABLE images DROP COLUMN reason")
    op.execute("DROP TABLE image_files")
