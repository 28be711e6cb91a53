"""A client of which a tenant says where it leads: it never reaches what the internet cannot reach."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from shared.outbound import NotAuthorized, Refused, Unavailable
from shared.outbound.client import Client, Timeouts
from shared.outbound.fetch import Policy, fetch
from shared.outbound.wire import call
from tests.outbound.raw_server import Server, answer
from tests.outbound.shop import PUBLIC_ADDRESS, SHOP, open_to
from tests.outbound.spellings import SPELLINGS

QUICK = Timeouts(connect=1, read=0.5, total=0.8)


@pytest.fixture
def canary() -> Iterator[Server]:
    """What must never be reached: every test that has it ends by looking."""
    server = Server()
    yield server
    server.close()
    assert server.connections == 0


def stranger(base_url: str, policy: Policy, **options: Any) -> Client:
    return Client("erp", base_url, **{"timeouts": QUICK, "policy": policy, **options})


def test_a_trusted_host_answers_at_the_address_that_was_looked_up(server: Server) -> None:
    client = stranger(f"http://{SHOP}:{server.port}/api", open_to(server))
    assert client.get("x", "/things", params={"a": "b"}).data == {}
    assert f"\r\nHost: {SHOP}:{server.port}\r\n".encode() in server.requests[0]
    assert b"\r\nAccept-Encoding: identity\r\n" in server.requests[0]
    client.get("x", "/things")
    assert server.connections == 1


def test_no_spelling_of_a_forbidden_host_reaches_the_canary(canary: Server, dialed: list[Any]) -> None:
    policy = open_to(canary, trusted=frozenset(), ports=(80, 443, canary.port))
    codes = set()
    for spelling in SPELLINGS:
        try:
            client = stranger(f"http://{spelling}:{canary.port}", policy)
        except ValueError:
            continue  # not even a base URL
        with pytest.raises(Refused) as caught:
            client.get("x", "/samples")
        assert caught.value.provider == "erp"
        codes.add(caught.value.code)
    assert codes <= {"url_not_allowed", "invalid_request"}
    assert dialed == []


def test_the_canary_sings(server: Server) -> None:
    """With every address admitted the very same way leads to it."""
    policy = open_to(server, ports=(server.port,), admits=lambda address: True)
    assert stranger(f"http://127.0.0.1:{server.port}", policy).get("x", "/").data == {}


def test_the_checked_addresses_are_the_ones_dialed(canary: Server, dialed: list[Any]) -> None:
    """A name that is public when it is checked and loopback when asked again: it is asked once for each call."""
    answers = iter([[PUBLIC_ADDRESS, "2600:1406::17"], ["127.0.0.1"]])
    policy = Policy(ports=(canary.port,), resolve=lambda host, port: next(answers))
    client = stranger(f"http://rebind.example:{canary.port}", policy)
    with pytest.raises(Unavailable):
        client.get("x", "/")
    assert [address[:2] for address in dialed] == [(PUBLIC_ADDRESS, canary.port), ("2600:1406::17", canary.port)]
    with pytest.raises(Refused) as caught:
        client.get("x", "/")
    assert caught.value.code == "url_not_allowed"
    assert len(dialed) == 2


@pytest.mark.parametrize("private", ["127.0.0.1", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "169.254.169.254"])
def test_one_private_address_of_several_is_enough(private: str, canary: Server, dialed: list[Any]) -> None:
    policy = Policy(ports=(canary.port,), resolve=lambda host, port: [PUBLIC_ADDRESS, private])
    with pytest.raises(Refused) as caught:
        stranger(f"http://mixed.example:{canary.port}", policy).get("x", "/")
    assert caught.value.code == "url_not_allowed"
    assert dialed == []


def test_a_name_that_does_not_resolve_may_do_so_later() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror("unknown")

    with pytest.raises(Unavailable) as caught:
        stranger("http://gone.example", Policy(resolve=unknown)).get("x", "/")
    assert (caught.value.code, caught.value.provider) == ("url_host_unknown", "erp")


def test_a_redirect_is_no_way_around(server: Server, canary: Server) -> None:
    server.handler = answer(b"", "302 Found", f"Location: {canary.url}/")
    with pytest.raises(Refused) as caught:
        stranger(f"http://{SHOP}:{server.port}", open_to(server)).get("x", "/")
    assert caught.value.status == 302


def test_the_addresses_of_one_call_are_not_those_of_the_next(server: Server) -> None:
    stranger(f"http://{SHOP}:{server.port}", open_to(server)).get("x", "/")
    assert call.addresses == ()
    with pytest.raises(Refused):
        stranger("http://127.0.0.1", Policy()).get("x", "/")
    assert call.addresses == ()
    other = Client("acme", server.url, timeouts=QUICK)
    assert other.get("x", "/").data == {}
    policy = open_to(server)
    assert fetch(f"http://{SHOP}:{server.port}/", max_bytes=10, total=2, connect=1, policy=policy).size == 2


def test_what_is_compressed_is_not_read(server: Server) -> None:
    client = stranger(f"http://{SHOP}:{server.port}", open_to(server))
    server.handler = answer(gzip.compress(b" " * 1_000_000), "200 OK", "Content-Encoding: gzip")
    with pytest.raises(Refused) as caught:
        client.get("x", "/")
    assert caught.value.code == "encoding_refused"
    server.handler = answer(gzip.compress(b" " * 1_000_000), "401 No", "Content-Encoding: gzip")
    with pytest.raises(NotAuthorized):
        client.get("x", "/")


def test_headers_without_an_end_are_too_large(server: Server) -> None:
    def endless(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"1;" + b"x" * 60_000 + b"\r\n \r\n")

    server.handler = endless
    client = stranger(
        f"http://{SHOP}:{server.port}", open_to(server), max_bytes=1000, timeouts=Timeouts(connect=1, read=5, total=10)
    )
    with pytest.raises(Refused) as caught:
        client.get("x", "/")
    assert caught.value.code == "answer_too_large"


def test_the_words_of_errors_are_cleaned_before_anybody_keeps_them(server: Server) -> None:
    client = stranger(
        f"http://{SHOP}:{server.port}", open_to(server), clean=lambda said: said.replace("sesame", "[redacted]")
    )
    server.handler = answer(b'{"error": "sesame does not open"}', "400 Bad")
    with pytest.raises(Refused) as refused:
        client.get("x", "/")
    assert refused.value.detail == "400: [redacted] does not open"
    assert "sesame" not in f"{refused.value!r} {refused.value}"

    def babble(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"sesame, what?\r\n\r\n")
        connection.close()

    server.handler = babble
    with pytest.raises(Unavailable) as lost:
        client.get("x", "/")
    assert "sesame" not in f"{lost.value!r} {lost.value}"


def test_only_named_hosts_are_trusted() -> None:
    assert Policy.trusting(()) == Policy()
    assert Policy.trusting(["sandbox:4010", "[::1]:4010"]).trusted == {("sandbox", 4010), ("::1", 4010)}
    with pytest.raises(ValueError, match="invalid literal"):
        Policy.trusting(["sandbox"])


def test_the_policy_says_whose_certificates_count() -> None:
    assert stranger("https://a.example", replace(Policy(), certificates="/some/bundle.pem"))._verify == (
        "/some/bundle.pem"
    )
    assert stranger("https://a.example", Policy())._verify is True
