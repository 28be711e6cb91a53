"""Which column is which field: proposed by the header, and checked whoever chose it.

    propose(KINDS["samples"], ["Product Name", "SKU"])      # {"title": 0, "sku": 1}

A mapping names fields and gives the index of the column of each; `custom:Season` is the custom field Season.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from services.imports.reading.kinds import CUSTOM, CUSTOM_NAME_LONGEST, Kind, normalize_key
from services.imports.reading.texts import sentence

__all__ = ["ColumnMap", "MappingProblem", "check_mapping", "custom_name", "propose"]

ColumnMap = dict[str, int]


@dataclass(frozen=True, slots=True)
class MappingProblem:
    """What is wrong with a mapping; `detail` is the sentence for people."""

    code: str
    field: str
    detail: str


def propose(kind: Kind, header: Sequence[str]) -> ColumnMap:
    """Return the fields whose columns can be told by the header, each field and each column once.

    What a field is surely called goes before what only resembles it. Custom fields are not proposed: of a column that
    nobody asked for we do not know that it is wanted.
    """
    found: ColumnMap = {}
    taken: set[int] = set()
    for known, columns in ((str, [cell.strip().lower() for cell in header]), (_loose, [_loose(c) for c in header])):
        for field, name in _by_certainty(kind):
            wanted = known(name)
            if field not in found and wanted in columns:
                free = [index for index, column in enumerate(columns) if column == wanted and index not in taken]
                if free:
                    found[field] = free[0]
                    taken.add(free[0])
    return {field.name: found[field.name] for field in kind.fields if field.name in found}


def _by_certainty(kind: Kind) -> Iterator[tuple[str, str]]:
    """Give each field with a header of its own: the surest headers of all fields, then the second ones, and so on."""
    names = [[(field.name, name) for name in (*field.headers, field.name)] for field in kind.fields]
    deepest = max(map(len, names))
    return chain.from_iterable((each[place] for each in names if place < len(each)) for place in range(deepest))


def _loose(header: str) -> str:
    """Return letters and digits alone, without accents and case."""
    return "".join(char for char in unicodedata.normalize("NFKD", header).casefold() if char.isalnum())


def custom_name(field: str) -> str | None:
    """Return the name of a custom field, trimmed; None for another field."""
    return field.removeprefix(CUSTOM).strip() if field.startswith(CUSTOM) else None


def check_mapping(kind: Kind, header: Sequence[str], mapping: Mapping[str, int]) -> list[MappingProblem]:
    """Return everything that is wrong with a mapping: nothing, if it can be used for files with this header."""
    problems: list[MappingProblem] = []

    def wrong(code: str, field: str, /, **fields: object) -> None:
        problems.append(MappingProblem(code, field, sentence(code, **{"field": field, **fields})))

    known = {field.name for field in kind.fields}
    used: set[int] = set()
    names: set[str] = set()
    for field, column in mapping.items():
        name = custom_name(field)
        if name is None:
            if field not in known:
                wrong("field_unknown", field)
                continue
        elif not kind.custom:
            wrong("custom_not_allowed", field, field=name)
            continue
        else:
            if not name:
                wrong("custom_name_empty", field)
            elif len(name) > CUSTOM_NAME_LONGEST:
                wrong("custom_name_too_long", field, field=name, limit=CUSTOM_NAME_LONGEST)
            elif any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
                wrong("custom_name_invalid", field, field=name)
            elif (key := normalize_key(name)) in names:
                wrong("custom_name_duplicate", field, field=name)
            else:
                names.add(key)
        if type(column) is not int or not 0 <= column < len(header):
            wrong(
                "column_out_of_range", field, column=column + 1 if type(column) is int else column, columns=len(header)
            )
        elif column in used:
            wrong("column_used_twice", field, column=header[column] or str(column + 1))
        else:
            used.add(column)
    for required in kind.fields:
        if required.required and required.name not in mapping:
            wrong("field_required", required.name, field=required.label)
    return problems
