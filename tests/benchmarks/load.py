"""A load generator, in a process of its own: kept connections, each of which asks again once it was answered.

    load(url, requests, connections=16)                  each request once
    load(url, requests, connections=16, seconds=5)       the requests over and over, for so long

It speaks just enough HTTP/1.1 to cost little beside a server that is measured on the same machine.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Load", "Request", "load", "request"]

_ROOT = Path(__file__).resolve().parents[2]

_GIVE_UP = 30.0
"""Seconds without any answer after which the rest counts as unanswered."""


@dataclass(frozen=True)
class Request:
    """A request as it goes over the wire; times are gathered by `label`."""

    label: str
    wire: str


@dataclass
class Load:
    """What came of it: times in seconds by label, how often which status came, how long it all took."""

    seconds: float
    times: dict[str, list[float]]
    statuses: dict[str, dict[str, int]]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return sum(map(len, self.times.values())) / self.seconds


def request(
    label: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, token: str = ""
) -> Request:
    """Return a request with a JSON body."""
    text = "" if body is None else json.dumps(body)
    all_headers = {"Host": "localhost", "Content-Length": str(len(text)), **(headers or {})}
    if body is not None:
        all_headers["Content-Type"] = "application/json"
    if token:
        all_headers["Authorization"] = f"Bearer {token}"
    head = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
    return Request(label, f"{method} {path} HTTP/1.1\r\n{head}\r\n{text}")


def load(
    url: str,
    requests: Sequence[Request],
    *,
    connections: int,
    seconds: float | None = None,
    pause: float = 0.0,
) -> Load:
    """Put a server under load; `pause` is between an answer and the next request of its connection."""
    address = urlsplit(url)
    work = {
        "host": address.hostname,
        "port": address.port,
        "requests": [[one.label, one.wire] for one in requests],
        "connections": connections,
        "seconds": seconds,
        "pause": pause,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.load"],
        input=json.dumps(work).encode(),
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        check=True,
    )
    return Load(**json.loads(done.stdout))


@dataclass
class _Connection:
    socket: socket.socket | None = None
    label: str = ""
    began: float = 0.0
    free_at: float = 0.0
    received: bytearray = field(default_factory=bytearray)


class _Generator:
    def __init__(self, work: dict[str, Any]) -> None:
        self.address = (work["host"], work["port"])
        self.requests = [(label, wire.encode()) for label, wire in work["requests"]]
        self.seconds: float | None = work["seconds"]
        self.pause: float = work["pause"]
        self.connections = [_Connection() for _ in range(work["connections"])]
        self.selector = selectors.DefaultSelector()
        self.next = 0
        self.busy = 0
        self.times: dict[str, list[float]] = {}
        self.statuses: dict[str, dict[str, int]] = {}

    def run(self) -> Load:
        began = last = time.perf_counter()
        self.until = None if self.seconds is None else began + self.seconds
        waiting = list(self.connections)
        while True:
            now = time.perf_counter()
            ready = [one for one in waiting if one.free_at <= now]
            for connection in ready:
                if not self._more(now):
                    waiting = []
                    break
                waiting.remove(connection)
                self._ask(connection)
            if not self.busy and not waiting:
                break
            for key, _ in self.selector.select(0.001 if waiting else 1.0):
                if self._hear(key.data):
                    last = time.perf_counter()
                    key.data.free_at = last + self.pause
                    waiting.append(key.data)
            if time.perf_counter() - last > _GIVE_UP:
                break
        for connection in self.connections:
            if connection.label:
                self._count(connection.label, "unanswered")
        return Load(last - began, self.times, self.statuses)

    def _more(self, now: float) -> bool:
        if self.until is not None:
            return now < self.until
        return self.next < len(self.requests)

    def _ask(self, connection: _Connection) -> None:
        if connection.socket is None:
            connection.socket = socket.create_connection(self.address)
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.label, wire = self.requests[self.next % len(self.requests)]
        self.next += 1
        self.busy += 1
        connection.received.clear()
        connection.began = time.perf_counter()
        connection.socket.sendall(wire)

    def _hear(self, connection: _Connection) -> bool:
        """Take in what has come; return whether the connection is free again."""
        assert connection.socket is not None
        try:
            data = connection.socket.recv(65536)
        except OSError:
            data = b""
        connection.received += data
        status = _status(connection.received)
        if data and status is None:
            return False
        was_busy = bool(connection.label)
        if was_busy:
            self.busy -= 1
            if status is None:
                self._count(connection.label, "cut off")
            else:
                self.times.setdefault(connection.label, []).append(time.perf_counter() - connection.began)
                self._count(connection.label, status)
            connection.label = ""
        if not data or b"\r\nconnection: close" in connection.received.lower():
            self.selector.unregister(connection.socket)
            connection.socket.close()
            connection.socket = None
        return was_busy

    def _count(self, label: str, status: str) -> None:
        counts = self.statuses.setdefault(label, {})
        counts[status] = counts.get(status, 0) + 1


def _status(received: bytearray) -> str | None:
    """Return the status of a complete answer, None while it is not complete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = received[:end].lower()
    status = head[9:12].decode()
    if status in ("204", "304"):
        return status
    start = head.find(b"\r\ncontent-length:")
    if start >= 0:
        length = int(head[start + 17 :].split(b"\r\n", 1)[0])
        return status if len(received) >= end + 4 + length else None
    # In chunks, of which the last is empty; counted from the end of the line before it.
    return status if received[end + 2 :].endswith(b"\r\n0\r\n\r\n") else None


if __name__ == "__main__":
    ended = _Generator(json.load(sys.stdin)).run()
    json.dump({"seconds": ended.seconds, "times": ended.times, "statuses": ended.statuses}, sys.stdout)
