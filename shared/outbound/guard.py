"""The Rule at run time: no request, and no transactional job, calls out.

`install_guard()` adds one audit hook (PEP 578) to the process. While `current().in_request` is true, or
`current().no_outgoing` gives a reason, it raises `RuleViolation` at the moment when anything, however
deep in whatever library, resolves a name, connects a socket, starts a program, forks or starts a thread.
Outside of both it costs a tenth of a microsecond per audited event.

What it does not stop, and why: libpq connects in C, so the database of the service stays reachable, as it
must; a call over a socket that was connected before, and work handed to a thread that already runs (a
pool made at boot), raise no event. The import linter keeps HTTP clients out of `api.py` for those.

A new thread starts without the context of the one that made it and would be a way around, therefore
starting one is refused. What serves the process rather than the request (its one LISTEN, the exporter of
traces) starts at boot, or else says so with `allowed(…)`.
"""

from __future__ import annotations

import _thread
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from shared.context import current

__all__ = ["RuleViolation", "allowed", "check", "install_guard"]


class RuleViolation(RuntimeError):
    """A third party was to be called where the Rule forbids it; send a job that calls it instead."""


# Names of CPython's audit events (https://docs.python.org/3/library/audit_events.html).
_OUTGOING: Final = frozenset(
    {
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
        "socket.getnameinfo",
        "socket.sendto",
        "socket.sendmsg",
        "http.client.connect",
        "urllib.Request",
        "smtplib.connect",
        "ftplib.connect",
        "imaplib.open",
        "nntplib.connect",
        "poplib.connect",
        "telnetlib.Telnet.open",
        "webbrowser.open",
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.spawn",
        "os.posix_spawn",
        "os.fork",
        "os.forkpty",
        "pty.spawn",
    }
)
_THREADS: Final = frozenset({"_thread.start_new_thread", "_thread.start_joinable_thread"})
_WATCHED: Final = _OUTGOING | _THREADS

_allowed: ContextVar[str | None] = ContextVar("backroom_outgoing_allowed", default=None)
_installed = False
_install_lock = threading.Lock()


def install_guard() -> None:
    """Watch this process from now on; a second call does nothing. An audit hook cannot be removed."""
    global _installed
    with _install_lock:
        if not _installed:
            sys.addaudithook(_hook)
            if sys.version_info < (3, 12):
                _announce_threads()
            _installed = True


def _announce_threads() -> None:
    """Raise the event that CPython raises itself from 3.12 on."""
    start = _thread.start_new_thread

    def start_new_thread(function: Any, arguments: Any, *keywords: Any) -> int:
        sys.audit("_thread.start_new_thread", function, arguments, *keywords)
        return start(function, arguments, *keywords)

    _thread.start_new_thread = start_new_thread
    threading._start_new_thread = start_new_thread  # type: ignore[attr-defined]


@contextmanager
def allowed(reason: str) -> Iterator[None]:
    """Within it the guard looks away: for what a process must do once, and happens to do in a request.

    `reason` is for the reader and must not be empty. Never a way to call a third party.
    """
    if not reason:
        raise ValueError("say why the guard is to look away")
    token = _allowed.set(reason)
    try:
        yield
    finally:
        _allowed.reset(token)


def check(what: str) -> None:
    """Raise RuleViolation if calling out is forbidden here and now; `what` names the call."""
    reason = _forbidden()
    if reason is not None:
        raise RuleViolation(f"{what}: not while {reason}. Send a job, and make the call there (docs: the Rule)")


def _forbidden() -> str | None:
    context = current()
    if not (context.in_request or context.no_outgoing) or _allowed.get() is not None:
        return None
    return "an HTTP request is being served" if context.in_request else f"in {context.no_outgoing}"


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _WATCHED:
        return
    context = current()
    if not (context.in_request or context.no_outgoing):
        return
    if event in _THREADS:
        check(f"starting the thread {_thread_name(arguments)}")
    elif not _is_local(event, arguments) and not (event == "socket.getaddrinfo" and _is_for_the_database()):
        check(_describe(event, arguments))


def _is_local(event: str, arguments: tuple[Any, ...]) -> bool:
    # A socket with a path leads to this machine's own helpers (syslog, systemd), never to a third party.
    return event.startswith("socket.") and len(arguments) > 1 and _has_path(arguments[0])


def _is_for_the_database() -> bool:
    """psycopg resolves the host's name in Python, although libpq connects in C: look who is asking."""
    frame = sys._getframe(2)  # behind the hook stands socket.getaddrinfo, and behind that who called it
    for _ in range(2):
        if frame.f_globals.get("__name__", "").startswith("psycopg."):
            return True
        if frame.f_back is None:
            break
        frame = frame.f_back
    return False


def _has_path(value: Any) -> bool:
    return isinstance(value, socket.socket) and value.family == socket.AF_UNIX


def _thread_name(arguments: tuple[Any, ...]) -> str:
    function = arguments[0] if arguments else None
    thread = getattr(function, "__self__", None)
    return thread.name if isinstance(thread, threading.Thread) else getattr(function, "__qualname__", "?")


def _describe(event: str, arguments: tuple[Any, ...]) -> str:
    """Name the event and its target, without bodies, arguments of programs or anything secret."""
    target: Any = ""
    if event == "socket.connect" and len(arguments) > 1:
        target = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr") and arguments:
        target = arguments[0]
    elif event == "http.client.connect" and len(arguments) > 2:
        target = arguments[1:3]
    elif event in ("subprocess.Popen", "os.posix_spawn", "os.exec") and arguments:
        program = arguments[0]
        target = os.fsdecode(program) if isinstance(program, str | bytes | os.PathLike) else ""
    return f"{event} {target}".rstrip()
