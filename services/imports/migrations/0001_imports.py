"""Uploads, imports, what they brought: samples, customers, members and orders asked for, images.

Revision ID: imports_0001
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "imports_0001"
down_revision = None
branch_labels = ("imports",)
depends_on = "backroom_0001"

IMPORTS = """
CREATE TABLE uploads (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL,
    created_by  text NOT NULL,
    file_name   text NOT NULL,
    blob_key    text NOT NULL,
    size        bigint NOT NULL,
    sha256      text NOT NULL,
    head        bytea NOT NULL,
    encoding    text NOT NULL,
    delimiter   text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id)
);
CREATE INDEX ix_uploads_same ON uploads (tenant_id, sha256);
CREATE INDEX ix_uploads_age ON uploads (created_at);

CREATE TABLE imports (
    id           uuid PRIMARY KEY,
    tenant_id    text NOT NULL,
    kind         text NOT NULL,
    mode         text NOT NULL CONSTRAINT mode_known CHECK (mode IN ('create', 'update')),
    upload_id    uuid NOT NULL,
    file_name    text NOT NULL,
    encoding     text NOT NULL,
    delimiter    text NOT NULL,
    mapping      jsonb NOT NULL,
    header       jsonb NOT NULL DEFAULT '[]',
    state        text NOT NULL DEFAULT 'queued'
                 CONSTRAINT state_known CHECK (state IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    requested_by text NOT NULL,
    job_id       uuid,
    total        integer,
    processed    integer NOT NULL DEFAULT 0,
    created      integer NOT NULL DEFAULT 0,
    updated      integer NOT NULL DEFAULT 0,
    skipped      integer NOT NULL DEFAULT 0,
    failed       integer NOT NULL DEFAULT 0,
    failure      jsonb,
    started_at   timestamptz,
    finished_at  timestamptz,
    touched_at   timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    CONSTRAINT rows_add_up CHECK (created + updated + skipped + failed = processed)
);
CREATE INDEX ix_imports_upload ON imports (tenant_id, upload_id);
CREATE INDEX ix_imports_open ON imports (touched_at) WHERE state IN ('queued', 'running');

-- One row of the file that failed, with what is wrong with it and the cells as they were, to be mended.
CREATE TABLE import_failures (
    tenant_id   text NOT NULL,
    import_id   uuid NOT NULL,
    row         integer NOT NULL,
    issues      jsonb NOT NULL,
    cells       jsonb NOT NULL,
    PRIMARY KEY (import_id, row),
    FOREIGN KEY (tenant_id, import_id) REFERENCES imports (tenant_id, id) ON DELETE CASCADE
);
"""

# Keys of records are normalized text (reading/kinds.py), compared byte by byte. Rows of an import name it and their
# row, by which a batch knows what it has done; those from elsewhere have neither. There are as few indexes as
# there can be: each is paid for by every row.
RECORDS = """
CREATE TABLE samples (
    id            uuid NOT NULL,
    tenant_id     text NOT NULL,
    title         text NOT NULL,
    title_key     text COLLATE "C" NOT NULL,
    sku           text,
    sku_key       text COLLATE "C",
    description   text NOT NULL DEFAULT '',
    status        text NOT NULL DEFAULT 'active'
                  CONSTRAINT status_known CHECK (status IN ('active', 'draft', 'archived')),
    unit_cost     numeric(16, 4),
    stock         integer,
    categories    jsonb NOT NULL DEFAULT '[]',
    custom_fields jsonb NOT NULL DEFAULT '{}',
    import_id     uuid,
    import_row    integer,
    version       integer NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_samples_title UNIQUE (tenant_id, title_key),
    CONSTRAINT uq_samples_sku UNIQUE (tenant_id, sku_key)
);
CREATE INDEX ix_samples_categories ON samples USING gin (categories);

-- A tree: the path of a category is those of its parents and its own name, as normalized keys.
CREATE TABLE categories (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL,
    path_key    text COLLATE "C" NOT NULL,
    name        text NOT NULL,
    parent_key  text COLLATE "C",
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_categories_path UNIQUE (tenant_id, path_key)
);

CREATE TABLE customers (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL,
    email       text NOT NULL,
    email_key   text COLLATE "C" NOT NULL,
    first_name  text NOT NULL DEFAULT '',
    last_name   text NOT NULL DEFAULT '',
    company     text NOT NULL DEFAULT '',
    phone       text NOT NULL DEFAULT '',
    job_title   text NOT NULL DEFAULT '',
    street1     text NOT NULL DEFAULT '',
    street2     text NOT NULL DEFAULT '',
    city        text NOT NULL DEFAULT '',
    state       text NOT NULL DEFAULT '',
    zip         text NOT NULL DEFAULT '',
    country     text NOT NULL DEFAULT '',
    import_id   uuid,
    import_row  integer,
    version     integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_customers_email UNIQUE (tenant_id, email_key)
);

-- What was asked for of workspaces and of shipping: each row is told by one event, and never asked for twice.
CREATE TABLE member_requests (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL,
    email       text NOT NULL,
    email_key   text COLLATE "C" NOT NULL,
    first_name  text NOT NULL DEFAULT '',
    last_name   text NOT NULL DEFAULT '',
    role        text NOT NULL,
    import_id   uuid,
    import_row  integer,
    version     integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_member_requests_email UNIQUE (tenant_id, email_key)
);

CREATE TABLE order_requests (
    id                uuid PRIMARY KEY,
    tenant_id         text NOT NULL,
    number            text NOT NULL,
    number_key        text COLLATE "C" NOT NULL,
    recipient_name    text NOT NULL,
    recipient_company text NOT NULL DEFAULT '',
    recipient_email   text NOT NULL DEFAULT '',
    street1           text NOT NULL,
    street2           text NOT NULL DEFAULT '',
    city              text NOT NULL DEFAULT '',
    state             text NOT NULL DEFAULT '',
    zip               text NOT NULL DEFAULT '',
    country           text NOT NULL,
    phone             text NOT NULL DEFAULT '',
    note              text NOT NULL DEFAULT '',
    lines             jsonb NOT NULL,
    import_id         uuid,
    import_row        integer,
    version           integer NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_order_requests_number UNIQUE (tenant_id, number_key)
);
"""

# The picture behind a URL that a sample asked for. `sha256` names the stored file, so that the same picture is
# stored once; a `pending` one is due at `next_attempt_at`.
IMAGES = """
CREATE TABLE images (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    sample_id       uuid NOT NULL,
    position        smallint NOT NULL,
    url             text NOT NULL,
    host            text NOT NULL,
    state           text NOT NULL DEFAULT 'pending'
                    CONSTRAINT state_known CHECK (state IN ('pending', 'attached', 'failed')),
    attempts        smallint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    code            text,
    sha256          text,
    media_type      text,
    width           integer,
    height          integer,
    size            integer,
    import_id       uuid,
    created_at      timestamptz NOT NULL DEFAULT now(),
    settled_at      timestamptz,
    CONSTRAINT uq_images_url UNIQUE (tenant_id, sample_id, url),
    FOREIGN KEY (tenant_id, sample_id) REFERENCES samples (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT attached_has_file CHECK ((state = 'attached') = (sha256 IS NOT NULL))
);
CREATE INDEX ix_images_due ON images (next_attempt_at) WHERE state = 'pending';
CREATE INDEX ix_images_import ON images (import_id, state) WHERE import_id IS NOT NULL;
CREATE INDEX ix_images_file ON images (tenant_id, sha256) WHERE sha256 IS NOT NULL;
"""

TENANT_TABLES = (
    "uploads",
    "imports",
    "import_failures",
    "samples",
    "categories",
    "customers",
    "member_requests",
    "order_requests",
    "images",
)


def upgrade() -> None:
    for statements in (IMPORTS, RECORDS, IMAGES):
        op.execute(statements)
    for table in TENANT_TABLES:
        op.execute(enable_tenancy(table))


def downgrade() -> None:
    for table in TENANT_TABLES[::-1]:
        op.execute(f"DROP TABLE IF EXISTS {table} CASCADE")
