"""Files for the tests: written by a writer of their own, read with streams as uneven as a network."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from unittest.mock import patch

from hypothesis import strategies as st

from services.imports.reading import table
from services.imports.reading.detect import DELIMITERS, ENCODINGS, Dialect
from services.imports.reading.table import Limits, batches, stream_of

DATA = Path(__file__).parents[3] / "data"

COMMA = Dialect("utf-8", ",")
PLENTY = Limits(rows=100_000, columns=100, field=10_000)

LINE_ENDS = ("\n", "\r\n", "\r")


def line(cells: Sequence[str], delimiter: str, *, quote_all: bool = False) -> str:
    """One record, without its end. Cells are quoted where RFC 4180 asks for it."""
    special = (delimiter, '"', "\r", "\n")
    return delimiter.join(
        '"' + cell.replace('"', '""') + '"' if quote_all or any(mark in cell for mark in special) else cell
        for cell in cells
    )


def written(rows: Sequence[Sequence[str]], dialect: Dialect, *, end: str = "\r\n", quote_all: bool = False) -> bytes:
    """A file of these rows."""
    text = "".join(line(row, dialect.delimiter, quote_all=quote_all) + end for row in rows)
    return text.encode(dialect.encoding)


@contextmanager
def pieces(size: int) -> Iterator[None]:
    """Let the reader take that many bytes at a time, so that every seam between two pieces is tried."""
    with patch.object(table, "_CHUNK", size):
        yield


def read(data: bytes, dialect: Dialect = COMMA, *, size: int = 1000, skip: int = 0) -> list[list[str]]:
    """All rows of data."""
    return [row for batch in batches(io.BytesIO(data), dialect, size=size, skip=skip) for row in batch.rows]


def chunked(data: bytes, size: int) -> table.Readable:
    return stream_of(data[start : start + size] for start in range(0, len(data), size))


ends = st.sampled_from(LINE_ENDS)
dialects = st.builds(Dialect, st.sampled_from(ENCODINGS), st.sampled_from(DELIMITERS))


def cells(encoding: str = "utf-8") -> st.SearchStrategy[str]:
    """What a cell may hold in that encoding: much of what readers trip over, and anything else but NUL."""
    codec = "cp1252" if encoding == "cp1252" else "utf-8"
    anything = st.characters(codec=codec, exclude_characters="\0")
    return st.text(st.sampled_from('"",;\t|\n\r \'\\\x0b\x1cx') | anything, max_size=6)


def headers(encoding: str = "utf-8") -> st.SearchStrategy[list[str]]:
    """A header with a name in it. The mark that may begin a file begins none of its names."""
    names = cells(encoding).filter(lambda name: not name.startswith("\ufeff"))
    return st.lists(names, min_size=1, max_size=4).filter(lambda row: any(map(str.strip, row)))


def rows(encoding: str = "utf-8") -> st.SearchStrategy[list[list[str]]]:
    """Rows of any lengths, each with something in it."""
    return st.lists(st.lists(cells(encoding), min_size=1, max_size=4).filter(any), max_size=8)


@st.composite
def files(draw: st.DrawFn) -> tuple[Dialect, list[str], list[list[str]], bytes]:
    """A dialect, a header, rows, and the file that they make."""
    dialect = draw(dialects)
    header = draw(headers(dialect.encoding))
    body = draw(rows(dialect.encoding))
    # Not all lines end alike, and some that are blank follow.
    blank = ["", "", "", "\n", "\r\n", dialect.delimiter + "\n"]
    style = draw(st.lists(st.tuples(st.booleans(), ends, st.sampled_from(blank)), min_size=1, max_size=3))
    text = "".join(
        line(row, dialect.delimiter, quote_all=quote_all) + end + after
        for row, (quote_all, end, after) in zip([header, *body], cycle(style), strict=False)
    )
    if draw(st.booleans()):
        # The last line need not end.
        text = text.removesuffix("\n").removesuffix("\r")
    return dialect, header, body, text.encode(dialect.encoding)
