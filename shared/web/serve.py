"""Serving an app: within this process for embedded mode and tests, and by gunicorn for real.

    with serve(app, port=0) as server:
        requests.get(server.url + "/livez")

    gunicorn_options(settings, threads=16)      # for gunicorn's BaseApplication

`serve` speaks HTTP/1.1 with kept connections and chunked answers, serves at most `threads` requests at a time,
and stops gracefully. It has no defenses against hostile clients beyond limits on time and size: it is
meant for the loopback of a developer's machine.
"""

from __future__ import annotations

import signal
import socket
import socketserver
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from flask import Flask
from werkzeug.serving import DechunkedInput, WSGIRequestHandler

from shared.telemetry.logs import get_logger

__all__ = ["Server", "gunicorn_options", "serve"]

log = get_logger(__name__)

_IDLE: Final = 65.0
"""Seconds that a silent connection is kept: longer than load balancers keep theirs (60), so that it is never
us who close one on which a request is just under way."""

_DRAIN: Final = 1 << 20  # bytes of an unread body that are swallowed to keep the connection


def serve(app: Flask, host: str = "127.0.0.1", port: int = 0, threads: int = 16) -> Server:
    """Serve `app` in threads of this process, from now until `stop()`; port 0 takes a free one.

    Raises OSError when the port is taken.
    """
    return Server(app, host, port, threads)


class Server:
    """A running server; also a context manager that stops it."""

    def __init__(self, app: Flask, host: str, port: int, threads: int) -> None:
        self._app = app
        self._listener = _Listener((host, port), app, threads)
        self.host = host
        self.port: int = self._listener.server_address[1]
        self.url = f"http://{host}:{self.port}"
        self._thread = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.1}, name=f"http {port}", daemon=True
        )
        self._thread.start()

    def stop(self, grace: float = 10.0) -> None:
        """Take no more requests, end streams, and give those under way up to `grace` seconds."""
        here = self._app.extensions.get("backroom")
        if here is not None:
            here.drain()
        self._listener.shutdown()
        self._listener.drain(grace)
        self._listener.server_close()
        self._thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    # What werkzeug's handler asks its server.
    multithread, multiprocess, ssl_context, passthrough_errors = True, False, None, False

    def __init__(self, address: tuple[str, int], app: Flask, threads: int) -> None:
        self.app = app
        self.places = threading.BoundedSemaphore(threads)
        self.stopping = False
        self._busy = 0
        self._idle: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(address, _Handler)

    def idle(self, connection: socket.socket) -> None:
        """This connection waits for its next request."""
        with self._changed:
            self._idle.add(connection)

    def busy(self, connection: socket.socket) -> None:
        """A request has come in on this connection."""
        with self._changed:
            self._idle.discard(connection)
            self._busy += 1

    def done(self) -> None:
        """A request was answered."""
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def gone(self, connection: socket.socket) -> None:
        with self._changed:
            self._idle.discard(connection)

    def drain(self, grace: float) -> None:
        """Wait for the requests under way, then cut what waits for a next one."""
        self.stopping = True
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0, timeout=grace)
            for connection in self._idle:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.warning("connection_failed", exc_info=True)

    def log(self, kind: str, message: str, *arguments: Any) -> None:
        """What werkzeug's handler has to say; the canonical line of each request is written elsewhere."""


class _Body:
    """A request's body which knows how much of it is unread."""

    def __init__(self, stream: Any, length: int) -> None:
        self._stream = stream
        self.left = length

    def read(self, size: int = -1) -> bytes:
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        data: bytes = self._stream.read(wanted) if wanted else b""
        self.left -= len(data)
        return data

    def readline(self, size: int = -1) -> bytes:
        limit = self.left if size is None or size < 0 else min(size, self.left)
        data: bytes = self._stream.readline(limit) if limit else b""
        self.left -= len(data)
        return data

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


class _Handler(WSGIRequestHandler):
    """One connection. werkzeug's handler, but that it keeps the connection where it can."""

    protocol_version = "HTTP/1.1"
    server_version = "backroom"
    sys_version = ""
    timeout = _IDLE
    wbufsize = 1 << 16  # head and body leave in one packet
    disable_nagle_algorithm = True
    server: _Listener  # type: ignore[assignment]

    def handle_one_request(self) -> None:
        self.server.idle(self.connection)
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or self.server.stopping:
            self.close_connection = True
            return
        self.server.busy(self.connection)
        try:
            if len(self.raw_requestline) > 65536:
                self.requestline = self.request_version = self.command = ""
                self.send_error(414)
            elif self.parse_request():
                self.run_wsgi()
            self.wfile.flush()
        finally:
            self.server.done()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The web kit writes the one line about each request."""

    def finish(self) -> None:
        self.server.gone(self.connection)
        with suppress(OSError):
            super().finish()

    def run_wsgi(self) -> None:
        coding, length = self.headers.get("Transfer-Encoding"), self.headers.get("Content-Length")
        if (coding and length) or (length and not length.isdigit()):
            # RFC 9112 §6.3: two ideas of where the body ends are an attack or a bug.
            self.close_connection = True
            self.send_error(400)
            return
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
        self.environ = environ = self.make_environ()
        environ["gunicorn.socket"] = self.connection  # where streams look whether the client is still there
        body = environ["wsgi.input"]
        if not isinstance(body, DechunkedInput):
            body = environ["wsgi.input"] = _Body(self.rfile, int(length or 0))
        head: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            head[:] = status, headers
            return self.wfile.write

        with self.server.places:
            chunks = self.server.app(environ, start_response)
        try:
            self._answer(head[0], head[1], chunks, body)
        except (OSError, ValueError):  # the client is gone
            self.close_connection = True
        finally:
            if hasattr(chunks, "close"):
                chunks.close()

    def _answer(
        self, status: str, headers: list[tuple[str, str]], chunks: Iterable[bytes], body: _Body | DechunkedInput
    ) -> None:
        code, _, phrase = status.partition(" ")
        names = {name.lower() for name, _ in headers}
        empty = self.command == "HEAD" or code in ("204", "304")
        chunked = not (empty or "content-length" in names)
        if not self._swallow(body) or self.server.stopping or (chunked and self.request_version < "HTTP/1.1"):
            self.close_connection = True
        self.send_response(int(code), phrase)
        for name, value in headers:
            self.send_header(name, value)
        if chunked and self.request_version >= "HTTP/1.1":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            chunked = False
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        streams = "content-length" not in names
        for data in chunks:
            if data and not empty:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                if streams:
                    self.wfile.flush()
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _swallow(self, body: _Body | DechunkedInput) -> bool:
        """Read what the app left of the body; return whether the next request can follow on it."""
        if isinstance(body, _Body):
            if body.left <= _DRAIN:
                body.read()
            return body.left == 0
        with suppress(OSError):  # what a broken encoding raises
            return not body.read(_DRAIN) or not body.read(1)
        return False


def gunicorn_options(
    *, bind: str, threads: int, workers: int = 1, grace: int = 25, reuse_port: bool = False
) -> dict[str, Any]:
    """Return gunicorn's settings for an API: threads, kept connections, a graceful end.

    One process per pod by default: its metrics are then its own, and Kubernetes does the multiplying.
    `grace` is how many seconds requests under way have after SIGTERM.
    """
    return {
        "bind": bind,
        "workers": workers,
        "worker_class": "gthread",
        "threads": threads,
        "keepalive": int(_IDLE),
        "timeout": 60,  # a worker whose main loop hangs is replaced; a request is bounded by the Rule
        "graceful_timeout": grace,
        "reuse_port": reuse_port,
        "worker_tmp_dir": "/dev/shm",  # noqa: S108 - its heartbeat file must not wait for a disk
        "logger_class": "shared.telemetry.gunicorn.Logger",
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "proc_name": "backroom",
        "post_worker_init": _drain_on_sigterm,
    }


def _drain_on_sigterm(worker: Any) -> None:
    """End streams and waits as soon as a worker is told to stop: they would use up the grace period."""
    here = worker.wsgi.extensions["backroom"]
    before = signal.getsignal(signal.SIGTERM)

    def drain(number: int, frame: Any) -> None:
        here.drain()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, drain)
