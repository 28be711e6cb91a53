"""A worker command without its relay ends, so that it is started again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.testing.service import ServiceUnderTest, wait_until
from tests.sample.service import service

# Locks are listed for the whole server, on which other runs have relays of their own.
_LEADS = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 25207 AND objid = 4294967295 AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the relay in /proc")
def test_a_command_whose_relay_was_killed_ends(service_app: Callable[..., ServiceUnderTest]) -> None:
    """Dramatiq's command does not notice by itself, and with every relay dead nothing would be handed out any more."""
    sample = service_app(service, "rabbitmq")
    with sample.worker_process() as worker:
        wait_until(lambda: worker.workers and sample.query(_LEADS), what="a leading relay")
        children = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _parent(int(entry.name)) == worker.master.pid
        ]
        (relay,) = set(children) - set(worker.workers)
        os.kill(relay, signal.SIGKILL)
        assert worker.master.wait(60) == 0
