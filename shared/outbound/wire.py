"""HTTP connections on which every wait ends at one deadline, whatever the other side does.

The time-outs of `requests` bound each single wait: a server that sends a byte a second, in a header or in
a body, keeps a caller for as long as it likes. Here each wait on the socket is cut to what is left of the
call's total, from the look-up of the name through the TLS handshake and every header to the last byte.

`call` is the call of this thread: it holds the limits, and whether a byte of the request went out, from
which `client` knows a call that certainly had no effect.
"""

from __future__ import annotations

import io
import ipaddress
import queue
import socket
import threading
import time
from typing import Any

import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
from requests.adapters import HTTPAdapter

__all__ = ["Adapter", "Call", "Pool", "TLSPool", "call", "look_up"]


class Call(threading.local):
    """The call that this thread makes: its limits and how far it got. Times are of the monotonic clock."""

    deadline: float = float("inf")
    connect_limit: float = 3.0
    read_limit: float = 30.0
    sent: bool = False
    addresses: tuple[str, ...] = ()
    """Where to connect to, whatever the name may resolve to by now; empty: to what it resolves to."""
    receive_limit: float = float("inf")
    received: int = 0

    def begin(self, *, connect: float, read: float, total: float, receive: float = float("inf")) -> None:
        """Start the clock of a call; limits in seconds, and `receive` in bytes, of all that is received."""
        self.deadline = time.monotonic() + total
        self.connect_limit = connect
        self.read_limit = read
        self.sent = False
        self.addresses = ()
        self.receive_limit = receive
        self.received = 0

    def left(self, limit: float) -> float:
        """Return the time that the next wait may take: `limit`, or less if the deadline is nearer.

        Raises TimeoutError when the deadline has passed.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for the whole call is over")
        return min(limit, left)

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self.deadline


call = Call()


class _Socket:
    """A connected socket, plain or TLS, each of whose waits is cut to what is left of the call."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def settimeout(self, _: float | None) -> None:
        """Do nothing: the call's limits decide, not what urllib3 sets once per request."""

    def sendall(self, data: Any, flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        while view:
            self._inner.settimeout(call.left(call.read_limit))
            call.sent = True  # before the attempt: what a failed send has put on the wire, nobody knows
            view = view[self._inner.send(view, flags) :]

    def makefile(self, mode: str = "r", buffering: int | None = None, **_: Any) -> io.BufferedReader:
        assert mode == "rb", "http.client reads bytes"
        return io.BufferedReader(_Reader(self._inner))


class _Reader(io.RawIOBase):
    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._raw = inner.makefile("rb", buffering=0)  # keeps the socket open until the answer is read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._inner.settimeout(call.left(call.read_limit))
        count = self._raw.readinto(buffer)
        call.received += count or 0
        if call.received > call.receive_limit:
            raise ConnectionAbortedError("more was received than the whole call may receive")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def look_up(host: str, port: int) -> list[tuple[Any, ...]]:
    """Return the addresses of a host, within the time that the call has.

    The C library's resolver cannot be interrupted, so that it runs in a thread of its own, which is left
    behind when it is late. New connections are rare enough for that.
    """
    try:
        ipaddress.ip_address(host)
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except ValueError:
        pass  # a name
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            found.put(error)

    threading.Thread(target=look_up, name="outbound-resolver", daemon=True).start()
    try:
        answer = found.get(timeout=call.left(call.connect_limit))
    except queue.Empty:
        raise TimeoutError("the name was not resolved in time") from None
    if isinstance(answer, Exception):
        raise answer
    return list(answer)


def _numeric(address: str, port: int) -> tuple[Any, ...]:
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]


def _connect(host: str, port: int, options: Any) -> socket.socket:
    until = time.monotonic() + call.left(call.connect_limit)
    addresses = [_numeric(address, port) for address in call.addresses] or look_up(host, port)
    failure: OSError = OSError("the name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = socket.socket(family, kind, protocol)
        try:
            for option in options or ():
                connection.setsockopt(*option)
            # Each address gets its share, so that a dead IPv6 route does not use up what IPv4 needs.
            share = max(until - time.monotonic(), 0.05) / (len(addresses) - number)
            connection.settimeout(call.left(share))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            connection.settimeout(call.left(call.connect_limit))  # for the TLS handshake
            return connection
    raise failure


def _new_connection(self: urllib3.connection.HTTPConnection) -> socket.socket:
    try:
        return _connect(self._dns_host, self.port or self.default_port, self.socket_options)
    except socket.gaierror as error:
        raise urllib3.exceptions.NameResolutionError(self.host, self, error) from error
    except TimeoutError as error:
        raise urllib3.exceptions.ConnectTimeoutError(self, f"no connection to {self.host} in time") from error
    except OSError as error:
        raise urllib3.exceptions.NewConnectionError(self, f"no connection to {self.host}: {error}") from error


class _Connection(urllib3.connection.HTTPConnection):
    _new_conn = _new_connection

    def connect(self) -> None:
        super().connect()
        self.sock = _Socket(self.sock)


class _TLSConnection(urllib3.connection.HTTPSConnection):
    _new_conn = _new_connection

    def connect(self) -> None:
        super().connect()
        self.sock = _Socket(self.sock)


class Pool(urllib3.connectionpool.HTTPConnectionPool):
    """Plain connections that keep to `call`."""

    ConnectionCls = _Connection


class TLSPool(urllib3.connectionpool.HTTPSConnectionPool):
    """TLS connections that keep to `call`; name and certificate are of the host, whatever its address."""

    ConnectionCls = _TLSConnection


class Adapter(HTTPAdapter):
    """Transport of a session of `requests`: the connections above, and never a retry."""

    def __init__(self) -> None:
        super().__init__(pool_connections=4, pool_maxsize=1, max_retries=urllib3.Retry(0, read=False))

    def init_poolmanager(self, *arguments: Any, **settings: Any) -> None:
        super().init_poolmanager(*arguments, **settings)
        self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": TLSPool}
