"""Rows checked a column at a time: each is good or has failed, and what is said of it can be acted on."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.imports.reading.batch import Checked, Issue, check_batch
from services.imports.reading.export import REASON
from services.imports.reading.kinds import CUSTOM, KINDS, Kind, normalize_key
from services.imports.reading.table import Batch

HEADER = ["Title", "SKU", "Cost", "Category", "Picture", "Status", "Season", "Size"]
MAPPING = {
    "title": 0, "sku": 1, "unit_cost": 2, "category": 3, "image_url": 4, "status": 5,
    f"{CUSTOM}Season": 6, f"{CUSTOM} Size ": 7,
}  # fmt: skip


def check(*rows: list[str], mapping: dict[str, int] = MAPPING, header: list[str] = HEADER, first: int = 2) -> Checked:
    return check_batch(KINDS["samples"], mapping, header, Batch(first, list(rows)))


def issues(checked: Checked) -> list[tuple[int, str | None, str]]:
    return [(issue.row, issue.column, issue.code) for issue in checked.issues]


def test_good_rows_are_columns_of_values() -> None:
    checked = check(
        [" Blue  Mug ", "M-1", "12.50", "A > B|C", "https://x.example/a", "DRAFT", " Summer ", "L"],
        ["Straße", "", "", "", "", "", "", ""],
        first=40,
    )
    assert checked == Checked(
        numbers=[40, 41],
        values={
            "title": ["Blue  Mug", "Straße"],
            "sku": ["M-1", None],
            "unit_cost": [Decimal("12.50"), None],
            "category": [[["A", "B"], ["C"]], []],
            "image_url": [["https://x.example/a"], []],
            "status": ["draft", "active"],
        },
        custom={"Season": ["Summer", ""], "Size": ["L", ""]},
        keys={"title": ["blue mug", "strasse"], "sku": ["m-1", None]},
    )


def test_only_what_is_mapped_is_there() -> None:
    checked = check(["Mug", "M-1"], mapping={"title": 0})
    assert (checked.values, checked.keys, checked.custom) == ({"title": ["Mug"]}, {"title": ["mug"]}, None)


def test_an_empty_batch() -> None:
    checked = check()
    assert (checked.numbers, checked.values["title"], checked.issues) == ([], [], [])
    assert checked.custom == {"Season": [], "Size": []}


def test_everything_that_is_wrong_with_a_row_is_said_in_the_order_of_its_columns() -> None:
    checked = check(
        ["Mug", "", "", "", "", "", "", ""],
        ["", "s" * 101, "1,5", "A >", "ftp://x", "gone", "x" * 1001, ""],
        ["Cup", "", "$3", "", "", "", "", ""],
    )
    assert checked.numbers == [2]
    assert issues(checked) == [
        (3, "Title", "required"),
        (3, "SKU", "too_long"),
        (3, "Cost", "number_comma"),
        (3, "Category", "category_level_empty"),
        (3, "Picture", "url_invalid"),  # and no more than five
        (4, "Cost", "number_currency"),
    ]
    assert set(checked.failed) == {3, 4}
    assert checked.failed[4] == ["Cup", "", "$3", "", "", "", "", ""]


def test_custom_values_have_a_limit() -> None:
    row = ["Mug", "", "", "", "", "", "x" * 1000, "x" * 1001]
    assert issues(check(row)) == [(2, "Size", "too_long")]


def test_white_space_is_nothing() -> None:
    assert issues(check([" \t\n\u00a0", "", "", "", "", "", "", ""])) == [(2, "Title", "required")]


def test_short_rows_are_filled_up() -> None:
    checked = check(["Mug"], ["Cup", "C-1"], ["Pot", "P-1", "1", "", "", "", "", "S"])
    assert checked.values["sku"] == [None, "C-1", "P-1"]
    assert checked.custom == {"Season": ["", "", ""], "Size": ["", "", "S"]}
    assert not checked.issues


def test_long_rows_fail_where_something_is_in_their_surplus() -> None:
    good = ["Mug", "", "", "", "", "", "", ""]
    checked = check([*good, "", ""], [*good, "", "x"], ["", *good[1:], "x"])
    assert checked.numbers == [2]
    # Its cells are not where they should be, so that nothing else is said of it.
    assert issues(checked) == [(3, None, "row_too_long"), (4, None, "row_too_long")]
    assert checked.failed[3] == [*good, "", "x"]
    assert checked.issues[0].message.startswith("The row has more cells (10) than the header has columns (8);")


def test_messages_name_the_value_and_say_what_to_do() -> None:
    checked = check_batch(
        KINDS["customers"], {"email": 0}, ["Mail"], Batch(7, [["abc@"], ["x" * 100 + "@"], ["a\nb\x07{0}\u202e@"]])
    )
    assert checked.issues[0] == Issue(
        7, "Mail", "email_invalid", "“abc@” is no e-mail address; write it like name@example.com."
    )
    assert checked.issues[1].message.startswith("“" + "x" * 59 + "…” is no")
    assert checked.issues[2].message.startswith("“a b\ufffd{0}\ufffd@” is no")


def test_an_owner_is_not_imported() -> None:
    rows = [["a@b.de", "Owner"], ["c@d.de", "Manager"], ["e@f.de", ""]]
    checked = check_batch(KINDS["members"], {"email": 0, "role": 1}, ["Email", "Role"], Batch(2, rows))
    assert checked.values == {"email": ["c@d.de", "e@f.de"], "role": ["manager", None]}
    assert issues(checked) == [(2, "Role", "role_owner")]


def test_orders() -> None:
    header = ["No", "To", "Street", "Country", "Items"]
    mapping = {"number": 0, "recipient_name": 1, "street1": 2, "country": 3, "lines": 4}
    rows = [["#1", "Jane", "Main St 1", "us", "A x 2|B"], ["#2", "", "", "", ""], ["#3", "Joe", "X", "DE", "A x 0"]]
    checked = check_batch(KINDS["orders"], mapping, header, Batch(2, rows))
    assert checked.values["lines"] == [[{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 1}]]
    assert checked.values["country"] == ["US"]
    assert Counter(code for _, _, code in issues(checked)) == {"required": 4, "line_quantity_invalid": 1}


def test_a_mended_file_is_read_as_it_was_meant() -> None:
    header = [*HEADER, REASON]
    row = ["'=Mug", "'-M", "", "", "", "", "''+x", "'plain", "“x” is no number."]
    checked = check(row, row[:2], ["", *row[1:]], header=header)
    assert checked.values["title"] == ["=Mug", "=Mug"]
    assert checked.values["sku"] == ["-M", "-M"]
    assert checked.keys["title"] == ["=mug", "=mug"]
    assert checked.custom == {"Season": ["'+x", ""], "Size": ["'plain", ""]}
    # Failed again, a row is kept as it is in the file, and restored when it is written anew.
    assert checked.failed == {4: ["", *row[1:]]}
    # Of another file an apostrophe is its own.
    assert check(row[:8]).values["title"] == ["'=Mug"]


_CELLS = {
    "title": ["", " ", "Mug", "x" * 200, "x" * 201],
    "sku": ["", "M", "x" * 101],
    "unit_cost": ["", "1", "1,5", "x"],
    "status": ["", "draft", "gone"],
    "category": ["", "A>B", ">"],
    f"{CUSTOM}Season": ["", "S", "x" * 1001],
}


@given(st.data(), st.integers(2, 10**6))
def test_each_row_is_good_or_failed(data: st.DataObject, first: int) -> None:
    names = data.draw(st.permutations(sorted(_CELLS)))
    header = [f"{name}!" for name in names]
    mapping = {name: column for column, name in enumerate(names) if name == "title" or data.draw(st.booleans())}
    row = st.tuples(*[st.sampled_from(_CELLS[name]) for name in names]).map(list)
    row = row | st.tuples(row, st.lists(st.sampled_from(["", "x"]), max_size=2)).map(lambda both: both[0] + both[1])
    row = row | st.tuples(row, st.integers(0, 5)).map(lambda both: both[0][: both[1]])
    rows = data.draw(st.lists(row, max_size=8))
    kind = KINDS["samples"]
    checked = check_batch(kind, mapping, header, Batch(first, rows))
    numbers = range(first, first + len(rows))
    assert sorted([*checked.numbers, *checked.failed]) == list(numbers)
    assert checked.numbers == sorted(checked.numbers)
    assert {issue.row for issue in checked.issues} == set(checked.failed)
    assert max(Counter(issue.row for issue in checked.issues).values(), default=0) <= 5
    assert checked.failed == {number: rows[number - first] for number in checked.failed}
    assert set(checked.values) == {name for name in mapping if not name.startswith(CUSTOM)}
    for column in (*checked.values.values(), *checked.keys.values(), *(checked.custom or {}).values()):
        assert len(column) == len(checked.numbers)
    # A batch is the same as its rows one by one.
    for number in numbers:
        alone = check_batch(kind, mapping, header, Batch(number, [rows[number - first]]))
        assert alone.issues == [issue for issue in checked.issues if issue.row == number]
        if number in checked.numbers:
            place = checked.numbers.index(number)
            assert alone.values == {name: [column[place]] for name, column in checked.values.items()}
            assert alone.keys == {name: [column[place]] for name, column in checked.keys.items()}
            if checked.custom is not None:
                assert alone.custom == {name: [column[place]] for name, column in checked.custom.items()}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_declarations_hold_together(kind: Kind) -> None:
    names = [field.name for field in kind.fields]
    assert len(set(names)) == len(names)
    for key in kind.keys:
        assert key
        assert set(key) <= set(names)
    # What a record is known by is there in each of them.
    assert any(all(kind.field(name).required for name in key) for key in kind.keys)
    with pytest.raises(KeyError):
        kind.field("nothing")


@given(st.text(min_size=1, max_size=200))
def test_keys_are_of_the_values(title: str) -> None:
    checked = check_batch(KINDS["samples"], {"title": 0}, ["Title"], Batch(2, [[title]]))
    expected: list[Any] = [normalize_key(title)] if title.strip() else []
    assert checked.keys["title"] == expected
