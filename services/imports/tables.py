"""Which table a kind fills, and how: its columns, their types, its keys.

    TABLES["samples"].columns["unit_cost"]      "numeric"

A field of a kind is the column of the same name, but for those that become more than a column (`apart`): categories
and images of samples. The key of a field `title` is the column `title_key`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["TABLES", "Table"]


@dataclass(frozen=True)
class Table:
    """The table of a kind."""

    name: str
    columns: Mapping[str, str]
    """SQL type of each column that a field fills, by name."""
    keys: tuple[str, ...]
    """Fields by which a record is a duplicate, the strongest first."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """SQL of what a column gets where the file says nothing; an empty text unless the column may be null."""
    nullable: tuple[str, ...] = ()

    @property
    def key_columns(self) -> tuple[str, ...]:
        return tuple(f"{key}_key" for key in self.keys)


def _texts(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "text")


TABLES: Final[Mapping[str, Table]] = {
    "samples": Table(
        "samples",
        {
            **_texts("title", "sku", "description", "status"),
            "unit_cost": "numeric",
            "categories": "jsonb",
            "custom_fields": "jsonb",
        },
        keys=("sku", "title"),
        defaults={"status": "'active'", "categories": "'[]'", "custom_fields": "'{}'"},
        nullable=("sku", "unit_cost"),
    ),
    "customers": Table(
        "customers",
        _texts(
            "email",
            "first_name",
            "last_name",
            "company",
            "phone",
            "job_title",
            "street1",
            "street2",
            "city",
            "state",
            "zip",
            "country",
        ),
        keys=("email",),
    ),
    "members": Table("member_requests", _texts("email", "first_name", "last_name", "role"), keys=("email",)),
    "orders": Table(
        "order_requests",
        {
            **_texts(
                "number",
                "recipient_name",
                "recipient_company",
                "recipient_email",
                "street1",
                "street2",
                "city",
                "state",
                "zip",
                "country",
                "phone",
                "note",
            ),
            "lines": "jsonb",
        },
        keys=("number",),
        defaults={"lines": "'[]'"},
    ),
}
