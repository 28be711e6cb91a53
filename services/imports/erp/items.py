"""Items of an ERP, laid out so that they go through the same checks as the rows of a file.

An item of samples has the fields of the kind `samples` (`title`, `sku`, `unit_cost`, …), each a text, a number, a list
of texts or null; other names are passed over, since an ERP knows more of a product than we want to. What an item does
not name stays as it is; therefore items are checked in groups that name the same fields. Each must have a title.

An item of stock is `{"sku": …, "stock": …}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from services.imports.reading.kinds import KINDS, normalize_key
from services.imports.reading.layout import Laid, lay_out
from services.imports.reading.table import Batch

__all__ = ["Bad", "Levels", "name_of", "read_samples", "read_stock"]

_KIND: Final = KINDS["samples"]
_FIELDS: Final = tuple(each.name for each in _KIND.fields)
_MOST_STOCK: Final = 1_000_000_000
_LONGEST_NUMBER: Final = 40


@dataclass(frozen=True, slots=True)
class Bad:
    """An item that cannot be applied: its place in the page, what it is known by, what is wrong with it."""

    place: int
    name: str | None
    message: str


@dataclass(slots=True)
class Levels:
    """Pieces at hand by the key of a SKU, with the place of the item that said so last."""

    by_key: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    """{key: (stock, place, the SKU as it was written)}"""


class _Level(BaseModel):
    sku: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    stock: Annotated[int, Field(strict=True, ge=0, le=_MOST_STOCK)]


def name_of(item: Any) -> str | None:
    """Return what an item is known by, for the log: its SKU, else its title."""
    if isinstance(item, dict):
        for key in ("sku", "title"):
            if isinstance(item.get(key), str) and item[key].strip():
                return str(item[key]).strip()[:200]
    return None


def read_samples(items: Sequence[Any], bad: list[Bad]) -> Iterator[Laid]:
    """Yield the good items, in groups of the same fields; their rows are their places in the page."""
    groups: dict[tuple[str, ...], list[tuple[int, list[str]]]] = {}
    for place, item in enumerate(items):
        if not isinstance(item, dict):
            bad.append(Bad(place, None, "This is no item: a list of fields with their values is expected."))
            continue
        fields = tuple(name for name in _FIELDS if name == "title" or name in item)
        try:
            cells = [_cell(name, item.get(name)) for name in fields]
        except ValueError as error:
            bad.append(Bad(place, name_of(item), str(error)))
            continue
        groups.setdefault(fields, []).append((place, cells))
    for fields, rows in groups.items():
        mapping = {name: index for index, name in enumerate(fields)}
        laid = lay_out(_KIND, mapping, fields, Batch(0, [cells for _, cells in rows]))
        places = [place for place, _ in rows]
        for failure in laid.failures:
            place = places[failure.row]
            said = " ".join(f"{issue['column'] or 'item'}: {issue['message']}" for issue in failure.issues)
            bad.append(Bad(place, name_of(items[place]), said))
        laid.numbers = [places[row] for row in laid.numbers]
        laid.images = {places[row]: urls for row, urls in laid.images.items()}
        yield laid


def read_stock(items: Sequence[Any], bad: list[Bad]) -> Levels:
    """Return what the items say; of one SKU that is named twice the last one counts."""
    levels = Levels()
    for place, item in enumerate(items):
        try:
            level = _Level.model_validate(item)
        except ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'item'}: {one['msg']}" for one in error.errors())
            bad.append(Bad(place, name_of(item), said))
            continue
        if not _is_text(level.sku):
            bad.append(Bad(place, None, "sku: There is a character in it that no text may hold."))
            continue
        key = normalize_key(level.sku)
        levels.by_key[key] = (level.stock, place, level.sku)
    return levels


def _cell(name: str, value: Any) -> str:
    """Return a value as a file would have it. Raises ValueError with a sentence."""
    if value is None:
        return ""
    if isinstance(value, list) and _KIND.field(name).many and all(isinstance(each, str) for each in value):
        text = " | ".join(value)
    elif isinstance(value, str):
        text = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        text = _number(name, value)
    else:
        raise ValueError(f"{name}: A text, a number or nothing is expected here.")
    if not _is_text(text):
        raise ValueError(f"{name}: There is a character in it that no text may hold.")
    return text


def _number(name: str, value: float) -> str:
    try:
        text = format(value, "d") if isinstance(value, int) else format(value, ".4f").rstrip("0").rstrip(".")
    except ValueError:  # an integer of thousands of digits
        text = ""
    if not text or len(text) > _LONGEST_NUMBER:
        raise ValueError(f"{name}: This number has too many digits.")
    return text


def _is_text(text: str) -> bool:
    """Whether the database can hold it: no NUL, no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text
