"""One PostgreSQL database per service: units of work, tenancy, migrations.

    with unit_of_work() as session:     # in the current tenant; one transaction
        session.add(order)

A unit of work inside another joins it, so that what a function writes and the job it sends stand or
fall with what its caller writes. The wall between tenants is row-level security, not the code above.
"""

from shared.db.database import Database, current_database, unit_of_work
from shared.db.ids import new_id, uuid7_floor
from shared.db.models import TYPES, Record, TenantRecord, metadata, sealed

__all__ = [
    "TYPES",
    "Database",
    "Record",
    "TenantRecord",
    "current_database",
    "metadata",
    "new_id",
    "sealed",
    "unit_of_work",
    "uuid7_floor",
]
