"""What the test servers share: ports, packages, directories that outlive no run."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.runtime.embedded.unprivileged import Account

DIRECTORY_PREFIX = "backroom-test-"


class ServerMissing(RuntimeError):
    """No server can be found or started; the message says what to install or which variable to set."""


def free_port() -> int:
    """A loopback port that nobody listens on and that no outgoing connection takes by chance.

    Kept below the range that systems give to outgoing connections: a client that keeps trying to reach a
    stopped server on a port of that range may be given the very same port, and connect to itself.
    """
    for _ in range(1000):
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise ServerMissing("No free port between 20000 and 32000 on 127.0.0.1.")


def answers(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def apt_install(package: str) -> bool:
    """Install a package when this process may: root, on a system with apt-get. False when it may not.

    Raises ServerMissing when apt-get fails.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    print(f"Installing {package} with apt-get, for the tests.", file=sys.stderr, flush=True)
    # In runlevel 1 packages do not start their services: the tests start nodes of their own.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", package],
    ):
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if answer.returncode != 0 and command[1] == "install":
            raise ServerMissing(f"apt-get could not install {package}: {answer.stderr.strip()[-2000:]}")
    return True


@contextmanager
def run_directory(kind: str, account: Account | None = None) -> Iterator[Path]:
    """A new directory that the account and others may pass through, removed at the end.

    What killed runs left is removed on the way, after killing the servers that are named in it.
    """
    base = Path(tempfile.gettempdir())
    if account and not account.can_enter(base):
        base = Path("/tmp")  # noqa: S108 (mkdtemp makes a private directory in it)
    for left in base.glob(f"{DIRECTORY_PREFIX}*"):
        _remove_if_abandoned(left)
    directory = Path(tempfile.mkdtemp(prefix=f"{DIRECTORY_PREFIX}{kind}-"))
    directory.chmod(0o711)
    with (directory / "in-use").open("w") as mark:
        # The system drops this lock when we die, however we die.
        fcntl.flock(mark, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def remember_process(directory: Path, pid: int) -> None:
    """Note the leader of a process group to kill, should this run be killed before it can do so itself."""
    with (directory / "processes").open("a") as file:
        file.write(f"{pid}\n")


def _remove_if_abandoned(directory: Path) -> None:
    # Somebody else's directory, or one being made or removed just now, is not ours to judge.
    with suppress(OSError), (directory / "in-use").open("r+") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (directory / "processes").exists():
            for line in (directory / "processes").read_text().split():
                if _mentions(int(line), directory):
                    os.killpg(int(line), signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


def _mentions(pid: int, directory: Path) -> bool:
    """Whether the process has the directory in its command line or environment: numbers get used again."""
    for name in ("cmdline", "environ"):
        with suppress(OSError):
            if str(directory).encode() in Path(f"/proc/{pid}/{name}").read_bytes():
                return True
    return False
