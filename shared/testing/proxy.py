"""A TCP proxy that cuts or freezes connections on demand, to see what clients make of it."""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

DEFAULT_PORTS = {"amqp": 5672, "postgresql": 5432, "http": 80}

CHUNK = 65536
#: Beyond this many bytes on their way the proxy stops reading, so that a slow side slows the other.
MOST_BUFFERED = 4 * CHUNK

#: Closing with this option sends RST instead of FIN: the peer sees "connection reset".
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _End:
    """One side of a connection: its socket, and what waits to be sent to it."""

    socket: socket.socket
    waiting: bytearray = field(default_factory=bytearray)
    peer: _End | None = None
    # Nothing more will come from this side; the other is told once all before it has been delivered.
    finished: bool = False
    told: bool = False
    watched: int = 0


class TcpProxy:
    """Passes connections on to a server, until told otherwise.

    The target is a URL whose host and port are replaced in `url` by the proxy's own; everything else stays,
    so `url` can be used in place of the target. A PostgreSQL URL that names a Unix socket's directory works
    too. The proxy outlives restarts of its target. It runs in a thread of its own until `close`.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._port = int(self._listener.getsockname()[1])
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._orders: list[tuple[Callable[[], int], Future[int]]] = []
        self._guard = threading.Lock()
        self._ends: set[_End] = set()
        self._paused = False
        self._running = True
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._loop, name="tcp-proxy", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The loopback port that the proxy listens on."""
        return self._port

    @property
    def url(self) -> str:
        """The target's URL by way of the proxy."""
        credentials, at, _ = self._target.netloc.rpartition("@")
        query = urlencode([pair for pair in parse_qsl(self._target.query) if pair[0] not in ("host", "port")])
        return urlunsplit(self._target._replace(netloc=f"{credentials}{at}127.0.0.1:{self.port}", query=query))

    @property
    def connections(self) -> int:
        """How many connections are open through the proxy now."""
        return self._tell(lambda: len(self._ends) // 2)

    def drop_all(self) -> int:
        """Cut every live connection with RST on both sides, now; returns how many. New ones are welcome."""
        return self._tell(self._drop_all)

    def pause(self) -> None:
        """Let nothing through any more, in either direction, without closing anything: a black hole.

        New connections are accepted, and get no answer.
        """
        self._tell(lambda: self._set_paused(True))

    def resume(self) -> None:
        """Deliver what was held back since `pause`, and go on."""
        self._tell(lambda: self._set_paused(False))

    def close(self) -> None:
        """Cut every connection and stop listening."""
        if self._thread.is_alive():
            self._tell(self._stop)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tell(self, order: Callable[[], int]) -> int:
        """Have the loop's thread do it: closing a socket that another thread reads from delays the RST."""
        done: Future[int] = Future()
        with self._guard:
            if not self._running:
                raise RuntimeError("This proxy was closed.")
            self._orders.append((order, done))
            self._wake_write.send(b"!")
        return done.result(timeout=30)

    def _loop(self) -> None:
        while self._running:
            for key, events in self._selector.select():
                if key.fileobj is self._wake_read:
                    self._wake_read.recv(CHUNK)
                elif key.fileobj is self._listener:
                    self._accept()
                # An earlier event of the same round may have closed this end.
                elif key.data in self._ends and not self._paused:
                    self._serve(key.data, events)
            with self._guard:
                orders, self._orders = self._orders, []
            for order, done in orders:
                try:
                    done.set_result(order())
                except Exception as error:
                    done.set_exception(error)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        try:
            server = self._connect()
        except OSError:
            _reset(client)
            return
        near, far = _End(client), _End(server)
        near.peer, far.peer = far, near
        for end in (near, far):
            end.socket.setblocking(False)
            self._ends.add(end)
        self._watch(near, far)

    def _connect(self) -> socket.socket:
        host = dict(parse_qsl(self._target.query)).get("host") or self._target.hostname or "127.0.0.1"
        port = self._target.port or DEFAULT_PORTS.get(self._target.scheme.partition("+")[0], 0)
        if host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(os.path.join(host, f".s.PGSQL.{port}"))
            return server
        return socket.create_connection((host, port), timeout=5)

    def _serve(self, end: _End, events: int) -> None:
        peer = end.peer
        if peer is None:
            return
        try:
            if events & selectors.EVENT_WRITE and end.waiting:
                del end.waiting[: end.socket.send(end.waiting)]
            if events & selectors.EVENT_READ:
                data = end.socket.recv(CHUNK)
                end.finished = end.finished or not data
                peer.waiting += data
            for source, sink in ((end, peer), (peer, end)):
                if source.finished and not sink.waiting and not sink.told:
                    sink.told = True
                    sink.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            # One side reset the connection, so the other gets to see just that.
            self._forget(end, peer, reset=True)
            return
        if end.finished and peer.finished and not end.waiting and not peer.waiting:
            self._forget(end, peer, reset=False)
        else:
            self._watch(end, peer)

    def _watch(self, *ends: _End) -> None:
        for end in ends:
            wanted = 0
            if not self._paused:
                if end.peer and not end.finished and len(end.peer.waiting) < MOST_BUFFERED:
                    wanted |= selectors.EVENT_READ
                if end.waiting:
                    wanted |= selectors.EVENT_WRITE
            if wanted == end.watched:
                continue
            if not wanted:
                self._selector.unregister(end.socket)
            elif end.watched:
                self._selector.modify(end.socket, wanted, end)
            else:
                self._selector.register(end.socket, wanted, end)
            end.watched = wanted

    def _forget(self, *ends: _End, reset: bool) -> None:
        for end in ends:
            if end.watched:
                self._selector.unregister(end.socket)
            self._ends.discard(end)
            if reset:
                _reset(end.socket)
            else:
                end.socket.close()

    def _drop_all(self) -> int:
        dropped = len(self._ends) // 2
        self._forget(*list(self._ends), reset=True)
        return dropped

    def _set_paused(self, paused: bool) -> int:
        self._paused = paused
        self._watch(*self._ends)
        return 0

    def _stop(self) -> int:
        dropped = self._drop_all()
        self._running = False
        self._selector.close()
        for each in (self._listener, self._wake_read, self._wake_write):
            each.close()
        return dropped


def _reset(connection: socket.socket) -> None:
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.close()
