"""The sockets: an HTTP/1.1 server, one thread per connection, that can also misbehave on the wire.

The standard library's threading server is chosen over WSGI because the faults need the socket itself: to
reset it, to stop in the middle of a body, to see that the client has left. A hanging call costs one sleeping
thread; several hundred are fine.
"""

import contextlib
import select
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from .control import Control
from .core import Core, Options
from .web import HttpError, Request, Response

#: Bodies beyond this are refused: nothing that the providers accept comes near it.
MAX_BODY = 1024 * 1024


class _Handler(BaseHTTPRequestHandler):
    """One connection; also the `Wire` of the call that is being answered on it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Server"

    def serve(self) -> None:
        url = urlsplit(self.path)
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True
            self.send(HttpError(413, {"detail": "A body of known and moderate length, please."}).response())
            return
        request = Request(
            method=self.command,
            path=url.path.rstrip("/") or "/",
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers=cast(Mapping[str, str], self.headers),
            body=self.rfile.read(int(length)),
            base_url=f"http://{self.headers['Host']}" if self.headers["Host"] else self.server.core.base_url,
        )
        if self.server.control.owns(request.path):
            self.send(self.server.control.handle(request))
        else:
            self.server.core.handle(request, self)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    def send(self, response: Response) -> None:
        self._write(self._head(response) + self._body(response))

    def send_half(self, response: Response) -> None:
        self._write(self._head(response) + response.body[: len(response.body) // 2])
        self.drop()

    def send_slowly(self, response: Response, pause: Callable[[], None]) -> None:
        self._write(self._head(response))
        try:
            for at in range(len(response.body)):
                pause()
                self.wfile.write(response.body[at : at + 1])
        except OSError:
            self.close_connection = True

    def stream(self, response: Response, parts: Iterator[bytes]) -> None:
        self.close_connection = True
        self._write(self._head(response, sized=False))
        with contextlib.suppress(OSError):  # The client has had enough.
            for part in parts:
                self.wfile.write(part)

    def drop(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):  # The client may have been faster.
            self.connection.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        self.close_connection = True
        # Lingering for zero seconds makes close() send RST instead of FIN. The buffered reader holds the
        # socket open and has to go first.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()

    def client_gone(self) -> bool:
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        try:
            return bool(poll.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the log of calls is at /_sandbox/calls."""

    def _head(self, response: Response, sized: bool = True) -> bytes:
        headers = {
            "Content-Type": response.content_type,
            **({"Content-Length": str(len(response.body))} if sized else {}),
            "Date": self.date_time_string(),
            **response.headers,
        }
        if response.status == HTTPStatus.NO_CONTENT:
            headers.pop("Content-Type")
            headers.pop("Content-Length", None)
        if self.close_connection:
            headers["Connection"] = "close"
        try:
            reason = HTTPStatus(response.status).phrase
        except ValueError:
            reason = "Unknown"
        lines = [
            f"HTTP/1.1 {response.status} {reason}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _body(self, response: Response) -> bytes:
        return b"" if self.command == "HEAD" else response.body

    def _write(self, data: bytes) -> None:
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True  # The client has left; what it asked for was done all the same.


class Server(ThreadingHTTPServer):
    """Listens on construction, answers between `start` and `stop`."""

    daemon_threads = True
    block_on_close = False
    #: Connections that may wait to be accepted; the default of 5 resets clients that come as a crowd.
    request_queue_size = 512

    def __init__(self, options: Options, host: str = "127.0.0.1", port: int = 0):
        self._connections: set[socket.socket] = set()
        super().__init__((host, port), _Handler)
        self.url = f"http://{host if host not in ('', '0.0.0.0') else '127.0.0.1'}:{self.server_address[1]}"  # noqa: S104
        try:
            self.core = Core(options, self.url)
            self.core.start(host)
        except BaseException:
            self.server_close()
            raise
        self.control = Control(self.core)
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.05}, name="sandbox-server", daemon=True
        )

    def server_bind(self) -> None:
        # HTTPServer.server_bind asks the name service for our own name, which can take seconds.
        socketserver.TCPServer.server_bind(self)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and cut every connection, also hanging ones, as a killed process would."""
        self.shutdown()
        self.server_close()
        self.core.stop()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is this program's daily bread; anything else is a bug and is printed."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
