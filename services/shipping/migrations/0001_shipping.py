"""Orders, addresses, parcels, rates, labels, tracking, and accounts with Shippo.

Revision ID: shipping_0001
"""

from alembic import op

from shared.db.migrate import enable_tenancy

revision = "shipping_0001"
down_revision = None
branch_labels = ("shipping",)
depends_on = "backroom_0001"

# References carry the tenant, since PostgreSQL checks foreign keys without regard to row-level security.
ORDERS = """
CREATE TABLE addresses (
    id                  uuid PRIMARY KEY,
    tenant_id           text NOT NULL,
    name                text NOT NULL,
    company             text NOT NULL,
    street1             text NOT NULL,
    street2             text NOT NULL,
    city                text NOT NULL,
    state               text NOT NULL,
    zip                 text NOT NULL,
    country             text NOT NULL,
    phone               text NOT NULL,
    email               text NOT NULL,
    validation          text NOT NULL
                        CONSTRAINT validation_known CHECK (validation IN ('unchecked', 'valid', 'invalid')),
    validation_messages jsonb NOT NULL,
    complete            boolean,
    validated_at        timestamptz,
    version             integer NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id)
);

CREATE TABLE orders (
    id                  uuid PRIMARY KEY,
    tenant_id           text NOT NULL,
    number              text NOT NULL,
    state               text NOT NULL
                        CONSTRAINT state_known CHECK
                            (state IN ('New', 'Processing', 'Shipped', 'Delivered', 'Cancelled')),
    created_by          text NOT NULL,
    recipient_name      text NOT NULL,
    recipient_company   text NOT NULL,
    recipient_email     text NOT NULL,
    address_id          uuid NOT NULL,
    lines               jsonb NOT NULL,
    note                text NOT NULL,
    carrier             text,
    tracking_number     text,
    tracking_url        text,
    delivery_status     text,
    version             integer NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    CONSTRAINT uq_orders_number UNIQUE (tenant_id, number),
    FOREIGN KEY (tenant_id, address_id) REFERENCES addresses (tenant_id, id)
);
CREATE INDEX ix_orders_state ON orders (tenant_id, state, id);
CREATE INDEX ix_orders_created_by ON orders (tenant_id, created_by, id);
CREATE INDEX ix_orders_address ON orders (tenant_id, address_id);

CREATE TABLE order_transitions (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL,
    order_id    uuid NOT NULL,
    from_state  text NOT NULL,
    to_state    text NOT NULL,
    principal   text,
    reason      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX ix_order_transitions_order ON order_transitions (tenant_id, order_id, id);

CREATE TABLE parcels (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    order_id        uuid NOT NULL,
    position        integer NOT NULL,
    length          text NOT NULL,
    width           text NOT NULL,
    height          text NOT NULL,
    distance_unit   text NOT NULL CONSTRAINT distance_unit_known CHECK (distance_unit IN ('in', 'cm')),
    weight          text NOT NULL,
    mass_unit       text NOT NULL CONSTRAINT mass_unit_known CHECK (mass_unit IN ('lb', 'oz', 'kg', 'g')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, order_id, position),
    FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id) ON DELETE CASCADE
);
"""

RATES = """
CREATE TABLE shipments (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL,
    order_id    uuid NOT NULL,
    parcel_id   uuid NOT NULL,
    provider_id text NOT NULL,
    fingerprint text NOT NULL,
    messages    jsonb NOT NULL,
    rated_at    timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, provider_id),
    FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, parcel_id) REFERENCES parcels (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX ix_shipments_parcel ON shipments (tenant_id, parcel_id, rated_at);

CREATE TABLE rates (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    shipment_id     uuid NOT NULL,
    order_id        uuid NOT NULL,
    parcel_id       uuid NOT NULL,
    provider_id     text NOT NULL,
    carrier         text NOT NULL,
    service         text NOT NULL,
    service_token   text NOT NULL,
    amount          integer NOT NULL CONSTRAINT amount_positive CHECK (amount >= 0),
    currency        text NOT NULL,
    days            integer,
    attributes      jsonb NOT NULL,
    rated_at        timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, provider_id),
    FOREIGN KEY (tenant_id, shipment_id) REFERENCES shipments (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX ix_rates_shipment ON rates (tenant_id, shipment_id);
"""

LABELS = """
CREATE TABLE labels (
    id                  uuid PRIMARY KEY,
    tenant_id           text NOT NULL,
    order_id            uuid NOT NULL,
    parcel_id           uuid NOT NULL,
    job_id              uuid,
    rate_id             uuid,
    chosen              boolean NOT NULL,
    label_file_type     text NOT NULL,
    status              text NOT NULL
                        CONSTRAINT status_known CHECK (status IN
                            ('requested', 'purchasing', 'waiting', 'unknown', 'needs_review', 'purchased', 'failed',
                             'refund_pending', 'refunded', 'refund_rejected')),
    attempt             integer NOT NULL,
    carrier             text,
    service             text,
    amount              integer,
    currency            text,
    provider_id         text,
    tracking_number     text,
    tracking_url        text,
    file_key            text,
    file_media_type     text,
    file_deleted_at     timestamptz,
    error_code          text,
    error_fields        jsonb NOT NULL,
    requested_by        text,
    waiting_since       timestamptz,
    polls               integer NOT NULL,
    purchased_at        timestamptz,
    refund_requested_at timestamptz,
    refund_provider_id  text,
    version             integer NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id),
    FOREIGN KEY (tenant_id, parcel_id) REFERENCES parcels (tenant_id, id),
    FOREIGN KEY (tenant_id, rate_id) REFERENCES rates (tenant_id, id),
    CONSTRAINT purchased_has_proof CHECK
        (status <> 'purchased' OR (provider_id IS NOT NULL AND purchased_at IS NOT NULL))
);
-- The last wall against buying twice: one label per parcel that is bought or may yet turn out to be.
CREATE UNIQUE INDEX uq_labels_live ON labels (tenant_id, order_id, parcel_id)
    WHERE status IN ('requested', 'purchasing', 'waiting', 'unknown', 'needs_review', 'purchased');
CREATE UNIQUE INDEX uq_labels_provider_id ON labels (tenant_id, provider_id) WHERE provider_id IS NOT NULL;
CREATE INDEX ix_labels_order ON labels (tenant_id, order_id, id);
-- What the hourly and nightly look-outs search over all tenants: few rows at any time.
CREATE INDEX ix_labels_open ON labels (status, created_at)
    WHERE status IN ('requested', 'purchasing', 'waiting', 'unknown', 'needs_review', 'refund_pending');
CREATE INDEX ix_labels_purchased ON labels (purchased_at) WHERE purchased_at IS NOT NULL;

CREATE TABLE trackings (
    id              uuid PRIMARY KEY,
    tenant_id       text NOT NULL,
    order_id        uuid NOT NULL,
    label_id        uuid NOT NULL,
    carrier         text NOT NULL,
    tracking_number text NOT NULL,
    status          text NOT NULL
                    CONSTRAINT status_known CHECK (status IN
                        ('unknown', 'pre_transit', 'transit', 'delivered', 'returned', 'failure')),
    substatus       text NOT NULL,
    details         text NOT NULL,
    place           text NOT NULL,
    status_date     timestamptz,
    eta             timestamptz,
    history         jsonb NOT NULL,
    checked_at      timestamptz NOT NULL DEFAULT now(),
    version         integer NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, carrier, tracking_number),
    FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id),
    FOREIGN KEY (tenant_id, label_id) REFERENCES labels (tenant_id, id)
);
CREATE INDEX ix_trackings_order ON trackings (tenant_id, order_id, id);
CREATE INDEX ix_trackings_open ON trackings (checked_at) WHERE status IN ('unknown', 'pre_transit', 'transit');

CREATE TABLE milestones (
    id          uuid PRIMARY KEY,
    tenant_id   text NOT NULL,
    order_id    uuid NOT NULL,
    milestone   text NOT NULL
                CONSTRAINT milestone_known CHECK (milestone IN
                    ('label_created', 'in_transit', 'delivered', 'returned', 'failure')),
    label_id    uuid,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, order_id, milestone),
    FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id) ON DELETE CASCADE
);
"""

ACCOUNTS = """
CREATE TABLE shippo_accounts (
    id                      uuid PRIMARY KEY,
    tenant_id               text NOT NULL UNIQUE,
    status                  text NOT NULL
                            CONSTRAINT status_known CHECK
                                (status IN ('checking', 'connected', 'needs_reauthorization')),
    token_sealed            text NOT NULL,
    token_hint              text NOT NULL,
    test                    boolean NOT NULL,
    webhook_token_hash      text NOT NULL,
    webhook_token_sealed    text NOT NULL,
    webhook_id              text,
    hmac_secret_sealed      text,
    sender                  jsonb NOT NULL,
    connected_by            text,
    checked_at              timestamptz,
    version                 integer NOT NULL,
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now()
);
"""

TABLES = (
    "addresses",
    "orders",
    "order_transitions",
    "parcels",
    "shipments",
    "rates",
    "labels",
    "trackings",
    "milestones",
    "shippo_accounts",
)


def upgrade() -> None:
    for statements in (ORDERS, RATES, LABELS, ACCOUNTS):
        op.execute(statements)
    for table in TABLES:
        op.execute(enable_tenancy(table))


def downgrade() -> None:
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE IF EXISTS {table} CASCADE")
