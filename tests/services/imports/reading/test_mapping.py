"""Which column is which field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.imports.reading.export import REASON
from services.imports.reading.kinds import CUSTOM, KINDS, Kind
from services.imports.reading.mapping import check_mapping, propose

SAMPLES = KINDS["samples"]

_KNOWN = sorted({name for kind in KINDS.values() for field in kind.fields for name in (*field.headers, field.label)})
kinds = st.sampled_from(sorted(KINDS.values(), key=lambda kind: kind.name))
headers = st.lists(st.sampled_from([*_KNOWN, "Ttle", "", REASON]).map(str.title) | st.text(max_size=8), max_size=12)


@given(kinds, headers)
def test_a_proposal_can_be_used_once_its_required_columns_are_there(kind: Kind, header: list[str]) -> None:
    mapping = propose(kind, header)
    problems = check_mapping(kind, header, mapping)
    assert {problem.code for problem in problems} <= {"field_required"}
    assert {problem.field for problem in problems} == {f.name for f in kind.fields if f.required} - set(mapping)
    assert all(header[column].casefold() != REASON.casefold() for column in mapping.values())


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
@pytest.mark.parametrize("spelling", [str, str.upper, lambda name: name.replace(" ", "_"), lambda name: f"  {name} "])
def test_every_recognized_header_is_recognized(kind: Kind, spelling: Any) -> None:
    for field in kind.fields:
        for name in (*field.headers, field.name):
            assert name == name.lower()
            assert propose(kind, ["???", spelling(name)]).get(field.name) == 1, name


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_no_header_means_two_fields(kind: Kind) -> None:
    names = [name for field in kind.fields for name in {*field.headers, field.name}]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("kind", "header", "expected"),
    [
        ("samples", ["Title", "SKU", "Season"], {"title": 0, "sku": 1}),
        ("samples", ["Name", "Title"], {"title": 1}),  # the surer one, wherever it is
        ("samples", ["Title", "Title"], {"title": 0}),
        ("samples", ["PRODUCT_NAME", "image-url", "Unit  cost (?)"], {"title": 0, "image_url": 1, "unit_cost": 2}),
        ("samples", ["Tïtle", "T I T L E"], {"title": 0}),
        ("samples", ["Unit_Cost", "Price"], {"unit_cost": 1}),  # as it is written goes before what resembles it
        ("samples", ["Image 2", "Reason"], {}),
        ("customers", ["E-Mail", "First Name", "Address 1", "Post Code"],
         {"email": 0, "first_name": 1, "street1": 2, "zip": 3}),
        ("customers", ["Name", "Title"], {}),
        ("members", ["Email Address", "User Role"], {"email": 0, "role": 1}),
        ("orders", ["Order", "Name", "Street", "Country", "Items"],
         {"number": 0, "recipient_name": 1, "street1": 2, "country": 3, "lines": 4}),
    ],
)  # fmt: skip
def test_proposals(kind: str, header: list[str], expected: dict[str, int]) -> None:
    assert propose(KINDS[kind], header) == expected


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"title": 0}, []),
        ({"title": 0, "sku": 1, f"{CUSTOM}Season": 2}, []),
        ({"title": 0, f"{CUSTOM}title": 2}, []),
        ({"title": 0, f"{CUSTOM}{'x' * 100}": 2}, []),
        ({}, [("field_required", "title")]),
        ({"title": 3}, [("column_out_of_range", "title")]),
        ({"title": -1}, [("column_out_of_range", "title")]),
        ({"title": True}, [("column_out_of_range", "title")]),
        ({"title": "0"}, [("column_out_of_range", "title")]),
        ({"title": 0, "colour": 1}, [("field_unknown", "colour")]),
        ({"title": 0, "sku": 0}, [("column_used_twice", "sku")]),
        ({"title": 0, CUSTOM: 1}, [("custom_name_empty", CUSTOM)]),
        ({"title": 0, f"{CUSTOM}  ": 1}, [("custom_name_empty", f"{CUSTOM}  ")]),
        ({"title": 0, f"{CUSTOM}{'x' * 101}": 1}, [("custom_name_too_long", f"{CUSTOM}{'x' * 101}")]),
        ({"title": 0, f"{CUSTOM}a\0": 1}, [("custom_name_invalid", f"{CUSTOM}a\0")]),
        ({"title": 0, f"{CUSTOM}a\ud800": 1}, [("custom_name_invalid", f"{CUSTOM}a\ud800")]),
        ({"title": 0, f"{CUSTOM}Season": 1, f"{CUSTOM} SEASON": 2}, [("custom_name_duplicate", f"{CUSTOM} SEASON")]),
        (
            {"sku": 0, "no": 1, f"{CUSTOM}": 0},
            [("field_unknown", "no"), ("custom_name_empty", CUSTOM), ("column_used_twice", CUSTOM),
             ("field_required", "title")],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_mapping(mapping: dict[str, int], expected: list[tuple[str, str]]) -> None:
    problems = check_mapping(SAMPLES, ["Title", "SKU", ""], mapping)
    assert [(problem.code, problem.field) for problem in problems] == expected
    assert all(problem.detail.endswith(".") and "{" not in problem.detail for problem in problems)


def test_custom_fields_are_for_samples() -> None:
    problems = check_mapping(KINDS["customers"], ["E-mail", "Size"], {"email": 0, f"{CUSTOM}Size": 1})
    assert [problem.code for problem in problems] == ["custom_not_allowed"]
