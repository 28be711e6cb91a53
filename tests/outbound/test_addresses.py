"""The parser of strangers' URLs: one spelling for each host, the same after a second reading."""

from __future__ import annotations

import ipaddress
import random
import socket
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from shared.outbound import Refused
from shared.outbound.addresses import LONGEST_URL, is_public, leads_inside, parse


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("http://Shop.EXAMPLE", "http://shop.example/"),
        ("HTTPS://shop.example.:443/a", "https://shop.example/a"),
        ("http://shop.example:443/", "http://shop.example:443/"),
        ("http://shop.example:/?q#part", "http://shop.example/?q"),
        ("http://sh%6Fp.example/a/../b", "http://shop.example/a/../b"),
        ("http://Bücher.example/größe.png", "http://xn--bcher-kva.example/gr%C3%B6%C3%9Fe.png"),
        ("http://b%C3%BCcher。example", "http://xn--bcher-kva.example/"),
        ("http://ｓｈｏｐ．ｅｘａｍｐｌｅ/", "http://shop.example/"),
        ("http://my_bucket.s3.example/%41%zz|", "http://my_bucket.s3.example/%41%zz%7C"),
        ("http://0x08080808/", "http://8.8.8.8/"),
        ("http://010.0x8.2056/", "http://8.8.8.8/"),
        ("http://[2600:1406:0:0::0017]:8080/", "http://[2600:1406::17]:8080/"),
    ],
)
def test_one_spelling(url: str, canonical: str) -> None:
    assert parse(url).url == canonical


def test_a_url_has_an_end() -> None:
    fits = "http://a.example/" + "x" * (LONGEST_URL - 17)
    assert parse(fits).url == fits
    with pytest.raises(Refused):
        parse(fits + "x")


# Characters of which trouble is made, and runs of them.
_NASTY = st.text(st.sampled_from("0123789afxX.:/@#?%[]\\-_。．①⑦１ß\u00ad\u200b \t\r\n\0"), max_size=30)


@given(st.one_of(_NASTY, st.text(max_size=40)), st.sampled_from(["", "http://", "https://", "http://[", "HTTP://a.b/"]))
def test_what_is_read_once_reads_the_same_again_and_by_others(rest: str, start: str) -> None:
    try:
        target = parse(start + rest)
    except Refused:
        return
    assert parse(target.url) == target
    assert target.url.isascii()
    assert target.url.isprintable()
    parts = urlsplit(target.url)
    assert (parts.hostname, parts.username) == (target.host, None)
    assert urlsplit(requests.Request("GET", target.url).prepare().url or "").hostname == target.host
    if target.address is None:
        # No name that goes to the resolver is an address to the C library, in any of the forms it knows.
        with pytest.raises(OSError, match="illegal"):
            socket.inet_aton(target.host)


@given(st.integers(0, (1 << 32) - 1), st.randoms(use_true_random=False))
def test_every_form_of_an_ipv4_address_is_that_address(number: int, chance: random.Random) -> None:
    split = chance.randint(0, 3)
    parts = [(number >> 8 * (3 - place)) & 255 for place in range(split)]
    parts.append(number & ((1 << 8 * (4 - split)) - 1))
    host = ".".join(chance.choice([str, hex, "0{:o}".format, "0X{:x}".format, "0x000{:x}".format])(p) for p in parts)
    disguised = "".join(chance.choice([c, c, f"%{ord(c):02x}", c.translate(_WIDE)]) for c in host)
    assert parse(f"http://{disguised}{chance.choice(['', '.', '。'])}/").address == IPv4Address(number)


_WIDE = {ord(c): ord(c) + 0xFEE0 for c in "0123456789abcdefxX."}


@given(st.integers(0, (1 << 128) - 1))
def test_every_form_of_an_ipv6_address_is_that_address(number: int) -> None:
    address = IPv6Address(number)
    for text in (address.compressed, address.exploded, address.compressed.upper()):
        assert parse(f"http://[{text}]/").address == address


@given(st.integers(0, (1 << 32) - 1).map(IPv4Address))
def test_no_ipv4_address_that_python_calls_private_is_public(address: IPv4Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_public(address)


@given(st.integers(0, (1 << 128) - 1) | st.integers(0x20 << 120, (0x40 << 120) - 1))
def test_no_ipv6_address_that_python_calls_private_is_public(number: int) -> None:
    address = IPv6Address(number)
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_site_local:
        assert not is_public(address)


@given(st.integers(0, (1 << 32) - 1))
def test_no_ipv6_address_carries_an_ipv4_address_past_us(number: int) -> None:
    """Mapped, compatible, translated, NAT64, 6to4, Teredo (client and server), ISATAP."""
    for address in (
        0xFFFF << 32 | number, number, 0xFFFF << 48 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80,
        0x20010000 << 96 | number << 64, 0x20010000 << 96 | number ^ 0xFFFFFFFF, 0x2600 << 112 | 0x5EFE << 32 | number,
    ):  # fmt: skip
        assert not is_public(IPv6Address(address))


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2600:1406::17", "2a00:1450:4001::8a"])
def test_public_addresses_are(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


def test_names_that_lead_inside() -> None:
    assert all(leads_inside(name) for name in ("localhost", "metadata", "a.localhost", "metadata.google.internal"))
    assert not any(
        leads_inside(name) for name in ("shop.example", "internal.example.com", "local.shop", "mylocal.lan.de")
    )
