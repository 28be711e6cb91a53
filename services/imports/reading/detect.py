"""How a file is written: its encoding and its delimiter, judged by its first bytes.

    detect(b"Title;SKU\r\nMug;M-1\r\n", whole=True)      # Dialect("utf-8", ";")

Any bytes get an answer, and the same bytes always the same one. It is a proposal: people see it and can correct it.

A byte order mark decides. Without one, zero bytes and separators in pairs mean UTF-16; then what decodes as UTF-8 is
UTF-8, since other text hardly ever does so by chance. The rest is called Windows-1252, which most spreadsheets of the
West write. Its five bytes without a meaning (81, 8D, 8F, 90, 9D) do not change the answer; whoever reads the file is
told where the first of them is, for they show that it was written in something else.
"""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass
from itertools import islice
from typing import Final

__all__ = ["DELIMITERS", "ENCODINGS", "Dialect", "detect"]

ENCODINGS: Final = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252")
"""`utf-8-sig` and `utf-16` begin with a byte order mark; the other two of UTF-16 need none."""

DELIMITERS: Final = (",", ";", "\t", "|")

_RECORDS: Final = 50
"""So many records are looked at for the delimiter,"""
_CHARS: Final = 1 << 16
"""of so much text."""
_ZEROS: Final = {True: 0.2, False: 0.01}
"""Where at least this part of all pairs has a zero on the one side, the text may be UTF-16. It is much where the text
reads as UTF-8, too, which may just have a stray zero, and little where it does not: of Asian scripts only separators
and digits have one."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is to be read. Raises ValueError for what we cannot read."""

    encoding: str
    delimiter: str

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(f"no encoding of ours: {self.encoding!r}")
        if self.delimiter not in DELIMITERS:
            raise ValueError(f"no delimiter of ours: {self.delimiter!r}")


def detect(head: bytes, *, whole: bool) -> Dialect:
    """Tell how a file is written. `whole` says that `head` is all of it, so that nothing is cut off at its end."""
    encoding = _encoding(head, whole)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(_marked(head, encoding), final=False)
    if whole and len(text) <= _CHARS:
        return Dialect(encoding, _delimiter(text))
    text = text[:_CHARS]
    # The last line may be cut off; an only line is better than none.
    end = max(text.rfind("\n"), text.rfind("\r")) + 1
    return Dialect(encoding, _delimiter(text[:end] if end else text))


def _marked(head: bytes, encoding: str) -> bytes:
    # Half a byte order mark is no text at all to the decoder, and it waits for more.
    return head if encoding != "utf-16" or len(head) > 2 else b""


def _encoding(head: bytes, whole: bool) -> str:
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    reads_as_utf_8 = _decoded(head, "utf-8", whole) is not None
    if b"\0" in head:
        pairs = len(head) // 2
        zeros = {
            "utf-16-le": head[1 : 2 * pairs : 2].count(0) / max(pairs, 1),
            "utf-16-be": head[: 2 * pairs : 2].count(0) / max(pairs, 1),
        }
        marks = {encoding: _marks(head, encoding, whole) for encoding in zeros}
        best, other = sorted(marks, key=marks.__getitem__, reverse=True)
        # Read the wrong way round, a comma is a letter of a dead script, and a line end is nothing at all.
        if marks[best] > 3 * marks[other] and zeros[best] >= _ZEROS[reads_as_utf_8]:
            return best
    return "utf-8" if reads_as_utf_8 else "cp1252"


def _marks(head: bytes, encoding: str, whole: bool) -> int:
    """Count what separates cells and lines; none, where it is no text in this encoding."""
    text = _decoded(head, encoding, whole)
    if text is None or "\0" in text:
        return 0
    return sum(map(text.count, (*DELIMITERS, "\n", "\r")))


def _decoded(head: bytes, encoding: str, whole: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(head, final=whole)
    except UnicodeDecodeError:
        return None


def _delimiter(text: str) -> str:
    """Return the delimiter that splits the first records most evenly.

    A delimiter that the header does not have is none, however often the rows do: decimals have commas. A record is
    no proof where a quoted cell is torn in it. Where two split equally well, the one that is not followed by spaces
    wins, as in `Last name, first name`; then the one with more columns.
    """
    return max(DELIMITERS, key=lambda delimiter: _score(text, delimiter))


def _score(text: str, delimiter: str) -> tuple[float, bool, int]:
    rows: list[list[str]] = []
    broken = 0
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows.extend(islice(filter(any, reader), _RECORDS))
    except csv.Error as error:
        # What came before counts. A cell that is open at the end may just be cut off.
        broken = "unexpected end" not in str(error)
    if not rows or len(rows[0]) < 2:
        return 0, False, 0
    width = len(rows[0])
    even = sum(len(row) == width and not any(cell.count('"') % 2 for cell in row) for row in rows)
    cells = [cell for row in rows for cell in row[1:]]
    spaced = sum(cell.startswith(" ") for cell in cells)
    return even / (len(rows) + broken), 2 * spaced < len(cells), width
