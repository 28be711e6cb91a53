"""Decoding in a process of its own, one for each picture.

A decoder of images is the classical way into a machine, so no byte of a stranger's picture meets one in a worker,
which does not even import it. The process is new for each picture, although it costs a tenth of a second: a file
that takes it over finds nothing of other tenants there and nothing outlives it, memory that a library keeps is given
back, and its limits of time and memory are of this one picture. Against what fetching costs, it is little.

It is a plain program (`decode`), started by `subprocess`: a fork of a worker with its threads, its connections and
its locks is asking for trouble, and `multiprocessing` would import the worker's main program anew. It knows none of
our settings and gets no environment; the picture is its standard input, already open, so that it needs no path.

Of a worker's threads, two decode at a time; the others wait. So a worker's children together are bounded, too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final

from services.imports.pictures.signatures import MediaType
from services.imports.pictures.texts import NotAPicture

__all__ = ["WALL_SECONDS", "Decoded", "DecoderTrouble", "decode"]

WALL_SECONDS: Final = 60.0
"""For a machine that is busy; the child itself stops after far fewer seconds of computing."""

_AT_A_TIME: Final = 2
_LONGEST_REPORT: Final = 2_000_000

_CRASHED: Final = frozenset(
    (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGXCPU)
)
"""Ends that the picture brought about. Not SIGKILL: that comes from an operator, or a machine short of memory."""

_slots: Final = threading.BoundedSemaphore(_AT_A_TIME)


class DecoderTrouble(Exception):
    """The picture could not be looked at, through no fault of its own: another time may do better."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the child found."""

    width: int
    height: int
    thumbnail: bytes


def decode(file: BinaryIO, media_type: MediaType, *, max_pixels: int, wall: float = WALL_SECONDS) -> Decoded:
    """Decode an open file on disk from its beginning. Raises NotAPicture and DecoderTrouble."""
    # The child writes into files, which its limits bound as they do not bound a pipe.
    with _slots, tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as complaint:
        file.flush()
        file.seek(0)
        process = subprocess.Popen(
            [*_program(), media_type, str(max_pixels)], stdin=file, stdout=answer, stderr=complaint, env=_environment()
        )
        try:
            ended = process.wait(wall)
        except subprocess.TimeoutExpired:
            raise DecoderTrouble(f"no end after {wall:.0f} seconds") from None
        finally:
            # Also when the job's time is over, or the worker stops: nothing is left running.
            process.kill()
            process.wait()
        answer.seek(0)
        complaint.seek(0)
        return _judged(ended, answer.read(_LONGEST_REPORT), complaint.read(_LONGEST_REPORT))


def _judged(ended: int, answer: bytes, complaint: bytes) -> Decoded:
    if -ended in _CRASHED:
        raise NotAPicture("image_broken", f"the decoder ended by {signal.Signals(-ended).name}")
    if ended != 0:
        raise DecoderTrouble(f"the decoder ended with {ended}: {complaint[-500:].decode(errors='replace')}")
    try:
        head, _, thumbnail = answer.partition(b"\n")
        report = json.loads(head)
        if "code" in report:
            raise NotAPicture(str(report["code"]), str(report["detail"]))
        return Decoded(int(report["width"]), int(report["height"]), thumbnail)
    except (ValueError, KeyError, TypeError) as error:
        # It was taken over, or is not the program that belongs to this one.
        raise NotAPicture("image_broken", f"the decoder's report makes no sense: {error}") from None


@lru_cache(maxsize=1)
def _program() -> tuple[str, ...]:
    """The interpreter, isolated: no site, no user's directory, no variables; only Pillow's own directory."""
    found = importlib.util.find_spec("PIL")
    if found is None or found.origin is None:
        raise DecoderTrouble("Pillow is not installed")
    packages = Path(found.origin).parents[1]
    return (sys.executable, "-I", "-S", str(Path(__file__).with_name("decode.py")), str(packages))


def _environment() -> dict[str, str]:
    # One arena: the limit is of addresses, of which each arena reserves many. The path is for a Python that needs it.
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"MALLOC_ARENA_MAX": "1", **kept}
