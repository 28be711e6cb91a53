"""A file is read, checked and laid out in a process of its own, ahead of what the database takes.

    found = look_over(source, limits)
    with reading(source, skip=done, size=…, tell=…) as batches:
        for prepared in batches: …

While the database takes one batch, the next one is made ready: the process fills the pipe and waits there until it is
read, so that it is never more than one batch ahead, and memory does not grow with the file. The file comes to it by a
thread of ours, from wherever the store has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from services.imports.files import Source
from services.imports.reading.reader import Prepared, receive
from services.imports.reading.table import FileProblem, Limits, Survey

__all__ = ["ReaderGone", "look_over", "reading"]

_ROOT: Final = Path(__file__).resolve().parents[3]
_PROGRAM: Final = (sys.executable, "-m", "services.imports.reading.reader")
_CHUNK: Final = 1 << 17


class ReaderGone(Exception):
    """The process ended in mid-file, through no fault of the file's: another run may do better."""


def look_over(source: Source, limits: Limits) -> Survey:
    """Read the whole file once, before anything is done with it. Raises FileProblem and ReaderGone."""
    allowed = {"rows": limits.rows, "columns": limits.columns, "field": limits.field}
    with _reader(source, {"task": "survey", "limits": allowed}) as frames:
        _, rows, header = next(frames)
    return Survey(rows, header)


@contextlib.contextmanager
def reading(source: Source, *, skip: int, size: int, tell: bool) -> Iterator[Iterator[Prepared]]:
    """Give the rows after the first `skip` in batches of `size`; `tell` asks for their columns, too.

    Raises FileProblem and ReaderGone, in the loop.
    """
    row = source.import_
    task = {"task": "batches", "kind": row.kind, "mapping": row.mapping, "header": row.header}
    with _reader(source, {**task, "skip": skip, "size": size, "tell": tell}) as frames:
        yield (batch for _, batch in frames)


@contextlib.contextmanager
def _reader(source: Source, task: dict[str, Any]) -> Iterator[Iterator[tuple[Any, ...]]]:
    dialect = source.dialect
    argument = json.dumps({**task, "encoding": dialect.encoding, "delimiter": dialect.delimiter})
    process = subprocess.Popen(
        [*_PROGRAM, argument], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT, env=_environment()
    )
    assert process.stdin is not None
    assert process.stdout is not None
    feeding = _Feed(source, process)
    feeding.start()
    try:
        yield _frames(process, feeding)
    finally:
        # Also in the middle of a file: when the job is stopped, or handed on.
        process.kill()
        process.wait()
        feeding.join()
        process.stdout.close()


def _frames(process: subprocess.Popen[bytes], feeding: _Feed) -> Iterator[tuple[Any, ...]]:
    while True:
        try:
            assert process.stdout is not None
            frame = receive(process.stdout)  # type: ignore[arg-type]
        except EOFError as error:
            process.wait()
            feeding.join()
            if feeding.failure is not None:
                raise feeding.failure from None
            raise ReaderGone(f"{error}, with {process.returncode}") from None
        if frame[0] == "problem":
            raise FileProblem(frame[1], **frame[2])
        if frame[0] == "end":
            return
        yield frame


class _Feed(threading.Thread):
    """Passes the file on to the process. `failure` is why it could not."""

    def __init__(self, source: Source, process: subprocess.Popen[bytes]) -> None:
        super().__init__(name="feeding-reader", daemon=True)
        self.failure: Exception | None = None
        self._source = source
        self._process = process

    def run(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        # A pipe that nobody reads any more says so, and nobody wants to know.
        with contextlib.suppress(BrokenPipeError), pipe:
            try:
                with self._source.stream() as stream:
                    while chunk := stream.read(_CHUNK):
                        pipe.write(chunk)
            except BrokenPipeError:
                raise
            except Exception as error:
                # Before the pipe is closed, lest the half of a file is taken for all of it.
                self.failure = error
                self._process.kill()


def _environment() -> dict[str, str]:
    """What a Python needs to start, and nothing of our settings."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join((str(_ROOT), *filter(None, sys.path)))}
