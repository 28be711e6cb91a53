"""Whatever the host of a stranger answers, or does not, a fetch ends in time, bounded, and says what it means."""

from __future__ import annotations

import gzip
import io
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from shared.context import use
from shared.db.database import unit_of_work
from shared.outbound import ProviderError, RateLimited, Refused, Unavailable
from shared.outbound.fetch import Fetched, Policy, fetch
from shared.outbound.guard import RuleViolation
from tests.outbound.raw_server import Server, answer
from tests.outbound.shop import IMAGE, SHOP, get, open_to, refusal, shop, to


def test_what_is_sent_and_what_comes_back(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / ".netrc").write_text(f"machine {SHOP} login tenant password secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    steps = iter([
        answer(b"moved", "302 Found", "Location: /größe.png?a=1&b=ü#part", "Set-Cookie: session=1; Path=/"),
        answer(IMAGE, "200 OK", "Content-Type: Image/PNG; charset=x", "Set-Cookie: a=b"),
    ])  # fmt: skip
    server.handler = lambda connection, request: next(steps)(connection, request)
    file = io.BytesIO()
    fetched = get(shop(server), open_to(server), into=file)
    last = f"http://{SHOP}:{server.port}/gr%C3%B6%C3%9Fe.png?a=1&b=%C3%BC"
    assert fetched == Fetched(last, 200, "image/png", len(IMAGE), redirects=1, content=b"")
    assert file.getvalue() == IMAGE
    sent = server.requests[1].decode().lower()
    assert f"host: {SHOP}:{server.port}\r\n" in sent
    assert "accept-encoding: identity\r\n" in sent
    for nothing in ("cookie", "authorization", "referer", "proxy"):
        assert nothing not in sent


def test_the_body_is_returned_without_a_file(server: Server) -> None:
    server.handler = answer(IMAGE, "200 OK", "Content-Type: <script>")
    fetched = get(shop(server).replace("img.shop", "IMG%2eshop"), open_to(server), max_bytes=len(IMAGE))
    assert (fetched.content, fetched.media_type_claimed, fetched.redirects) == (IMAGE, "", 0)
    assert IMAGE.hex() not in repr(fetched)


@pytest.mark.parametrize("hops", [3, 4])
def test_three_redirects_and_no_more(hops: int, server: Server) -> None:
    left = iter([to(f"/{hop}", "307 Temporary Redirect") for hop in range(hops)] + [answer(IMAGE)])
    server.handler = lambda connection, request: next(left)(connection, request)
    if hops == 3:
        assert get(shop(server), open_to(server)).redirects == 3
    else:
        assert refusal(shop(server), open_to(server)) == "too_many_redirects"
        assert len(server.requests) == 4


def test_a_loop_ends(server: Server) -> None:
    server.handler = to("/a.png", "308 Permanent Redirect")
    assert refusal(shop(server), open_to(server)) == "too_many_redirects"
    assert refusal(shop(server), open_to(server), max_redirects=0) == "too_many_redirects"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        ("404 Not Found", Refused, "url_not_found"),
        ("410 Gone", Refused, "url_not_found"),
        ("401 Unauthorized", Refused, "url_not_public"),
        ("403 Forbidden", Refused, "url_not_public"),
        ("418 I'm a teapot", Refused, "url_refused"),
        ("204 No Content", Refused, "url_refused"),
        ("206 Partial Content", Refused, "url_refused"),
        ("304 Not Modified", Refused, "url_refused"),
        ("302 Found", Refused, "redirect_refused"),
        ("429 Too Many Requests", RateLimited, "provider_rate_limited"),
        ("408 Request Timeout", Unavailable, "provider_unavailable"),
        ("503 Service Unavailable", Unavailable, "provider_unavailable"),
    ],
)
def test_what_each_status_means(status: str, kind: type[ProviderError], code: str, server: Server) -> None:
    server.handler = answer(b"", status, "Retry-After: 7")
    with pytest.raises(kind) as caught:
        get(shop(server), open_to(server))
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.provider) == (code, "web")
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7


HEAD = b"HTTP/1.1 200 OK\r\n"


def drip(connection: socket.socket, _: bytes) -> None:
    connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def drip_headers(connection: socket.socket, _: bytes) -> None:
    connection.sendall(HEAD)
    while True:
        connection.sendall(b"X")
        time.sleep(0.02)


def redirect_slowly(connection: socket.socket, _: bytes) -> None:
    time.sleep(0.2)
    to("/again")(connection, _)


@pytest.mark.parametrize("handler", [drip, drip_headers, redirect_slowly, lambda connection, _: time.sleep(2)])
def test_no_trickle_outlasts_the_deadline(handler: Any, server: Server) -> None:
    server.handler = handler
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        get(shop(server), open_to(server), total=0.5, max_redirects=100)
    assert caught.value.code == "url_timeout"
    assert time.monotonic() - started < 2


def test_a_name_that_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def slow(*_: Any, **__: Any) -> Any:
        time.sleep(0.5)
        return []

    for look_up, code in ((nothing, "url_host_unknown"), (slow, "url_timeout")):
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        with pytest.raises(Unavailable) as caught:
            fetch("http://nowhere.example/", max_bytes=1, total=1, connect=0.1)
        assert caught.value.code == code
    with pytest.raises(Unavailable):
        get("http://nowhere.example/", Policy(resolve=lambda host, port: []))


def endless(data: bytes, head: bytes = b"") -> Any:
    def handle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(HEAD + head + b"\r\n")
        while True:
            connection.sendall(data)

    return handle


CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "handler",
    [
        answer(bytes(10_001)),
        endless(bytes(65536)),
        endless(b"1000\r\n" + bytes(4096) + b"\r\n", CHUNKED),
        endless(b"FFFFFFFF\r\n" + bytes(65536), CHUNKED),
        endless(b"1;ext=" + b"x" * 4000 + b"\r\nx\r\n", CHUNKED),
        endless(b"x", b"Content-Length: 99999999999999999999999\r\n"),
    ],
    ids=["length", "no_length", "chunks", "one_huge_chunk", "chunk_extensions", "huge_length"],
)
def test_too_much_is_cut_off(handler: Any, server: Server) -> None:
    server.handler = handler
    file = io.BytesIO()
    assert refusal(shop(server), open_to(server), into=file, total=20) == "too_large"
    assert len(file.getvalue()) <= 10_000


def test_endless_lines_that_are_no_body_end_too(server: Server) -> None:
    server.handler = endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, b"X: " + b"y" * 70_000)
    with pytest.raises(ProviderError):
        get(shop(server), open_to(server))

    def go_on(connection: socket.socket, _: bytes) -> None:
        while True:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    server.handler = go_on
    assert refusal(shop(server), open_to(server), total=20) == "too_large"


@pytest.mark.parametrize(
    "header",
    ["Content-Encoding: gzip", "Content-Encoding: identity, br", "Transfer-Encoding: gzip, chunked",
     "Content-Encoding: zstd", "Content-Encoding: deflate"],
)  # fmt: skip
def test_what_is_compressed_is_refused(header: str, server: Server) -> None:
    server.handler = answer(gzip.compress(bytes(5_000_000)), "200 OK", header)
    assert refusal(shop(server), open_to(server)) == "encoding_refused"
    server.handler = answer(IMAGE, "200 OK", "Content-Encoding: identity")
    assert get(shop(server), open_to(server)).content == IMAGE


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 100, b"SSH-2.0-x\r\n", HEAD, HEAD + b"Content-Length: 9\r\n\r\nhalf", HEAD + CHUNKED + b"\r\nzz\r\n",
     HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", HEAD + CHUNKED + b"\r\n-5\r\nabc"],
)  # fmt: skip
def test_garbage_may_be_better_next_time(data: bytes, server: Server) -> None:
    def handle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_RDWR)

    server.handler = handle
    if data == HEAD:  # to http.client a head that breaks off is a head, with an empty body
        assert get(shop(server), open_to(server)).size == 0
        return
    with pytest.raises(Unavailable) as caught:
        get(shop(server), open_to(server))
    assert caught.value.code == "url_unreachable"


def test_a_full_disk_is_not_the_hosts_fault(server: Server) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    server.handler = answer(IMAGE)
    with pytest.raises(OSError, match="No space left"):
        get(shop(server), open_to(server), into=Full())


def test_the_rule_holds(server: Server, request: pytest.FixtureRequest) -> None:
    with use(in_request=True), pytest.raises(RuleViolation):
        get(shop(server), open_to(server))
    request.getfixturevalue("tenant")
    with unit_of_work(), pytest.raises(RuleViolation):
        get(shop(server), open_to(server))
    assert server.connections == 0
