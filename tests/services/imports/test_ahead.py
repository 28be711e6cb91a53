"""Reading in a process of its own: whatever ends it early, no half of a file is taken for all of it."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from services.imports.files import Source
from services.imports.jobs.ahead import ReaderGone, look_over, reading
from services.imports.models import Import
from services.imports.reading.detect import Dialect
from services.imports.reading.kinds import KINDS
from services.imports.reading.reader import Prepared
from services.imports.reading.table import FileProblem, Limits, Survey, stream_of

LIMITS = Limits(rows=100_000, columns=10, field=1_000)
ROWS = [f"Sample {number},S-{number}" for number in range(20_000)]
FILE = "\n".join(["Title,SKU", *ROWS]).encode()


class File(Source):
    """A file that is nowhere but here."""

    def __init__(self, content: bytes, *, fails_after: int | None = None) -> None:
        form = Import(kind="samples", mapping={"title": 0, "sku": 1}, header=["Title", "SKU"])
        super().__init__(form, "", Dialect("utf-8", ","), KINDS["samples"])
        object.__setattr__(self, "content", content if fails_after is None else content[:fails_after])
        object.__setattr__(self, "fails", fails_after is not None)

    def stream(self) -> BinaryIO:
        return stream_of(self._chunks()) if self.fails else io.BytesIO(self.content)  # type: ignore[attr-defined]

    def _chunks(self) -> Iterator[bytes]:
        yield self.content  # type: ignore[attr-defined]
        raise ConnectionError("the store is gone")


def read(source: Source, *, skip: int = 0, size: int = 5_000, tell: bool = False) -> list[Prepared]:
    with reading(source, skip=skip, size=size, tell=tell) as batches:
        return list(batches)


def children() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(file.read().split())


def test_a_file_is_looked_over_and_read() -> None:
    assert look_over(File(FILE), LIMITS) == Survey(20_000, ["Title", "SKU"])
    batches = read(File(FILE), size=8_000)
    assert [(batch.first, batch.count) for batch in batches] == [(2, 8_000), (8_002, 8_000), (16_002, 4_000)]
    assert batches[1].cells(8_002) == ["Sample 8000", "S-8000"]
    lines = b"".join(batch.staged.data for batch in batches).decode().splitlines()
    assert [line.split("\t")[2] for line in lines] == [row.split(",")[0] for row in ROWS]
    assert not batches[0].columns


def test_reading_goes_on_after_what_was_read() -> None:
    (batch,) = read(File(FILE), skip=19_999, tell=True)
    assert (batch.first, batch.staged.numbers) == (20_001, [20_001])
    assert batch.columns["title"] == ["Sample 19999"]


def test_rows_that_fail_come_with_their_cells() -> None:
    (batch,) = read(File(b"Title,SKU\n,S-1\nMug,S-2\n"))
    assert [(each.row, each.cells, each.issues[0]["code"]) for each in batch.failures] == [(2, ["", "S-1"], "required")]
    assert batch.staged.numbers == [3]


@pytest.mark.parametrize("content", [b"", b'Title,SKU\n"Mug,S-1\n', b"Title,SKU\nM\xfcg,1\n"])
def test_a_file_that_cannot_be_read(content: bytes) -> None:
    with pytest.raises(FileProblem):
        look_over(File(content), LIMITS)


def test_limits_hold() -> None:
    with pytest.raises(FileProblem) as found:
        look_over(File(FILE), Limits(rows=10, columns=10, field=1_000))
    assert (found.value.code, found.value.fields) == ("file_too_many_rows", {"limit": 10})


@pytest.mark.parametrize("fails_after", [0, 5, 60_000, 350_000, len(FILE) - 3])
def test_a_store_that_fails_in_mid_file(fails_after: int) -> None:
    """What came of a row that was cut off is not taken for a row, nor the rest of the file for nothing."""
    source = File(FILE, fails_after=fails_after)
    with pytest.raises(ConnectionError, match="the store is gone"):
        look_over(source, LIMITS)
    seen: list[Prepared] = []
    with (
        pytest.raises(ConnectionError, match="the store is gone"),
        reading(source, skip=0, size=100, tell=True) as found,
    ):
        seen.extend(found)
    titles = [title for batch in seen for title in batch.columns["title"]]
    assert titles == [row.split(",")[0] for row in ROWS][: len(titles)]


def test_a_reader_that_is_killed_is_a_failed_attempt() -> None:
    before = children()
    with reading(File(FILE), skip=0, size=100, tell=False) as batches:
        next(batches)
        (reader,) = children() - before
        os.kill(int(reader), signal.SIGKILL)
        with pytest.raises(ReaderGone, match="-9"):
            list(batches)


def test_nothing_is_left_running() -> None:
    """A job that stops in the middle of a file takes its reader with it."""
    before = children()
    with reading(File(FILE), skip=0, size=10, tell=False) as batches:
        next(batches)
        assert len(children() - before) == 1
    assert children() == before
