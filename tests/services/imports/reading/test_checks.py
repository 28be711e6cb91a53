"""Checks of cells: what the good ones mean, and what is said of the others."""

from __future__ import annotations

import time
import unicodedata
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.imports.reading import checks
from services.imports.reading.kinds import KINDS, normalize_key

_ALL = {field.name: field for kind in KINDS.values() for field in kind.fields if field.check is not None}


def _one(check: checks.Check, cell: str) -> Any:
    """The value of a good cell, or the code of what is wrong with it."""
    values, bad = check([cell])
    assert len(values) == 1
    if not bad:
        return values[0]
    assert [index for index, _, _ in bad] == [0]
    return bad[0][1]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1", Decimal(1)),
        ("1234.50", Decimal("1234.50")),
        ("0", Decimal(0)),
        (".5", Decimal("0.5")),
        ("007", Decimal(7)),
        ("999999999999.9999", Decimal("999999999999.9999")),
        ("000000000000000001.00000", Decimal(1)),
        ("", None),
        ("1,234.50", "number_comma"),
        ("1.234,50", "number_comma"),
        ("1,5", "number_comma"),
        ("$3", "number_currency"),
        ("3 €", "number_currency"),
        ("USD 3.50", "number_currency"),
        ("3kr", "number_currency"),
        ("$-3", "number_currency"),
        ("-3", "number_negative"),
        ("−3", "number_negative"),
        ("-0.5", "number_negative"),
        ("1e5", "number_invalid"),
        ("NaN", "number_invalid"),
        ("Infinity", "number_invalid"),
        ("1_000", "number_invalid"),
        ("1 000", "number_invalid"),
        ("5.", "number_invalid"),
        (".", "number_invalid"),
        ("۵", "number_invalid"),
        ("²", "number_invalid"),
        ("=1+1", "number_invalid"),
        ("1000000000000", "number_too_large"),
        ("1.23456", "number_too_fine"),
    ],
)
def test_numbers(cell: str, expected: Any) -> None:
    assert _one(checks.decimal, cell) == expected


@given(st.decimals(min_value=0, max_value=10**12 - 1, places=4))
def test_every_number_of_the_column_is_read(number: Decimal) -> None:
    assert _one(checks.decimal, f"{number:f}") == number


@pytest.mark.parametrize(
    "cell",
    ["a@b.de", "first.last+tag@sub.example.com", "o'brien@example.co.uk", "müller@bücher.example", "用户@例子.广告",
     "a@xn--bcher-kva.example", "x_-%!#$&*/=?^`{}~@example.com", f"{'a' * 64}@example.com"],
)  # fmt: skip
def test_addresses(cell: str) -> None:
    assert _one(checks.email, cell) == cell


@pytest.mark.parametrize(
    "cell",
    ["abc", "abc@", "@b.de", "a@b", "a@@b.de", "a@b..de", "a@.de", ".a@b.de", "a.@b.de", "a..b@c.de", "a b@c.de",
     "a@b c.de", "a@-b.de", "a@b-.de", "a@b.de.", "a@1.2.3.4", "a,b@c.de", "<a@b.de>", "A <a@b.de>", "a@b.de;c@d.de",
     "a\n@b.de", "a@b.de\n", "a\x01@b.de", f"{'a' * 65}@example.com", f"a@{'b' * 64}.de", "mailto:a@b.de"],
)  # fmt: skip
def test_what_is_no_address(cell: str) -> None:
    assert _one(checks.email, cell) == "email_invalid"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("US", "US"), ("de", "DE"), ("", None), ("USA", "country_invalid"), ("U1", "country_invalid"),
     ("ÄÖ", "country_invalid"), ("ı", "country_invalid"), ("ß", "country_invalid")],
)  # fmt: skip
def test_countries(cell: str, expected: Any) -> None:
    assert _one(checks.country, cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("manager", "manager"), ("SALES", "sales"), ("Fulfillment", "fulfillment"), ("", None),
     ("Owner", "role_owner"), ("admin", "choice_unknown")],
)  # fmt: skip
def test_roles(cell: str, expected: Any) -> None:
    check = KINDS["members"].field("role").check
    assert check is not None
    assert _one(check, cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("", []),
        ("Shirts", [["Shirts"]]),
        ("Clothing > Shirts | Sale", [["Clothing", "Shirts"], ["Sale"]]),
        ("A>B>C|A", [["A", "B", "C"], ["A"]]),
        ("|A||B|", [["A"], ["B"]]),
        ("A | a |  A ", [["A"]]),
        ("Blue   mugs", [["Blue mugs"]]),
        ("A, B; C", [["A, B; C"]]),
        ("A >", "category_level_empty"),
        ("> A", "category_level_empty"),
        ("A > > B", "category_level_empty"),
        (">", "category_level_empty"),
        ("x" * 100, [["x" * 100]]),
        ("A > " + "x" * 101, "too_long"),
        (">".join("abcdefghij"), [list("abcdefghij")]),
        (">".join("abcdefghijk"), "category_too_deep"),
        ("|".join(map(str, range(50))), [[str(n)] for n in range(50)]),
        ("|".join(map(str, range(51))), "too_many"),
    ],
)
def test_categories(cell: str, expected: Any) -> None:
    assert _one(checks.categories, cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("", []),
        ("https://x.example/a.png", ["https://x.example/a.png"]),
        ("HTTP://x.example", ["HTTP://x.example"]),
        (
            "https://x.example/a|https://x.example/b | https://x.example/a",
            ["https://x.example/a", "https://x.example/b"],
        ),
        ("https://x.example/ü?q=1#f", ["https://x.example/ü?q=1#f"]),
        ("https://x.example/" + "a" * 1982, ["https://x.example/" + "a" * 1982]),
        ("https://x.example/" + "a" * 1983, "too_long"),
        ("ftp://x.example/a", "url_invalid"),
        ("//x.example/a", "url_invalid"),
        ("x.example/a.png", "url_invalid"),
        ("https://", "url_invalid"),
        ("https:///a", "url_invalid"),
        ("https://x.example/a b", "url_invalid"),
        ("https://x.example/a\nhttps://x.example/b", "url_invalid"),
        ("javascript:alert(1)//https://x", "url_invalid"),
        ("https://ok.example/a|nonsense", "url_invalid"),
    ],
)
def test_urls(cell: str, expected: Any) -> None:
    assert _one(checks.urls, cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("A", [("A", 1)]),
        ("A x 2 | B", [("A", 2), ("B", 1)]),
        ("A X2|B × 3|C * 4|", [("A", 2), ("B", 3), ("C", 4)]),
        ("M8 x 40 screws x 3", [("M8 x 40 screws", 3)]),
        ("BOX-2x4", [("BOX-2x4", 1)]),
        ("A x 100000", [("A", 100_000)]),
        ("s" * 100 + " x 2", [("s" * 100, 2)]),
        ("A x 0", "line_quantity_invalid"),
        ("A x 100001", "line_quantity_invalid"),
        ("A x 99999999999999999999", "line_quantity_invalid"),
        ("A x -1", "line_quantity_invalid"),
        ("A x 1.5", "line_quantity_invalid"),
        ("A x two", "line_quantity_invalid"),
        ("A x ٣", "line_quantity_invalid"),
        ("A x 2 pieces", "line_quantity_invalid"),
        ("x 2", "line_sku_missing"),
        ("|", "line_sku_missing"),
        ("s" * 101, "too_long"),
        ("s" * 300 + " x 2", "too_long"),
        ("|".join("A" * 51), "too_many"),
    ],
)
def test_lines(cell: str, expected: Any) -> None:
    found = _one(checks.lines, cell)
    assert (found if isinstance(found, str) else [(line["sku"], line["quantity"]) for line in found]) == expected


@pytest.mark.parametrize("name", sorted(_ALL))
@given(st.lists(st.sampled_from(["", "a", "A > B", "a@b.de", "DE", "1.5", "1,5", "owner", "sales", "draft", "x 2"])))
def test_a_column_is_its_cells_one_by_one(name: str, column: list[str]) -> None:
    check = _ALL[name].check
    assert check is not None
    values, bad = check(column)
    wrong = {index: code for index, code, _ in bad}
    assert len(values) == len(column)
    assert [wrong.get(index, value) for index, value in enumerate(values)] == [_one(check, cell) for cell in column]


@pytest.mark.parametrize("name", sorted(_ALL))
@given(cell=st.text() | st.text("x .,|>@*2\n-"))
def test_no_cell_breaks_a_check(name: str, cell: str) -> None:
    check = _ALL[name].check
    assert check is not None
    check([cell.strip()])


@pytest.mark.parametrize("name", sorted(_ALL))
@pytest.mark.parametrize(
    "part", ["a", "a.", "a@", "a@a.", " x ", "x", " ", "1", "1,", "-1", "> ", "http://a", "a-", "|a "]
)
def test_no_cell_takes_long(name: str, part: str) -> None:
    field = _ALL[name]
    assert field.check is not None
    cell = (part * field.longest)[: field.longest].strip()
    started = time.process_time()
    field.check([cell, f"{cell}!"])
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Blue Mug", "  blue \t MUG\n"),
        ("Straße", "STRASSE"),
        ("Café", "Cafe\u0301"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("Å", "\u212b"),
        ("a\u00a0b", "A B"),
        ("\u1e69", "s\u0307\u0323"),
        ("ᾳ", "α\u0345"),
    ],
)
def test_keys_that_are_one(one: str, other: str) -> None:
    assert normalize_key(one) == normalize_key(other)


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("ab", "a b"), ("Café", "Cafe"), ("A1", "A١"), ("M-1", "M1")])
def test_keys_that_are_two(one: str, other: str) -> None:
    assert normalize_key(one) != normalize_key(other)


@given(st.text())
def test_a_key_is_its_own_key(text: str) -> None:
    key = normalize_key(text)
    assert normalize_key(key) == key
    assert unicodedata.is_normalized("NFC", key)
    assert normalize_key(unicodedata.normalize("NFD", text)) == key
    assert bool(key) == bool(text.strip())


@given(st.text(max_size=200))
def test_a_key_fits_into_an_index(text: str) -> None:
    assert len(normalize_key(text).encode("utf-8", "surrogatepass")) < 2600


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_keys_take_the_same_way(text: str) -> None:
    assert normalize_key(text) == unicodedata.normalize("NFC", " ".join(text.split()).casefold())
