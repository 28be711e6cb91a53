"""The kinds of records that a file can hold: their fields, how these are recognized and checked, and their keys.

    KINDS["samples"].field("title").required      # True

Adding a kind is adding a declaration here (and a table, elsewhere).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.imports.reading import checks
from services.imports.reading.checks import Check, normalize_key

__all__ = ["CUSTOM", "CUSTOM_NAME_LONGEST", "CUSTOM_VALUE_LONGEST", "KINDS", "Field", "Kind", "normalize_key"]

CUSTOM: Final = "custom:"
"""Before the name of a custom field, where a field's name is asked for."""
CUSTOM_NAME_LONGEST: Final = 100
CUSTOM_VALUE_LONGEST: Final = 1_000


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its name in the API, what people call it, and what its cells may be."""

    name: str
    label: str
    headers: tuple[str, ...]
    """Headers by which it is recognized, in lower case, the surest first."""
    required: bool = False
    longest: int = 200
    """Characters of a cell, trimmed."""
    check: Check | None = None
    """Of cells that are more than text. It may be relied upon to get no cell that is too long."""
    many: bool = False
    """Whether a cell holds several values, separated by `|`."""
    default: Any = None
    """What an empty cell means."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of records."""

    name: str
    label: str
    fields: tuple[Field, ...]
    keys: tuple[tuple[str, ...], ...]
    """Names of the fields by each of which a record is a duplicate."""
    custom: bool = False
    """Whether other columns may become custom fields."""

    def field(self, name: str) -> Field:
        """Return a field. Raises KeyError."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)


def _kind(name: str, label: str, *fields: Field, keys: tuple[tuple[str, ...], ...], custom: bool = False) -> Kind:
    return Kind(name, label, fields, keys, custom)


_EMAIL_HEADERS: Final = ("email", "e-mail", "email address", "e-mail address", "mail")
_FIRST_NAME: Final = Field("first_name", "First name", ("first name", "firstname", "given name", "forename"))
_LAST_NAME: Final = Field("last_name", "Last name", ("last name", "lastname", "surname", "family name"))
_PHONE: Final = Field("phone", "Phone", ("phone", "phone number", "telephone", "tel", "mobile"), longest=50)


def _street(required: bool) -> Field:
    names = ("street", "street 1", "address", "address 1", "address line 1", "street address", "shipping address 1")
    return Field("street1", "Street", names, required=required)


_STREET2: Final = Field("street2", "Street, second line", ("street 2", "address 2", "address line 2", "apartment"))
_CITY: Final = Field("city", "City", ("city", "town"))
_STATE: Final = Field("state", "State", ("state", "province", "region", "county"))
_ZIP: Final = Field("zip", "ZIP", ("zip", "zip code", "postal code", "postcode"), longest=20)


def _country(required: bool) -> Field:
    return Field("country", "Country", ("country", "country code"), required=required, check=checks.country)


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        _kind(
            "samples",
            "Samples",
            Field(
                "title",
                "Title",
                ("title", "name", "sample", "product", "sample name", "product name", "product title", "item"),
                required=True,
            ),
            Field("sku", "SKU", ("sku", "sku code", "article number", "item number", "product code"), longest=100),
            Field("description", "Description", ("description", "details", "body", "text"), longest=10_000),
            Field(
                "category",
                "Categories",
                ("category", "categories", "product category", "collection"),
                longest=20_000,
                check=checks.categories,
                many=True,
            ),
            Field(
                "image_url",
                "Images",
                ("image url", "image", "images", "image urls", "image src", "picture", "photo", "photo url"),
                longest=120_000,
                check=checks.urls,
                many=True,
            ),
            Field(
                "unit_cost",
                "Unit cost",
                ("unit cost", "cost", "cost per item", "cost price", "price", "unit price"),
                check=checks.decimal,
            ),
            Field(
                "status",
                "Status",
                ("status", "state"),
                check=checks.choice("active", "archived", "draft"),
                default="active",
            ),
            keys=(("title",), ("sku",)),
            custom=True,
        ),
        _kind(
            "customers",
            "Customers",
            Field("email", "E-mail", _EMAIL_HEADERS, required=True, longest=254, check=checks.email),
            _FIRST_NAME,
            _LAST_NAME,
            Field("company", "Company", ("company", "company name", "organization", "organisation", "business")),
            _PHONE,
            Field("job_title", "Job title", ("job title", "position", "job")),
            _street(required=False),
            _STREET2,
            _CITY,
            _STATE,
            _ZIP,
            _country(required=False),
            keys=(("email",),),
        ),
        _kind(
            "members",
            "Members",
            Field("email", "E-mail", _EMAIL_HEADERS, required=True, longest=254, check=checks.email),
            _FIRST_NAME,
            _LAST_NAME,
            Field(
                "role",
                "Role",
                ("role", "user role", "permission"),
                # A workspace has one owner, who was there before.
                check=checks.choice("manager", "sales", "fulfillment", wrong={"owner": "role_owner"}),
            ),
            keys=(("email",),),
        ),
        _kind(
            "orders",
            "Orders",
            Field(
                "number",
                "Order number",
                ("number", "order number", "order", "order no", "order id", "order name"),
                required=True,
                longest=50,
            ),
            Field(
                "recipient_name",
                "Recipient",
                ("recipient name", "recipient", "name", "ship to", "shipping name", "full name"),
                required=True,
            ),
            Field(
                "recipient_company",
                "Recipient's company",
                ("recipient company", "company", "company name", "shipping company"),
            ),
            Field(
                "recipient_email",
                "Recipient's e-mail",
                ("recipient email", *_EMAIL_HEADERS),
                longest=254,
                check=checks.email,
            ),
            _street(required=True),
            _STREET2,
            _CITY,
            _STATE,
            _ZIP,
            _country(required=True),
            _PHONE,
            Field("note", "Note", ("note", "notes", "comment", "remark"), longest=2_000),
            Field(
                "lines",
                "Lines",
                ("lines", "items", "line items", "products", "samples", "skus", "sku"),
                required=True,
                longest=10_000,
                check=checks.lines,
                many=True,
            ),
            keys=(("number",),),
        ),
    )
}
