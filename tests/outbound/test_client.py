"""Every way in which a call can go wrong, over a real socket, and what the client makes of it."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from shared.context import use
from shared.db.database import Database, unit_of_work
from shared.outbound import (
    NotAuthorized,
    ProviderError,
    RateLimited,
    Refused,
    Unavailable,
    UnknownOutcome,
)
from shared.outbound.answers import retry_after
from shared.outbound.client import Client, Timeouts
from shared.outbound.guard import RuleViolation
from shared.telemetry import metrics
from tests.outbound.raw_server import Handler, Server, answer

QUICK = Timeouts(connect=1, read=0.5, total=0.8)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


@pytest.fixture
def client(server: Server) -> Client:
    return Client("acme", server.url, timeouts=QUICK)


def reset(connection: socket.socket, _: bytes) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def close(connection: socket.socket, _: bytes) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def hang(connection: socket.socket, _: bytes) -> None:
    connection.recv(1)


def truncate(connection: socket.socket, _: bytes) -> None:
    connection.sendall(HEAD + b'{"a":')
    connection.shutdown(socket.SHUT_RDWR)


def trickle_body(connection: socket.socket, _: bytes) -> None:
    connection.sendall(HEAD)
    trickle(connection)


def trickle_header(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    trickle(connection)


def trickle(connection: socket.socket) -> None:
    for _ in range(100):
        connection.sendall(b" ")
        time.sleep(0.05)


def garbage(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"\x00\x01 what is this\r\n\r\n")
    connection.close()


LOST: dict[str, Handler] = {
    "reset": reset,
    "close": close,
    "hang": hang,
    "truncate": truncate,
    "trickle_body": trickle_body,
    "trickle_header": trickle_header,
    "garbage": garbage,
    "no_json": answer(b"<html>"),
    "empty": answer(b""),
    "deep_json": answer(b"[" * 100_000),
    "bad_gzip": answer(b"not gzip at all", "200 OK", "Content-Encoding: gzip"),
    "500": answer(b"{}", "500 Oops"),
    "502": answer(b"<html>", "502 Bad Gateway"),
    "503": answer(b"", "503 Away"),
    "504": answer(b"", "504 Late"),
    "408": answer(b"", "408 Slow"),
    "425": answer(b"", "425 Early"),
}


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize("effect", [False, True])
def test_without_an_answer_the_effect_decides(server: Server, client: Client, how: str, effect: bool) -> None:
    server.handler = LOST[how]
    started = time.monotonic()
    with pytest.raises(ProviderError) as caught:
        client.post("buy", "/things", json={"a": 1}, effect=effect)
    assert time.monotonic() - started < 1.5
    assert type(caught.value) is (UnknownOutcome if effect else Unavailable)
    assert caught.value.unanswered
    assert caught.value.provider == "acme"
    assert len(server.requests) == 1, "a call is sent once"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad", Refused),
        ("403 No", Refused),
        ("404 Gone", Refused),
        ("409 Conflict", Refused),
        ("422 Wrong", Refused),
        ("301 Moved", Refused),
        ("307 Elsewhere", Refused),
        ("401 Who", NotAuthorized),
        ("429 Slow down", RateLimited),
    ],
)
@pytest.mark.parametrize("effect", [False, True])
def test_a_definite_no_is_one_for_effects_too(
    server: Server, client: Client, status: str, kind: type[ProviderError], effect: bool
) -> None:
    server.handler = answer(b'{"detail": "because"}', status, "Location: http://127.0.0.1:1/")
    with pytest.raises(kind) as caught:
        client.post("buy", "/things", effect=effect)
    assert caught.value.detail == f"{status[:3]}: because"
    assert caught.value.status == int(status[:3])
    assert not caught.value.unanswered


def test_see_other_after_an_effect_does_not_tell(server: Server, client: Client) -> None:
    server.handler = answer(b"", "303 See Other", "Location: /there")
    with pytest.raises(UnknownOutcome):
        client.post("buy", "/", effect=True)


def test_a_refusal_counts_although_its_body_is_cut_off(server: Server, client: Client) -> None:
    def handle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 404 Gone\r\nContent-Length: 100\r\n\r\n{")
        connection.shutdown(socket.SHUT_RDWR)

    server.handler = handle
    with pytest.raises(Refused):
        client.post("buy", "/", effect=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    "url",
    [f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid", "https://127.0.0.1:1"],
    ids=["closed port", "no such host", "closed port of TLS"],
)
def test_what_was_never_sent_had_no_effect(url: str) -> None:
    with pytest.raises(Unavailable, match="not sent") as caught:
        Client("acme", url, timeouts=QUICK).post("buy", "/", effect=True)
    assert not caught.value.unanswered


def test_a_server_that_does_not_speak_tls_was_sent_nothing(server: Server) -> None:
    url = server.url.replace("http:", "https:")
    server.handler = hang
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        Client("acme", url, timeouts=QUICK).post("buy", "/", effect=True)
    assert not caught.value.unanswered
    assert time.monotonic() - started < 1.5


def test_a_connection_that_is_not_accepted_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        started = time.monotonic()
        with pytest.raises(Unavailable):
            Client("acme", f"http://127.0.0.1:{port}", timeouts=Timeouts(connect=0.3, read=5, total=5)).get("x", "/")
        assert time.monotonic() - started < 1.0
        for filler in fillers:
            filler.close()


def test_a_name_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(10))
    started = time.monotonic()
    with pytest.raises(Unavailable, match="not sent"):
        Client("acme", "http://slow.example", timeouts=Timeouts(connect=0.2, read=5, total=5)).post(
            "buy", "/", effect=True
        )
    assert time.monotonic() - started < 1.0
    release.set()


@pytest.mark.parametrize("handler", [trickle_body, trickle_header])
def test_the_total_is_kept_against_a_trickle(server: Server, handler: Handler) -> None:
    server.handler = handler
    started = time.monotonic()
    with pytest.raises(Unavailable, match="whole call"):
        Client("acme", server.url, timeouts=Timeouts(connect=1, read=10, total=0.4)).get("x", "/")
    assert 0.3 < time.monotonic() - started < 0.8


def test_a_success(server: Server, client: Client) -> None:
    server.handler = answer(b'{"a": [1, "\xc3\xbc"]}', "201 Created", "X-Thing: 7")
    got = client.post("make", "things", json={"name": "ü"}, params={"q": "a b"}, headers={"Authorization": "Key x"})
    assert (got.status, got.data, got.headers["x-thing"]) == (201, {"a": [1, "ü"]}, "7")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /things?q=a+b HTTP/1.1\r\n")
    assert b"Authorization: Key x" in head
    assert b"traceparent" not in head
    assert body in (b'{"name": "\\u00fc"}', '{"name": "ü"}'.encode())


def test_no_content_is_no_garbage(server: Server, client: Client) -> None:
    server.handler = answer(b"", "204 Fine")
    assert client.post("drop", "/", effect=True).data is None


def test_compressed_answers_are_read_and_bombs_are_not(server: Server) -> None:
    client = Client("acme", server.url, timeouts=Timeouts(), max_bytes=1000)
    server.handler = answer(gzip.compress(b'{"a": 1}'), "200 OK", "Content-Encoding: gzip")
    assert client.get("x", "/").data == {"a": 1}
    server.handler = answer(gzip.compress(b" " * 10_000_000), "200 OK", "Content-Encoding: gzip")
    with pytest.raises(Refused) as caught:
        client.get("x", "/")
    assert caught.value.code == "answer_too_large"
    with pytest.raises(UnknownOutcome):
        client.post("buy", "/", effect=True)


def test_a_huge_error_page_is_cut(server: Server, client: Client) -> None:
    server.handler = answer(b"x" * 1_000_000, "404 Gone")
    with pytest.raises(Refused) as caught:
        client.get("x", "/")
    assert len(caught.value.detail) < 3000


def test_one_connection_is_kept_and_an_idle_one_is_not_trusted_with_an_effect(server: Server, client: Client) -> None:
    for _ in range(3):
        client.get("x", "/")
    client.post("buy", "/", effect=True)
    assert server.connections == 1
    client._local.used -= 10
    client.get("x", "/")
    assert server.connections == 1
    client._local.used -= 10
    client.post("buy", "/", effect=True)
    assert server.connections == 2


def test_a_connection_closed_while_idle_is_replaced(server: Server, client: Client) -> None:
    def once(connection: socket.socket, request: bytes) -> None:
        answer(b"{}")(connection, request)
        connection.shutdown(socket.SHUT_RDWR)

    server.handler = once
    for _ in range(3):
        client.post("buy", "/", effect=True)
        time.sleep(0.05)
    assert server.connections == 3


def test_after_a_failure_the_next_call_gets_its_own_answer(server: Server, client: Client) -> None:
    server.handler = trickle_body
    with pytest.raises(Unavailable):
        client.get("x", "/")
    server.handler = answer(b'{"mine": true}')
    assert client.get("x", "/").data == {"mine": True}


def test_cookies_and_the_environment_are_ignored(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.handler = answer(b"{}", "200 OK", "Set-Cookie: a=b")
    client.get("x", "/")
    client.get("x", "/")
    assert b"Cookie" not in server.requests[1]


def test_the_trace_is_passed_on_only_where_asked(server: Server) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with use(traceparent=parent):
        Client("ours", server.url, trace_headers=True).get("x", "/")
        Client("theirs", server.url).get("x", "/")
    assert parent.encode() in server.requests[0]
    assert parent.encode() not in server.requests[1]


def test_links_and_files_lead_only_where_allowed(server: Server, client: Client) -> None:
    server.handler = answer(b"{}")
    assert client.get("next", f"{server.url}/page2").status == 200
    for elsewhere in ("http://127.0.0.1:1/", "https://127.0.0.1/", f"http://u@127.0.0.1:{server.port}/"):
        with pytest.raises(Refused) as caught:
            client.get("next", elsewhere)
        assert caught.value.code == "foreign_url"
        with pytest.raises(Refused):
            client.download("file", elsewhere, hosts=("files.example", ".cdn.example"))
    for elsewhere in (
        "http://files.example/",
        "https://files.example:8443/",
        "https://files.example.evil/",
        "file:///etc/passwd",
        "https://[",
        "https://xcdn.example/",
    ):
        with pytest.raises(Refused):
            client.download("file", elsewhere, hosts=("files.example", ".cdn.example"))
    assert client.download("file", f"{server.url}/label.pdf").content == b"{}"
    assert b"Authorization" not in server.requests[-1]


def test_files_may_come_from_named_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolve(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror("not in a test")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    client = Client("acme", "http://127.0.0.1:1", timeouts=QUICK)
    for url in ("https://files.example/a?Signature=x", "https://a.b.cdn.example/"):
        with pytest.raises(Unavailable):
            client.download("file", url, hosts=("files.example", ".cdn.example"))
    assert asked == ["files.example", "a.b.cdn.example"]


def test_an_unusable_request_is_not_sent(server: Server, client: Client) -> None:
    for options in ({"headers": {"Authorization": "a\nb"}}, {"json": object()}):
        with pytest.raises((Refused, TypeError)):
            client.post("x", "/", **options)
    assert server.requests == []


@pytest.mark.parametrize("url", ["ftp://x", "http://", "https://u:p@x", "http://x?y", "nonsense", "http://x:99999"])
def test_a_base_url_is_checked(url: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        Client("acme", url)


def test_a_provider_may_name_its_errors_itself(server: Server) -> None:
    client = Client(
        "acme",
        server.url,
        classify=lambda status, headers, data: Refused(data["why"], code="too_old") if "why" in data else None,
    )
    server.handler = answer(b'{"why": "rate expired"}', "500 Oops")
    with pytest.raises(Refused) as caught:
        client.post("buy", "/", effect=True)
    assert (caught.value.code, caught.value.provider, caught.value.status) == ("too_old", "acme", 500)


def test_details_hold_no_secrets(server: Server, client: Client) -> None:
    server.handler = answer(b'{"detail": "bad header Authorization: ShippoToken shippo_live_abc"}', "400 Bad")
    with pytest.raises(Refused) as caught:
        client.get("x", "/")
    assert "shippo_live_abc" not in str(caught.value)
    server.handler = reset
    with pytest.raises(Unavailable) as lost:
        client.get("x", "/?token=sesame")
    assert "sesame" not in str(lost.value)


def test_retry_after() -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    epoch = now.timestamp()
    date = format_datetime(datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC), usegmt=True)
    cases = [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "86400"}, 900),
        ({"Retry-After": "inf"}, 900),
        ({"Retry-After": "nan"}, 10),
        ({"Retry-After": date}, 30),
        ({"Retry-After": "soon"}, 10),
        ({"Retry-After": "soon", "X-RateLimit-Reset": "20"}, 20),
        ({"X-RateLimit-Reset": str(epoch + 40)}, 40),
        ({}, 10),
    ]
    for headers, seconds in cases:
        assert retry_after(headers, now=now) == pytest.approx(seconds), headers


def test_each_call_is_counted_by_operation_and_outcome(server: Server, client: Client) -> None:
    def count(outcome: str) -> float:
        labels = {"service": "", "provider": "acme", "operation": "counted", "outcome": outcome}
        return metrics.REGISTRY.get_sample_value("provider_requests_total", labels) or 0.0

    client.get("counted", "/")
    server.handler = answer(b"", "404 Gone")
    with pytest.raises(Refused):
        client.get("counted", "/")
    server.handler = reset
    with pytest.raises(UnknownOutcome):
        client.post("counted", "/", effect=True)
    assert (count("ok"), count("refused"), count("unknown_outcome")) == (1, 1, 1)


def test_no_call_where_the_rule_forbids_it(server: Server, client: Client, database: Database) -> None:
    with use(in_request=True), pytest.raises(RuleViolation, match="acme x"):
        client.get("x", "/")
    with use(no_outgoing="a transactional job"), pytest.raises(RuleViolation, match="a transactional job"):
        client.get("x", "/")
    with (
        use(tenant_id="t"),
        unit_of_work(database=database),
        pytest.raises(RuleViolation, match="unit of work"),
    ):
        client.get("x", "/")
    assert server.connections == 0


def test_a_forked_child_makes_its_own_connection(server: Server, client: Client) -> None:
    client.get("x", "/")
    if (child := os.fork()) == 0:
        try:
            client.get("x", "/")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    client.get("x", "/")
    assert server.connections == 2


def test_threads_do_not_share_connections(server: Server, client: Client) -> None:
    threads = [threading.Thread(target=client.get, args=("x", "/")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.connections == 4
