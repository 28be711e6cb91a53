"""The proxy passes everything on, and cuts or freezes what it is told to."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator

import psycopg
import pytest

from shared.runtime.embedded.waiting import wait_until
from shared.testing.proxy import TcpProxy
from shared.testing.servers import PostgresServer, postgres_server


@pytest.fixture
def echo() -> Iterator[str]:
    """The URL of a server that sends back what it gets, and closes when the client has finished."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def proxy(echo: str) -> Iterator[TcpProxy]:
    with TcpProxy(echo) as proxy:
        yield proxy


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def ask(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(len(text))


def test_a_large_stream_passes_whole_though_the_reader_is_slow(proxy: TcpProxy) -> None:
    sent, received = hashlib.sha256(), hashlib.sha256()
    with connect(proxy) as connection:

        def send() -> None:
            for number in range(200):
                chunk = bytes([number]) * 50_000
                sent.update(chunk)
                connection.sendall(chunk)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        while data := connection.recv(10_000):
            received.update(data)
        sender.join()
    assert received.digest() == sent.digest()
    assert wait_until(lambda: proxy.connections == 0, 10)


def test_dropped_connections_are_reset_and_new_ones_welcome(proxy: TcpProxy) -> None:
    with connect(proxy) as first, connect(proxy) as second:
        assert (ask(first, b"a"), ask(second, b"b")) == (b"a", b"b")
        assert proxy.drop_all() == 2
        for connection in (first, second):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
    with connect(proxy) as third:
        assert ask(third, b"c") == b"c"


def test_a_pause_holds_back_and_a_resume_delivers(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"before") == b"before"
        proxy.pause()
        connection.sendall(b"during")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(6)
        with connect(proxy) as other:
            other.settimeout(0.3)
            with pytest.raises(TimeoutError):
                ask(other, b"x")
        proxy.resume()
        connection.settimeout(10)
        assert connection.recv(6) == b"during"


def test_a_dead_target_resets_the_client_and_a_living_one_is_found_again() -> None:
    target = socket.create_server(("127.0.0.1", 0))
    port = target.getsockname()[1]
    target.close()
    with TcpProxy(f"tcp://127.0.0.1:{port}") as proxy:
        # It may be reset as early as it is made.
        with pytest.raises(ConnectionResetError), connect(proxy) as connection:
            connection.recv(1)
        with socket.create_server(("127.0.0.1", port)) as target, connect(proxy) as connection:
            server, _ = target.accept()
            with server:
                server.sendall(b"hello")
                assert connection.recv(5) == b"hello"


def test_a_closed_proxy_refuses(echo: str) -> None:
    proxy = TcpProxy(echo)
    connection = connect(proxy)
    assert ask(connection, b"a") == b"a"
    proxy.close()
    proxy.close()
    with connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


@pytest.mark.parametrize("private", [False, True])
def test_a_database_url_leads_through_the_proxy(private: bool, postgres: PostgresServer) -> None:
    server = postgres_server(private=True) if private else postgres
    with TcpProxy(server.url) as proxy, psycopg.connect(proxy.url, autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert proxy.drop_all() == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        with psycopg.connect(proxy.url) as again:
            assert again.execute("SELECT 1").fetchone() == (1,)
    if private:
        server.close()


@pytest.mark.parametrize(
    ("target", "before", "after"),
    [
        (
            "amqp://u:p%40@127.0.0.1:{}/v%2Fhost?heartbeat=5",
            "amqp://u:p%40@127.0.0.1:",
            "/v%2Fhost?heartbeat=5",
        ),
        (
            "postgresql://me@/db?host=/nowhere&application_name=x",
            "postgresql://me@127.0.0.1:",
            "/db?application_name=x",
        ),
    ],
)
def test_only_host_and_port_of_the_url_change(target: str, before: str, after: str) -> None:
    with TcpProxy(target.format(5672)) as proxy:
        assert proxy.url == f"{before}{proxy.port}{after}"
