"""From a stream of bytes to rows, one after another; memory does not grow with the file.

    found = survey(stream, dialect, limits)                   # header and number of rows, or FileProblem
    for batch in batches(stream, dialect, size=5_000): …      # of another stream over the same bytes

A record is numbered by its place in the file: the header is row 1, the first row of data is row 2, and a record whose
quoted cells hold line breaks is one row. Records without anything in them (an empty line, or nothing but delimiters)
are no rows: everything here passes over them, and gives them no number. Lines end with LF, CR LF or CR, in any mixture.

Rows come as they are: cells untrimmed, as many as the record has. No cell ever holds U+0000 or half a surrogate pair.

Quotes are read strictly. After the quote that closes a cell comes a delimiter or the end of the line; anything else
means that a quote was opened and forgotten, or not doubled, and then nobody can tell any more where rows begin. What a
lenient reader makes of it is rows swallowed into a cell, silently.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, BinaryIO, Final, Protocol

from services.imports.reading.detect import Dialect
from services.imports.reading.texts import sentence

__all__ = [
    "Batch",
    "FileProblem",
    "Limits",
    "Preview",
    "Survey",
    "batches",
    "preview",
    "read_header",
    "stream_of",
    "survey",
]

_CHUNK: Final = 1 << 17
LONGEST_RECORD: Final = 1 << 22
"""No record has more characters than this and a chunk, whatever the limits: an open quote swallows no more."""

# The limit of the module is one for the whole process. Ours is per file, so that this one has to be out of the way.
csv.field_size_limit(max(csv.field_size_limit(), LONGEST_RECORD + 2 * _CHUNK))


class FileProblem(Exception):
    """The file as a whole cannot be read. `code` has a sentence in `texts`; `fields` say where, and what was allowed.

    Codes: file_empty, file_header_missing, file_encoding (encoding, offset: of the byte, from 0), file_nul (row),
    file_quote_open (row: where it opens), file_too_many_rows (limit), file_too_many_columns (row, columns, limit),
    file_field_too_long (row, column: from 1, limit).
    """

    def __init__(self, code: str, **fields: Any) -> None:
        self.code = code
        self.fields = fields
        super().__init__(sentence(code, **fields))


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a file may have: rows of data, columns, characters of a cell."""

    rows: int
    columns: int
    field: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The beginning of a file."""

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found by reading all of a file: its rows of data, and the names of its columns, trimmed."""

    rows: int
    header: list[str]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that follow each other; `first` is the number of the first one."""

    first: int
    rows: list[list[str]]


class Readable(Protocol):
    """Whatever bytes are read from. Short answers are fine; an empty one is the end."""

    def read(self, size: int, /) -> bytes | None: ...


def stream_of(chunks: Iterable[bytes]) -> BinaryIO:
    """Return a stream over chunks, which may be of any size; it takes them as it is read."""
    return io.BufferedReader(_Chunks(chunks), _CHUNK)


def read_header(stream: Readable, dialect: Dialect) -> list[str]:
    """Return the names of the columns, trimmed. Raises FileProblem."""
    return _header(_Text(stream, dialect).records(None))


def preview(head: bytes, dialect: Dialect, *, whole: bool, rows: int = 10) -> Preview:
    """Return the first rows of a file of which `head` is the beginning, or all of it. Raises FileProblem.

    A record that is cut off at the end of `head` is left away.
    """
    records = _Text(io.BytesIO(head), dialect, whole=whole).records(None)
    return Preview(_header(records), list(islice(records, rows)))


def survey(stream: Readable, dialect: Dialect, limits: Limits) -> Survey:
    """Read the whole file once. Raises FileProblem for the first thing that is wrong with it."""
    records = _Text(stream, dialect).records(limits)
    header = _header(records)
    return Survey(sum(1 for _ in records), header)


def batches(stream: Readable, dialect: Dialect, *, size: int, skip: int = 0) -> Iterator[Batch]:
    """Give the rows of data after the first `skip`, in batches of `size`. Raises FileProblem."""
    records = _Text(stream, dialect).records(None)
    _header(records)
    next(islice(records, skip, skip), None)
    first = 2 + skip
    while rows := list(islice(records, size)):
        yield Batch(first, rows)
        first += len(rows)


def _header(records: Iterator[list[str]]) -> list[str]:
    header = [cell.strip() for cell in next(records, ())]
    if not header:
        raise FileProblem("file_empty")
    if not any(header):
        raise FileProblem("file_header_missing")
    return header


class _TooMuch(Exception):
    """A record has no end, in many lines or in one."""

    def __init__(self, *, over_lines: bool) -> None:
        self.over_lines = over_lines


class _Nul(Exception):
    """The next line has U+0000 in it."""


class _Text:
    """The text of a file: decoded, in lines, in records."""

    def __init__(self, stream: Readable, dialect: Dialect, *, whole: bool = True) -> None:
        self._stream = stream
        self._dialect = dialect
        self._whole = whole
        self._given = 0
        """Characters that were handed to the reader,"""
        self._begun = 0
        """and as many of them as were there when its present record began."""

    def records(self, limits: Limits | None) -> Iterator[list[str]]:
        """Give the records that have something in them, the header among them."""
        most_rows, most_columns, longest = (limits.rows, limits.columns, limits.field) if limits else (0, 0, 0)
        reader = csv.reader(chain.from_iterable(self._lines()), delimiter=self._dialect.delimiter, strict=True)
        number = 0
        try:
            for row in reader:
                self._begun = self._given
                size = len("".join(row))
                if not size:
                    continue
                number += 1
                if limits is not None:
                    if number - 1 > most_rows:
                        raise FileProblem("file_too_many_rows", limit=most_rows)
                    if len(row) > most_columns and (columns := _columns(row)) > most_columns:
                        raise FileProblem("file_too_many_columns", row=number, columns=columns, limit=most_columns)
                    if size > longest and len(max(row, key=len)) > longest:
                        raise _too_long(row, number, longest)
                yield row
        except _Nul:
            raise FileProblem("file_nul", row=number + 1) from None
        except _TooMuch as much:
            if much.over_lines:
                raise FileProblem("file_quote_open", row=number + 1) from None
            raise FileProblem(
                "file_field_too_long", row=number + 1, column=None, limit=longest or LONGEST_RECORD
            ) from None
        except csv.Error as error:
            # Of a file's beginning the last record may well be cut off; the header must not.
            if self._whole or not number or "unexpected end" not in str(error):
                raise FileProblem("file_quote_open", row=number + 1) from None
        if not self._whole and not number:
            raise FileProblem("file_header_missing")

    def _lines(self) -> Iterator[Iterable[str]]:
        """Give the lines with their ends, many at a time. Raises _Nul, _TooMuch and FileProblem."""
        rest = ""
        for text in self._decoded():
            if "\0" in text:
                # The lines before it are read first, so that the number of the row is known.
                yield io.StringIO(_before_last_break(rest + text[: text.index("\0")]), newline="")
                raise _Nul
            text = rest + text
            end = max(text.rfind("\n"), text.rfind("\r")) + 1
            rest = text[end:]
            if end:
                if self._given - self._begun > LONGEST_RECORD:
                    raise _TooMuch(over_lines=True)
                self._given += end
                yield io.StringIO(text[:end], newline="")
            if len(rest) > LONGEST_RECORD:
                raise _TooMuch(over_lines=self._given > self._begun)
        if rest and self._whole:
            yield [rest]

    def _decoded(self) -> Iterator[str]:
        """Give the text without its byte order mark. Raises FileProblem."""
        encoding = self._dialect.encoding
        # Marks are dropped here, so that positions in errors are those of the file.
        decoder = codecs.getincrementaldecoder("utf-8" if encoding == "utf-8-sig" else encoding)("strict")
        taken = 0
        first = True
        while True:
            data = _filled(self._stream)
            taken += len(data)
            final = not data
            if final and not self._whole:
                return
            try:
                text = decoder.decode(data, final)
            except UnicodeDecodeError as error:
                # What the decoder had before it is the end of what was taken.
                offset = taken - len(error.object) + error.start
                raise FileProblem("file_encoding", encoding=encoding, offset=offset) from None
            except UnicodeError:
                # UTF-16 that was to begin with a byte order mark.
                raise FileProblem("file_encoding", encoding=encoding, offset=0) from None
            if text:
                yield text.removeprefix("\ufeff") if first else text
                first = False
            if final:
                return


def _filled(stream: Readable) -> bytes:
    """Return a chunk, filled up from short answers: small pieces would be joined again and again."""
    data = stream.read(_CHUNK) or b""
    if not data or len(data) == _CHUNK:
        return data
    parts, size = [data], len(data)
    while size < _CHUNK and (more := stream.read(_CHUNK - size)):
        parts.append(more)
        size += len(more)
    return b"".join(parts)


def _before_last_break(text: str) -> str:
    return text[: max(text.rfind("\n"), text.rfind("\r")) + 1]


def _columns(row: list[str]) -> int:
    """Count cells up to the last one with something in it: spreadsheets write delimiters for all that they have."""
    return next(index for index in range(len(row), 0, -1) if row[index - 1])


def _too_long(row: list[str], number: int, limit: int) -> FileProblem:
    column = next(index for index, cell in enumerate(row, 1) if len(cell) > limit)
    return FileProblem("file_field_too_long", row=number, column=column, limit=limit)


class _Chunks(io.RawIOBase):
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def close(self) -> None:
        if not self.closed and (close := getattr(self._chunks, "close", None)):
            # A generator may hold a connection.
            close()
        super().close()
