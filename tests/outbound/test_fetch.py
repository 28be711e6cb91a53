"""A stranger's URL reaches what everybody can reach, and never a canary: spellings, names, redirects, TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.outbound import Refused, Unavailable
from shared.outbound.fetch import Policy
from tests.outbound.raw_server import Server, answer
from tests.outbound.shop import IMAGE, PUBLIC_ADDRESS, SHOP, get, open_to, refusal, shop, to
from tests.outbound.spellings import OTHER_URLS, SPELLINGS


@pytest.fixture
def canary() -> Iterator[Server]:
    """What must never be reached: every test that has it ends by looking."""
    server = Server()
    server.handler = answer(b"the crown jewels")
    yield server
    server.close()
    assert server.connections == 0


def test_no_spelling_of_a_forbidden_host_reaches_the_canary(canary: Server, dialed: list[tuple[Any, ...]]) -> None:
    assert len(set(SPELLINGS)) >= 200
    policy = open_to(canary, trusted=frozenset(), ports=(80, 443, canary.port))
    for spelling in SPELLINGS:
        for url in (f"http://{spelling}:{canary.port}/", f"https://{spelling}/x"):
            with pytest.raises(Refused) as caught:
                get(url, policy)
            assert caught.value.code == "url_not_allowed", url
    assert dialed == []


@pytest.mark.parametrize(
    "url",
    OTHER_URLS,
)
def test_other_urls_are_refused(url: str, canary: Server, dialed: list[tuple[Any, ...]]) -> None:
    assert refusal(url, open_to(canary)) == "url_not_allowed"
    assert dialed == []


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "①②⑦.0.0.1", "inside%2eshop.example"])
def test_the_address_alone_keeps_from_the_canary(host: str, server: Server) -> None:
    """The canaries of these tests sing: a policy that admits every address reaches the server."""
    server.handler = answer(IMAGE)
    policy = open_to(server, ports=(server.port,), admits=lambda address: True)
    assert get(f"http://{host}:{server.port}/", policy).content == IMAGE


@pytest.mark.parametrize("character", ["\r", "\n", "\t", "\0", " ", "\x7f", "\x85", "\xa0", "\ud800"])
def test_no_control_character_passes(character: str, canary: Server, dialed: list[tuple[Any, ...]]) -> None:
    for url in (f"http://a.example/{character}x", f"http://a{character}.example/", f"{character}http://a.example/"):
        assert refusal(url, open_to(canary)) == "url_not_allowed"
    assert dialed == []


def test_the_checked_addresses_are_the_ones_dialed(canary: Server, dialed: list[tuple[Any, ...]]) -> None:
    """A name that is public when it is checked and loopback when asked again: nobody asks again."""
    answers = iter([[PUBLIC_ADDRESS, "2600:1406::17"], ["127.0.0.1"], ["127.0.0.1"]])
    policy = Policy(ports=(canary.port,), resolve=lambda host, port: next(answers))
    with pytest.raises(Unavailable) as caught:
        get(f"http://rebind.example:{canary.port}/", policy)
    assert caught.value.code == "url_unreachable"
    assert [address[:2] for address in dialed] == [(PUBLIC_ADDRESS, canary.port), ("2600:1406::17", canary.port)]
    assert refusal(f"http://rebind.example:{canary.port}/", policy) == "url_not_allowed"
    assert len(dialed) == 2


@pytest.mark.parametrize("private", ["127.0.0.1", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "169.254.169.254", "junk"])
@pytest.mark.parametrize("place", [0, 1])
def test_one_private_address_of_several_is_enough(
    private: str, place: int, canary: Server, dialed: list[tuple[Any, ...]]
) -> None:
    found = [PUBLIC_ADDRESS, "8.8.8.8"]
    found.insert(place, private)
    policy = Policy(ports=(canary.port,), resolve=lambda host, port: found)
    assert refusal(f"http://mixed.example:{canary.port}/", policy) == "url_not_allowed"
    assert dialed == []


FORBIDDEN_LOCATIONS = (
    "http://127.0.0.1:{port}/", "//127.0.0.1:{port}/", "//0x7f.1:{port}", "http://inside.shop.example:{port}/",
    "https://[::1]:{port}/", "http://2130706433:{port}/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/_x",
    "ftp://img.shop.example/", "http://169.254.169.254/latest/meta-data/", "http://user:pw@img.shop.example:{port}/",
    "http:///127.0.0.1:{port}/", "///127.0.0.1:{port}/", "\\\\127.0.0.1:{port}\\", "http://[::ffff:127.0.0.1]:{port}/",
    "javascript:x", "http://a.example:22/", "/with space", "/nul\0", "http://[", "http://①②⑦.0.0.1:{port}/",
)  # fmt: skip


@pytest.mark.parametrize("location", FORBIDDEN_LOCATIONS)
@pytest.mark.parametrize("hops", [0, 2])
def test_no_redirect_reaches_the_canary(location: str, hops: int, server: Server, canary: Server) -> None:
    chain = iter([to(f"/{hop}", "301 Moved") for hop in range(hops)] + [to(location.format(port=canary.port))])
    server.handler = lambda connection, request: next(chain)(connection, request)
    policy = open_to(server, ports=(80, 443, canary.port))
    assert refusal(shop(server), policy) == "url_not_allowed"
    assert len(server.requests) == hops + 1


def test_a_location_in_bytes_that_are_no_text_is_refused(server: Server, canary: Server) -> None:
    server.handler = to(b"/\xff\xfe")
    assert refusal(shop(server), open_to(server)) == "url_not_allowed"


def test_injected_lines_of_a_location_stay_in_its_path(server: Server) -> None:
    steps = iter([to("/x%0d%0aHost:%20127.0.0.1%0d%0a%0d%0aGET%20/"), answer(IMAGE)])
    server.handler = lambda connection, request: next(steps)(connection, request)
    get(shop(server), open_to(server))
    assert server.requests[1].startswith(b"GET /x%0D%0AHost:%20127.0.0.1%0D%0A%0D%0AGET%20/ HTTP/1.1\r\n")
    assert server.requests[1].lower().count(b"\r\nhost:") == 1


@pytest.fixture
def tls(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server speaks TLS, as `img.shop.example` alone; returns the path of its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SHOP)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SHOP)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path, secret = tmp_path / "cert.pem", tmp_path / "key.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, secret)
    context.sni_callback = lambda _, asked, __: server.names.append(asked)  # type: ignore[attr-defined]
    server.names = []  # type: ignore[attr-defined]
    plain = server._serve

    def serve(raw: socket.socket) -> None:
        with suppress(ssl.SSLError):  # who does not trust us breaks off
            plain(context.wrap_socket(raw, server_side=True))

    monkeypatch.setattr(server, "_serve", serve)
    return str(path)


def test_the_certificate_is_checked_against_the_name(tls: str, server: Server) -> None:
    server.handler = answer(IMAGE)
    url = shop(server).replace("http:", "https:")
    policy = open_to(server, certificates=tls)
    assert get(url, policy).content == IMAGE
    assert server.names == [SHOP]  # type: ignore[attr-defined]
    other = replace(policy, trusted=frozenset({("other.example", server.port)}), resolve=lambda *_: ["127.0.0.1"])
    for wrong, how in ((url.replace(SHOP, "other.example"), other), (url, replace(policy, certificates=None))):
        with pytest.raises(Unavailable) as caught:
            get(wrong, how)
        assert caught.value.code == "url_unreachable"
    assert len(server.requests) == 1


def test_https_never_leads_back_to_http(tls: str, server: Server) -> None:
    server.handler = to(f"http://{SHOP}/")
    url = shop(server).replace("http:", "https:")
    assert refusal(url, open_to(server, certificates=tls)) == "redirect_refused"


def test_http_leads_to_https(tls: str, server: Server) -> None:
    plain = Server()
    try:
        plain.handler = to(shop(server).replace("http:", "https:"))
        server.handler = answer(IMAGE)
        assert get(shop(plain), open_to(server, plain, certificates=tls)).content == IMAGE
    finally:
        plain.close()
