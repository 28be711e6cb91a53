"""The program that reads a file: it comes in at standard input, and goes out in frames at standard output.

    python -m services.imports.reading.reader '{"task": "survey", …}' < file > frames

A file is read in a process of its own: its hundreds of thousands of rows are work for Python, and in a worker they
would hold up every other job. The one who starts it is `services.imports.jobs.ahead`. A frame is its length in eight
bytes and then, in the format of `marshal`, a kind and what belongs to it:

    ("problem", code, fields)                     the file cannot be read
    ("survey", rows, header)                      all of it can be
    ("batch", …)                                  the fields of `Prepared`
    ("end",)
"""

from __future__ import annotations

import gc
import json
import marshal
import os
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from services.imports.reading.detect import Dialect
from services.imports.reading.kinds import KINDS
from services.imports.reading.layout import Columns, Failure, Laid, Staged, lay_out, stage
from services.imports.reading.table import FileProblem, Limits, batches, survey

__all__ = ["LENGTH", "Prepared", "receive"]

LENGTH: Final = 8
"""Bytes."""


@dataclass(slots=True)
class Prepared:
    """A batch, ready to be saved."""

    count: int
    staged: Staged
    failures: list[Failure]
    categories: dict[str, tuple[str, str | None]]
    images: dict[int, list[str]]
    columns: Columns
    """Of the good rows, where somebody has to be told what is in them; else none."""
    rows: bytes
    """The cells of all rows: one may yet fail in the database. As they are hardly ever wanted, they stay packed."""
    first: int

    def cells(self, number: int) -> list[str]:
        """Return the cells of a row as the file has them. For a few of them, not for all."""
        row: list[str] = marshal.loads(self.rows)[number - self.first]  # noqa: S302 - from our own program
        return row


def receive(stream: BinaryIO) -> tuple[Any, ...]:
    """Return what the next frame has in it. Raises EOFError where none comes any more."""
    length = stream.read(LENGTH)
    if len(length) < LENGTH:
        raise EOFError("the reader ended before its file did")
    frame = stream.read(size := int.from_bytes(length))
    if len(frame) < size:
        raise EOFError("the reader ended within a batch")
    what, *fields = marshal.loads(frame)  # noqa: S302 - from our own program
    if what == "batch":
        count, staged, failures, *rest = fields
        return (what, Prepared(count, Staged(*staged), [Failure(*each) for each in failures], *rest))
    return (what, *fields)


def _send(stream: BinaryIO, *fields: Any) -> None:
    frame = marshal.dumps(fields)
    stream.write(len(frame).to_bytes(LENGTH))
    stream.write(frame)
    stream.flush()


def _sent(laid: Laid, first: int, rows: list[list[str]], *, tell: bool) -> tuple[Any, ...]:
    """Return the fields of `Prepared`, as plain values."""
    staged = stage(laid.numbers, laid.columns)
    return (
        laid.count,
        (staged.numbers, staged.names, staged.data),
        [(each.row, each.issues, each.cells) for each in laid.failures],
        laid.categories,
        laid.images,
        {name: list(column) for name, column in laid.columns.items()} if tell else {},
        marshal.dumps(rows),
        first,
    )


def _run(task: dict[str, Any], source: BinaryIO, out: BinaryIO) -> None:
    dialect = Dialect(task["encoding"], task["delimiter"])
    try:
        if task["task"] == "survey":
            found = survey(source, dialect, Limits(**task["limits"]))
            _send(out, "survey", found.rows, found.header)
        else:
            kind = KINDS[task["kind"]]
            for batch in batches(source, dialect, size=task["size"], skip=task["skip"]):
                laid = lay_out(kind, task["mapping"], task["header"], batch)
                _send(out, "batch", *_sent(laid, batch.first, batch.rows, tell=task["tell"]))
            _send(out, "end")
    except FileProblem as problem:
        _send(out, "problem", problem.code, problem.fields)


if __name__ == "__main__":
    # Rows are made and dropped by the hundred thousand, and there is no cycle among them to be looked for.
    gc.disable()
    try:
        _run(json.loads(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        # Whoever wanted this wants it no more.
        os._exit(0)
