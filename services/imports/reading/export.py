"""CSV for people: no spreadsheet takes a cell of it for a formula, and what was done to that end can be undone.

    neutralize("=HYPERLINK(…)")      # "'=HYPERLINK(…)"
    restore("'=HYPERLINK(…)")        # "=HYPERLINK(…)"

Cells that begin with = + - @ (also as wide characters, or after white space) or with a tab or a line break get an
apostrophe in front (https://owasp.org/www-community/attacks/CSV_Injection). Numbers such as -12.5 stay, and so do
telephone numbers of digits and spaces such as +49 30 1234: no spreadsheet computes anything from them. What begins
with apostrophes before such a cell gets one more, so that `restore` is exact: it takes away what `neutralize` added,
and nothing else.

The failed rows of an import come as such a file, with their reasons in a column of its own behind the file's. It can be
mended and uploaded again: by that column it is known, its cells are restored where they are checked, and the mapping of
the first import fits, for the columns are where they were.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

__all__ = ["REASON", "failed_rows", "neutralize", "restore", "write_csv"]

REASON: Final = "Reason not imported"
"""Header of the column with reasons. It is unlike what a file may have of its own."""

_BLOCK: Final = 1 << 16

_FORMULA: Final = re.compile(
    # White space, and characters that are not seen.
    r"'*(?:[\t\r\n]|[\s\x00-\x20\x7f-\xa0\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]*[=+\-@＝＋－＠﹢﹣﹦﹫−])"
)
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)*|\+[0-9]+(?: [0-9]+)*")


def neutralize(cell: str) -> str:
    """Return a cell as no spreadsheet takes it for a formula."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def restore(cell: str) -> str:
    """Return the cell that `neutralize` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell[1:]) else cell


def write_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[bytes]:
    """Give a file in pieces, its cells neutralized: UTF-8 with a byte order mark, by which Excel knows it; CRLF."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    buffer.write("\ufeff")
    writer.writerow(map(neutralize, header))
    for row in rows:
        writer.writerow(map(neutralize, row))
        if buffer.tell() >= _BLOCK:
            yield _emptied(buffer)
    yield _emptied(buffer)


def failed_rows(header: Sequence[str], failed: Iterable[tuple[Sequence[str], str | Sequence[str]]]) -> Iterator[bytes]:
    """Give the file of the rows that failed, each with its reason, or several of them.

    Cells stay in their columns; what a row has beyond the header comes after the reason. Of a file that was mended
    before, the column with the old reasons is left away.
    """
    old = header.index(REASON) if REASON in header else None
    width = len(header)

    def rows() -> Iterator[list[str]]:
        for cells, reasons in failed:
            row = [*cells[:width], *[""] * (width - len(cells))]
            beyond = cells[width:]
            if old is not None:
                del row[old]
                row = list(map(restore, row))
                beyond = list(map(restore, beyond))
            yield [*row, reasons if isinstance(reasons, str) else " ".join(reasons), *beyond]

    names = list(header)
    if old is not None:
        del names[old]
        names = list(map(restore, names))
    return write_csv([*names, REASON], rows())


def _emptied(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    # Half a surrogate pair cannot be written; none comes out of a file that was read here.
    return text.encode("utf-8", "replace")
