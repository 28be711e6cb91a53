"""A worker command lives and ends as one: without its relay it ends, so that whoever runs it starts it anew.

Dramatiq's command ends when a process that runs jobs dies, but does not notice the death of a fork such
as the relay; with every relay dead nothing would be handed out any more, and nothing would look wrong.
The relay therefore holds a file lock for as long as it lives, and the processes that run jobs look.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator

__all__ = ["hold", "lock_environment", "watch"]

# Not a setting: the command tells its own processes. It survives whichever way they are started.
_VARIABLE = "_BACKROOM_RELAY_LOCK"
_EVERY = 0.5
_LATE = 30.0
"""Seconds after which a relay that never began counts as dead; it begins when all others have begun."""

_DOUBT = 3.0
"""Seconds between a relay's end and ours in an orderly stop, at the very most."""

log = logging.getLogger(__name__)


def lock_environment() -> dict[str, str]:
    """In the command, before anything is started: make the file; return what tells everybody below who we are."""
    descriptor, path = tempfile.mkstemp(prefix="backroom-relay-")
    os.close(descriptor)
    return {_VARIABLE: f"{os.getpid()}:{path}"}


@contextlib.contextmanager
def hold() -> Iterator[None]:
    """In the relay: hold the lock until the end, however it comes."""
    known = os.environ.get(_VARIABLE)
    if known is None:
        yield
        return
    path = known.partition(":")[2]
    with open(path, "ab") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        # That it has begun is seen even if it dies before anybody looked.
        file.write(b"begun\n")
        file.flush()
        yield
        with contextlib.suppress(OSError):
            os.unlink(path)


def watch(stopping: Callable[[], bool]) -> None:
    """In a process that runs jobs: end the whole command in order when its relay is gone, from a thread."""
    known = os.environ.get(_VARIABLE)
    if known is not None:
        command, _, path = known.partition(":")
        thread = threading.Thread(target=_watch, args=(int(command), path, stopping), name="relay-watch", daemon=True)
        thread.start()


def _watch(command: int, path: str, stopping: Callable[[], bool]) -> None:
    pause = threading.Event()
    waited = 0.0
    seen = False
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        while not stopping():
            alive = _is_held(file.fileno())
            seen = seen or alive or os.fstat(file.fileno()).st_size > 0
            waited += _EVERY
            if not alive and (seen or waited > _LATE):
                # It may have been told to stop a moment before we are: then this is no news.
                pause.wait(_DOUBT)
                if not stopping():
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                    log.critical("the relay of this command is gone; the command ends, to be started again")
                    # The command may have died with the relay, and its number be somebody else's by now.
                    os.kill(command if os.getppid() == command else os.getpid(), signal.SIGTERM)
                return
            pause.wait(_EVERY)


def _is_held(descriptor: int) -> bool:
    try:
        # Shared, so that several who look do not take each other for the relay.
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.lockf(descriptor, fcntl.LOCK_UN)
    return False
