"""How a file is written, told by its first bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.imports.reading.detect import DELIMITERS, ENCODINGS, Dialect, detect
from tests.services.imports.reading.files import dialects, ends, written


@given(st.binary() | st.binary().map(b"\xff\xfe".__add__) | st.text('a"\0,;\n').map(str.encode), st.booleans())
@example(b"\xff", True)
@example(b"\xff\xfe", True)
@example(b"\xfe\xff\x00", False)
@example(b"\xef\xbb\xbf", True)
@example(b'a;"' + b"x" * 200_000 + b'";c', True)
def test_any_bytes_get_one_answer(head: bytes, whole: bool) -> None:
    found = detect(head, whole=whole)
    assert found.encoding in ENCODINGS
    assert found.delimiter in DELIMITERS
    assert detect(head, whole=whole) == found


@pytest.mark.parametrize("encoding", ["utf8", "UTF-8", "latin-1", "utf-32", ""])
def test_only_encodings_that_we_know(encoding: str) -> None:
    with pytest.raises(ValueError, match="encoding"):
        Dialect(encoding, ",")


@pytest.mark.parametrize("delimiter", ["", ",,", ":", " "])
def test_only_delimiters_that_we_know(delimiter: str) -> None:
    with pytest.raises(ValueError, match="delimiter"):
        Dialect("utf-8", delimiter)


_LATIN = ("Title", "Größe", "Prix €", "Mug, blue", "12,50", 'He said "no"', "two\nlines", "a; b", "")
_CHINESE = ("名称", "价格", "一", "上海", "描述:这是一个很好的产品,每个人都喜欢", "蓝色", "12,50", "")


@given(
    dialects,
    st.sampled_from([_LATIN, _CHINESE]),
    st.integers(2, 5),
    st.integers(1, 60),
    ends,
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_a_table_is_known(dialect, words, width, height, end, quote_all, chance) -> None:  # type: ignore[no-untyped-def]
    if dialect.encoding == "cp1252":
        words = _LATIN
    header = [words[0], *chance.choices(words[1:3], k=width - 1)]
    # What tells Windows-1252 from UTF-8 has to be in it.
    rows = [["Größe" if words is _LATIN else "名称", *chance.choices(words, k=width - 1)] for _ in range(height)]
    data = written([header, *rows], dialect, end=end, quote_all=quote_all)
    assert detect(data, whole=True) == dialect
    # Its beginning says the same, wherever it ends, once two lines of it are there.
    start = len(written([header, rows[0]], dialect, end=end, quote_all=quote_all))
    cut = chance.randint(start, len(data))
    assert detect(data[:cut], whole=False) == dialect


@pytest.mark.parametrize("text", ["ü", "€", "名", "😀"])
def test_a_character_that_is_cut_off_does_not_tell_against_utf_8(text: str) -> None:
    for cut in range(1, len(text.encode())):
        head = b"Title,SKU\n" + text.encode()[:cut]
        assert detect(head, whole=False).encoding == "utf-8"
        assert detect(head, whole=True).encoding == "cp1252"


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        (b"", "utf-8"),
        (b"Title,SKU\n", "utf-8"),
        (b"\xef\xbb\xbfTitle", "utf-8-sig"),
        (b"\xff\xfeT\0", "utf-16"),
        (b"\xfe\xff\0T", "utf-16"),
        (b"T\0,\0S\0", "utf-16-le"),
        (b"\0T\0,\0S", "utf-16-be"),
        (b"Gr\xf6\xdfe,\x80\n", "cp1252"),
        (b"a,\x81\x8d\x8f\x90\x9d\n", "cp1252"),  # without a meaning there; the reader says where
        (b"Title,SKU\nMug\0,M1\nCup,M2\nPot,M3\nPan,M4\nJar,M5\n", "utf-8"),  # broken, and not UTF-16 for that
        (b"\0" * 100, "utf-8"),
    ],
)
def test_encodings(head: bytes, encoding: str) -> None:
    assert detect(head, whole=True).encoding == encoding


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("", ","),
        ("Title", ","),
        ("Title\nMug\nCup", ","),
        ("a;b", ";"),
        ("a\tb", "\t"),
        ("a|b", "|"),
        # Decimals and texts with commas in a file of semicolons.
        ("Title;Cost\nMug;1,50\nCup;2,50\nPot;3,50", ";"),
        ("Title;Text\nMug;a, b, c\nCup;d, e, f", ";"),
        # Values separated by pipes in a file of commas.
        ("Title,Categories\nMug,A|B\nCup,C|D", ","),
        # Quoted delimiters are none.
        ('Title,"a;b;c;d;e"\nMug,"1;2;3;4;5"', ","),
        ('"a;b";"c,d,e"\n"1;2";"3,4,5"', ";"),
        ('"a\n,;,;";b\n"c";d', ";"),
        # A comma in each name is followed by a space.
        ("Last, first;Mail\nDoe, Jane;j@example.com\nPoe, Joe;p@example.com", ";"),
        ("Title, SKU\nMug, M1", ","),
        # Ragged, and blank lines.
        ("a;b;c\n\n1;2\n\n1;2;3;4\n1,5;2;3", ";"),
        ("\n\n;;\na;b,c\n", ";"),
        # A quote that stands for inches.
        ('Title;Size\nScreen;24"\nScreen;27", wide', ";"),
        # Lines that end with CR alone.
        ("a;b\r1;2,3\r", ";"),
    ],
)
def test_delimiters(text: str, delimiter: str) -> None:
    assert detect(text.encode(), whole=True).delimiter == delimiter


def test_what_is_cut_off_at_the_end_is_not_judged() -> None:
    assert detect(b"a,b;c\n1,2;3\n4,5;6,6,6", whole=False) == detect(b"a,b;c\n1,2;3\n", whole=True)
