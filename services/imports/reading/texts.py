"""Every sentence that people read about a file, a mapping or a row: one for each code.

    sentence("email_invalid", value="abc@")
    # “abc@” is no e-mail address; write it like name@example.com.

Each says what to do. A value is shown shortened, on one line, and without characters that could not be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["TEXTS", "sentence", "shown"]

_SHOWN: Final = 60

TEXTS: Final[Mapping[str, str]] = {
    # The file as a whole.
    "file_empty": "The file is empty; check it and upload it again.",
    "file_header_missing": "The first row of the file names no columns; put the names of the columns there.",
    "file_encoding": "The file is not written in {encoding} (see byte {offset}); choose another encoding, or save the "
    "file as UTF-8.",
    "file_nul": "Row {row} holds a character that no text may hold (NUL); save the table as CSV in UTF-8.",
    "file_quote_open": "A quotation mark that opens in row {row} is not closed where its cell ends; close it, and "
    "write a quotation mark inside of a cell twice.",
    "file_too_many_rows": "The file has more than {limit} rows; split it and upload each part.",
    "file_too_many_columns": "Row {row} has more than {limit} columns; leave away the columns that you do not need.",
    "file_field_too_long": "A cell in row {row} has more than {limit} characters; shorten it.",
    # Which column is which field.
    "field_unknown": "There is no field “{field}”; choose one of the fields that are offered.",
    "column_out_of_range": "The file has no column number {column}; choose one of its {columns} columns.",
    "column_used_twice": "The column “{column}” is chosen for several fields; choose it for one of them.",
    "field_required": "“{field}” is needed; choose the column that holds it.",
    "custom_not_allowed": "Custom fields exist for samples only; leave “{field}” away.",
    "custom_name_empty": "A custom field needs a name; give it one.",
    "custom_name_too_long": "The name of a custom field has at most {limit} characters; shorten “{field}”.",
    "custom_name_invalid": "The name of a custom field is text without control characters; change “{field}”.",
    "custom_name_duplicate": "There are two custom fields with the name “{field}”; rename one of them.",
    # A row.
    "row_too_long": "The row has more cells ({cells}) than the header has columns ({columns}); put a cell with a "
    "delimiter in it into quotation marks.",
    "plan_limit_reached": "Your plan has no room for more records; upgrade it, or delete some, and import this row "
    "again.",
    # A cell.
    "required": "“{label}” is empty; fill it in.",
    "too_long": "“{value}” has {length} characters; shorten it to at most {limit}.",
    "too_many": "There are {count} values in this cell; leave at most {limit}.",
    "email_invalid": "“{value}” is no e-mail address; write it like name@example.com.",
    "country_invalid": "“{value}” is no country code; write its two letters, like US or DE.",
    "choice_unknown": "“{value}” is not known here; write one of: {choices}.",
    "role_owner": "A workspace has one owner, who is not imported; write manager, sales or fulfillment.",
    "number_invalid": "“{value}” is no number; write it like 1234.50.",
    "number_comma": "“{value}” has a comma; write it like 1234.50, with a point and without separators of thousands.",
    "number_currency": "“{value}” has a currency in it; write the number alone, like 1234.50.",
    "number_negative": "“{value}” is less than zero; write a number that is zero or more.",
    "number_too_large": "“{value}” is too large; write at most {limit} digits before the point.",
    "number_too_fine": "“{value}” is too fine; write at most {limit} digits after the point.",
    "category_level_empty": "“{value}” has an empty level; write a category like Clothing > Shirts.",
    "category_too_deep": "“{value}” has {count} levels; write at most {limit}.",
    "url_invalid": "“{value}” is no address of a picture; write it like https://example.com/picture.jpg.",
    "line_sku_missing": "“{value}” names no product; write it like SKU x 2.",
    "line_quantity_invalid": "“{value}” has no proper quantity; write it like SKU x 2, with 1 to {limit}.",
}


def sentence(code: str, **fields: Any) -> str:
    """Return the sentence for a code, with its fields in place. Raises KeyError for a code without one."""
    return TEXTS[code].format_map({name: shown(value) for name, value in fields.items()})


def shown(value: Any) -> str:
    """Return a value as it is shown to people: one line of at most 60 characters."""
    if not isinstance(value, str):
        return f"{value:,}" if type(value) is int else str(value)
    # No more than could be shown is looked at: a cell can be long.
    text = " ".join(value[: 4 * _SHOWN].split())
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return text if len(text) <= _SHOWN and len(value) <= 4 * _SHOWN else text[: _SHOWN - 1].rstrip() + "…"
