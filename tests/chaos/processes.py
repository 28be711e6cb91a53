"""Programs that run under supervision: whoever dies is started again, as Kubernetes would do it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Program", "Supervisor", "children", "parent_of"]

_BACKOFF = 0.3


@dataclass
class Program:
    """One program: its role (`api`, `worker`, `scheduler`, `sandbox`), its name, and how it is started."""

    role: str
    name: str
    arguments: Sequence[str]
    starts: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """The process id of the running program, None while it is down."""
        process = self.process
        return process.pid if process is not None and process.poll() is None else None


class Supervisor:
    """Keeps programs running until `stop`. What a program says goes to `<name>.log` in the directory."""

    def __init__(self, directory: Path, environment: Mapping[str, str], remember: Path) -> None:
        self.programs: list[Program] = []
        self._directory = directory
        self._environment = dict(environment)
        self._remember = remember
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def add(self, program: Program) -> Program:
        """Start a program, and start it again whenever it dies."""
        with self._lock:
            self._start(program)
            self.programs.append(program)
        return program

    def of(self, role: str) -> list[Program]:
        return [program for program in self.programs if program.role == role]

    def stop(self) -> None:
        """Kill all: what was to be seen of a graceful end was seen before."""
        self._stopping.set()
        self._thread.join()
        for program in self.programs:
            if program.process is not None:
                self._kill_group(program)
                program.process.wait()

    def _watch(self) -> None:
        while not self._stopping.wait(0.05):
            with self._lock:
                for program in self.programs:
                    if program.process is not None and program.process.poll() is not None:
                        # With its first process the whole container goes.
                        self._kill_group(program)
                        if not self._stopping.wait(_BACKOFF):
                            self._start(program)

    def _start(self, program: Program) -> None:
        with (self._directory / f"{program.name}.log").open("ab") as log:
            program.process = subprocess.Popen(
                list(program.arguments),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        program.starts += 1
        with self._remember.open("a") as file:
            file.write(f"{program.process.pid}\n")

    @staticmethod
    def _kill_group(program: Program) -> None:
        assert program.process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(program.process.pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the living direct children of a process, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and parent_of(int(entry.name)) == pid:
            found.append(int(entry.name))
    return sorted(found)


def parent_of(pid: int) -> int | None:
    """Return the parent of a living process, None when it is gone or a zombie."""
    try:
        # The name in parentheses may hold anything, so what counts begins after the last one.
        state, parent = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)
