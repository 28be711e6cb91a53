"""What breaks: a schedule drawn from a seed, and how each fault is brought about."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos.pace import Pace
from tests.chaos.processes import Program, children

if TYPE_CHECKING:
    from tests.chaos.world import World

__all__ = ["KINDS", "SANDBOX_RULES", "Fault", "Injector", "schedule"]

KINDS = {
    "kill worker": 6,
    "kill worker command": 3,
    "kill relay": 5,
    "kill scheduler": 2,
    "kill API": 3,
    "kill API process": 3,
    "suspend worker": 3,
    "suspend relay": 1,
    "drop broker connections": 6,
    "freeze broker connections": 2,
    "restart broker": 1,
    "kill broker": 1,
    "kill database": 2,
    "drop database connections": 4,
    "freeze database connections": 1,
    "kill sandbox": 1,
}
"""Faults and how often each is drawn in relation to the others; all of them at least once in a long enough run."""

_PATIENCE = 10.0

_PURCHASE: dict[str, Any] = {"method": "POST", "path": "/transactions"}
_LOOK_UP: dict[str, Any] = {"method": "GET", "path": "/transactions"}
_SHIPMENT: dict[str, Any] = {"method": "POST", "path": "/shipments"}

SANDBOX_RULES: list[dict[str, Any]] = [
    # Rules are asked in order, and each sees only what those before it let pass.
    {"kind": "timeout_after", "match": _PURCHASE, "probability": 0.10, "params": {"seconds": 5}},
    {"kind": "reset_after", "match": _PURCHASE, "probability": 0.1111},
    {"kind": "status", "match": _PURCHASE, "probability": 0.03, "params": {"status": 500}},
    {"kind": "status_after", "match": _PURCHASE, "probability": 0.02, "params": {"status": 502}},
    {"kind": "rate_limited", "match": _PURCHASE, "probability": 0.02, "params": {"retry_after": 1}},
    {"kind": "reset_before", "match": _PURCHASE, "probability": 0.02},
    {"kind": "garbage_json", "match": _PURCHASE, "probability": 0.01},
    {"kind": "truncated_body", "match": _PURCHASE, "probability": 0.01},
    {"kind": "late_charge", "match": _PURCHASE, "probability": 0.01, "params": {"seconds": [2, 4]}},
    {"kind": "queued_then_success", "match": _PURCHASE, "probability": 0.04, "params": {"seconds": [0.5, 2]}},
    {"kind": "error_messages", "match": _PURCHASE, "probability": 0.02},
    {"kind": "latency", "match": _PURCHASE, "probability": 0.10, "params": {"seconds": [0.2, 1]}},
    {
        "kind": "status",
        "match": {"method": "GET", "path": "/transactions"},
        "probability": 0.03,
        "params": {"status": 503},
    },
    {
        "kind": "status",
        "match": {"method": "POST", "path": "/shipments"},
        "probability": 0.03,
        "params": {"status": 500},
    },
    {"kind": "reset_after", "match": _SHIPMENT, "probability": 0.02},
]
"""How the sandbox misbehaves all along: of the purchases, one in ten is charged and never answered, and one in ten
is charged and then cut off."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what, whom of several candidates (0 to 1), and for how long where that matters (0 to 1)."""

    kind: str
    pick: float
    length: float


def schedule(seed: int, count: int, kinds: dict[str, int] | None = None) -> list[Fault]:
    """Draw the faults of a run. The same seed and count give the same faults in the same order."""
    chance = random.Random(f"faults/{seed}")
    weights = kinds or KINDS
    deck = list(weights)[:count]
    deck += chance.choices(list(weights), list(weights.values()), k=count - len(deck))
    chance.shuffle(deck)
    return [Fault(kind, chance.random(), chance.random()) for kind in deck]


class Injector:
    """Brings the faults about, one after the other, at the given pace."""

    def __init__(self, world: World, faults: list[Fault], pace: Pace, *, suspended: float, gap: float) -> None:
        self.done: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        """Faults that found nobody to strike for too long."""
        self._world, self._faults, self._pace = world, faults, pace
        self._suspended, self._gap = suspended, gap
        self._later: list[threading.Thread] = []
        self.stopped = threading.Event()

    def run(self, say: Callable[[str], None]) -> None:
        """Go through the schedule; returns when everything that was stopped has been started again."""
        try:
            for number, fault in enumerate(self._faults):
                self._pace.wait_for_work(number)
                if self.stopped.is_set():
                    break
                self._pace.struck()
                began = time.monotonic()
                struck = self._strike(fault)
                while not struck and time.monotonic() - began < _PATIENCE:
                    # The one before struck it down already; it is being started again.
                    time.sleep(0.1)
                    struck = self._strike(fault)
                (self.done if struck else self.missed)[fault.kind] += 1
                say(f"fault {number + 1:>3}/{len(self._faults)}: {fault.kind}{'' if struck else ' (nobody there)'}")
                time.sleep(max(0.0, self._gap - (time.monotonic() - began)))
        finally:
            self._pace.free()
            for thread in self._later:
                thread.join()

    def _strike(self, fault: Fault) -> bool:
        world, proxies = self._world, self._world.proxies
        pause = 1.0 + 2.0 * fault.length
        match fault.kind:
            case "kill worker":
                return self._kill(self._children("worker", fault, 0))
            case "kill worker command":
                return self._kill(self._commands("worker", fault))
            case "kill relay":
                return self._kill(self._children("worker", fault, 1))
            case "kill scheduler":
                return self._kill(self._commands("scheduler", fault))
            case "kill API":
                return self._kill(self._commands("api", fault))
            case "kill API process":
                return self._kill(self._children("api", fault, 0))
            case "kill sandbox":
                return self._kill(self._commands("sandbox", fault))
            case "suspend worker":
                return self._suspend(self._children("worker", fault, 0), self._suspended + 0.5 + fault.length)
            case "suspend relay":
                return self._suspend(self._children("worker", fault, 1), self._suspended + 0.5 + fault.length)
            case "drop broker connections":
                return proxies.drop("broker") > 0
            case "drop database connections":
                return proxies.drop("database") > 0
            case "freeze broker connections":
                self._freeze("broker", pause)
            case "freeze database connections":
                self._freeze("database", pause)
            case "restart broker":
                world.rabbit.restart()
            case "kill broker":
                world.rabbit.kill()
                world.rabbit.start()
            case "kill database":
                world.postgres.kill()
                world.postgres.start()
            case unknown:
                raise ValueError(f"no such fault: {unknown}")
        return True

    def _freeze(self, name: str, seconds: float) -> None:
        self._world.proxies.pause(name)
        time.sleep(seconds)
        self._world.proxies.resume(name)

    def _programs(self, role: str, fault: Fault) -> list[Program]:
        """The running programs of a role, the picked one first."""
        programs = self._world.supervisor.of(role)
        first = int(fault.pick * len(programs))
        return [program for program in programs[first:] + programs[:first] if program.pid is not None]

    def _commands(self, role: str, fault: Fault) -> list[int]:
        """The first process of each program of a role."""
        return [program.pid for program in self._programs(role, fault) if program.pid is not None]

    def _children(self, role: str, fault: Fault, number: int) -> list[int]:
        """A child of each program of a role: of a worker command, 0 runs jobs and 1 is the relay."""
        born = [children(pid) for pid in self._commands(role, fault)]
        return [pids[number] for pids in born if len(pids) > number]

    @staticmethod
    def _kill(pids: list[int]) -> bool:
        """Kill the first that can be."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def _suspend(self, pids: list[int], seconds: float) -> bool:
        """Stop a process for longer than the system's patience, while other faults go on."""

        def resume() -> None:
            time.sleep(seconds)
            with suppress(ProcessLookupError):
                os.kill(pids[0], signal.SIGCONT)

        if not pids:
            return False
        try:
            os.kill(pids[0], signal.SIGSTOP)
        except ProcessLookupError:
            return False
        thread = threading.Thread(target=resume, name="resume")
        thread.start()
        self._later.append(thread)
        return True
