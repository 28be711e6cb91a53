"""Checks of cells, a whole column at a time: what the good ones mean, and what is wrong with the others.

    decimal(["12.50", "1,5"])      # ([Decimal("12.50"), None], [(1, "number_comma", {"value": "1,5"})])

A column of a hundred thousand cells has to cost little, therefore each distinct cell is read once. Equal cells share
one value, also where it is a list: nobody may change it. Cells come trimmed and of bounded length; an empty one is
never wrong here and means None.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

__all__ = [
    "LEVEL",
    "Bad",
    "Check",
    "categories",
    "choice",
    "country",
    "decimal",
    "email",
    "lines",
    "normalize_key",
    "urls",
]

Bad = tuple[int, str, dict[str, Any]]
"""Index of a cell, the code of what is wrong with it, the fields of its sentence."""

Check = Callable[[Sequence[str]], tuple[list[Any], list[Bad]]]

LEVEL: Final = ">"
"""Between the levels of a category's path."""
SEPARATOR: Final = "|"
"""Between the values of one cell."""
MOST_VALUES: Final = 50

_EMAIL: Final = re.compile(
    r"[^\s\x00-\x20\x7f@\"(),:;<>\[\]\\.]+(?:\.[^\s\x00-\x20\x7f@\"(),:;<>\[\]\\.]+)*"
    r"@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+(?!\d+$)[^\W_](?:[\w-]{0,61}[^\W_])"
)
_NUMBER: Final = re.compile(r"(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]+))?")
_CURRENCY: Final = re.compile(r"(?<![A-Za-z])[A-Za-z]{2,3}\.? ?[0-9]|[0-9] ?[A-Za-z]{2,3}(?![A-Za-z])")
_URL: Final = re.compile(r"https?://[^\s/?#\\|\x00-\x20\x7f]+(?:[/?#][^\s\x00-\x20\x7f]*)?", re.I)
_QUANTITY: Final = re.compile(r"(?P<sku>.*)\s[xX×*](?:\s+(?P<far>\S.*)|(?P<near>[0-9]+))", re.S)
_WHOLE_DIGITS: Final = 12
_PART_DIGITS: Final = 4
_DEEPEST: Final = 10
_LONGEST_CATEGORY: Final = 100
_LONGEST_URL: Final = 2_000
_LONGEST_SKU: Final = 100
_MOST_PIECES: Final = 100_000


class _Wrong(Exception):
    def __init__(self, code: str, **fields: Any) -> None:
        self.code = code
        self.fields = fields


def normalize_key(value: str) -> str:
    """Return the text by which two values are the same: `" Blue  MUG "` and `"blue mug"` are.

    White space at the ends goes, runs of it become one space; upper and lower case, and the ways in which Unicode can
    write one letter, are no difference. Nothing but Python computes it: keys are stored, and compared byte by byte.
    """
    value = " ".join(value.split())
    if value.isascii():
        return value.lower()
    # As the Unicode standard compares without case (D145), and then the shortest form.
    folded = unicodedata.normalize("NFD", value).casefold()
    return unicodedata.normalize("NFC", folded)


def _each(parse: Callable[[str], Any]) -> Check:
    """Make the check of a column from one of a cell, which raises _Wrong."""

    def check(column: Sequence[str]) -> tuple[list[Any], list[Bad]]:
        values: dict[str, Any] = {"": None}
        wrong: dict[str, tuple[str, dict[str, Any]]] = {}
        for cell in set(column):
            if cell:
                try:
                    values[cell] = parse(cell)
                except _Wrong as found:
                    values[cell], wrong[cell] = None, (found.code, found.fields)
        bad: list[Bad] = []
        if wrong:
            bad = [(index, *wrong[cell]) for index, cell in enumerate(column) if cell in wrong]
        return list(map(values.__getitem__, column)), bad

    return check


def choice(*choices: str, wrong: dict[str, str] | None = None) -> Check:
    """One of some words, in any case; `wrong` has codes for words that deserve a sentence of their own."""

    def parse(cell: str) -> str:
        word = cell.casefold()
        if word in choices:
            return word
        if wrong is not None and word in wrong:
            raise _Wrong(wrong[word])
        raise _Wrong("choice_unknown", value=cell, choices=", ".join(choices))

    return _each(parse)


def _parse_email(cell: str) -> str:
    # The part before the @ has at most 64 characters (RFC 5321).
    if not _EMAIL.fullmatch(cell) or cell.index("@") > 64:
        raise _Wrong("email_invalid", value=cell)
    return cell


def _parse_country(cell: str) -> str:
    if len(cell) != 2 or not (cell.isascii() and cell.isalpha()):
        raise _Wrong("country_invalid", value=cell)
    return cell.upper()


def _parse_decimal(cell: str) -> Decimal:
    """A number as 1234.50. Commas are refused, since 1,234 means two different things in two countries."""
    found = _NUMBER.fullmatch(cell)
    if not found:
        if _CURRENCY.search(cell) or any(unicodedata.category(char) == "Sc" for char in cell):
            raise _Wrong("number_currency", value=cell)
        if re.fullmatch(r"[-−][0-9.,]+", cell):
            raise _Wrong("number_negative", value=cell)
        if re.fullmatch(r"[0-9.,]+", cell) and "," in cell:
            raise _Wrong("number_comma", value=cell)
        raise _Wrong("number_invalid", value=cell)
    if len(found["whole"].lstrip("0")) > _WHOLE_DIGITS:
        raise _Wrong("number_too_large", value=cell, limit=_WHOLE_DIGITS)
    if found["part"] and len(found["part"].rstrip("0")) > _PART_DIGITS:
        raise _Wrong("number_too_fine", value=cell, limit=_PART_DIGITS)
    return Decimal(cell)


def _parts(cell: str) -> list[str]:
    """Split a cell at its separators; empty values, as after the last separator, are none."""
    parts = [part for part in map(str.strip, cell.split(SEPARATOR)) if part]
    if len(parts) > MOST_VALUES:
        raise _Wrong("too_many", count=len(parts), limit=MOST_VALUES)
    return parts


def _parse_categories(cell: str) -> list[list[str]]:
    paths: dict[tuple[str, ...], list[str]] = {}
    for part in _parts(cell):
        path = [" ".join(name.split()) for name in part.split(LEVEL)]
        if not all(path):
            raise _Wrong("category_level_empty", value=part)
        if len(path) > _DEEPEST:
            raise _Wrong("category_too_deep", value=part, count=len(path), limit=_DEEPEST)
        for name in path:
            if len(name) > _LONGEST_CATEGORY:
                raise _Wrong("too_long", value=name, length=len(name), limit=_LONGEST_CATEGORY)
        paths.setdefault(tuple(map(normalize_key, path)), path)
    return list(paths.values())


def _parse_urls(cell: str) -> list[str]:
    found = list(dict.fromkeys(_parts(cell)))
    for url in found:
        if len(url) > _LONGEST_URL:
            raise _Wrong("too_long", value=url, length=len(url), limit=_LONGEST_URL)
        if not _URL.fullmatch(url):
            raise _Wrong("url_invalid", value=url)
    return found


def _parse_lines(cell: str) -> list[dict[str, Any]]:
    found = [_line(part) for part in _parts(cell)]
    if not found:
        raise _Wrong("line_sku_missing", value=cell)
    return found


def _line(part: str) -> dict[str, Any]:
    """`SKU x 2`, or `SKU` for one of it."""
    sku, quantity = part, "1"
    # The space lets what begins with the quantity be seen as that. A long text is no line, and not worth searching.
    if len(part) <= 2 * _LONGEST_SKU and (found := _QUANTITY.fullmatch(f" {part}")):
        sku, quantity = found["sku"].strip(), found["far"] or found["near"]
    if not sku:
        raise _Wrong("line_sku_missing", value=part)
    if len(sku) > _LONGEST_SKU:
        raise _Wrong("too_long", value=sku, length=len(sku), limit=_LONGEST_SKU)
    if not re.fullmatch(r"[0-9]{1,9}", quantity) or not 1 <= int(quantity) <= _MOST_PIECES:
        raise _Wrong("line_quantity_invalid", value=part, limit=_MOST_PIECES)
    return {"sku": sku, "quantity": int(quantity)}


def _or_empty(check: Check) -> Check:
    """The same, where an empty cell means no values."""

    def checked(column: Sequence[str]) -> tuple[list[Any], list[Bad]]:
        values, bad = check(column)
        return [value if value is not None else [] for value in values], bad

    return checked


email: Final = _each(_parse_email)
"""An address, as it was written; internationalized ones too."""
country: Final = _each(_parse_country)
"""Two letters, which become upper case. Whether there is such a country is for others to know."""
decimal: Final = _each(_parse_decimal)
"""A Decimal of at most 12 digits before the point and 4 after it, not negative."""
categories: Final = _or_empty(_each(_parse_categories))
"""Paths of names, from the top: `Clothing > Shirts | Sale` is [["Clothing", "Shirts"], ["Sale"]]."""
urls: Final = _or_empty(_each(_parse_urls))
"""Addresses of http and https, each once."""
lines: Final = _or_empty(_each(_parse_lines))
"""What is ordered: `SKU x 2 | SKU2` is [{"sku": "SKU", "quantity": 2}, {"sku": "SKU2", "quantity": 1}]."""
