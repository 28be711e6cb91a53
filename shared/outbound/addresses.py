"""Which URLs of strangers may be fetched: every spelling of a host reduced to one, every address judged.

    target = parse("HTTP://①②⑦.1/x")      # the host is 127.0.0.1, whatever it was written as
    is_public(ip_address("127.0.0.1"))     # False

Two parsers that read one URL differently are how forbidden addresses are reached, therefore this one is
strict: what RFC 3986 has no place for is refused, not repaired. Hosts are read as browsers read them
(https://url.spec.whatwg.org/#host-parsing): percent-decoded, mapped by UTS #46, and taken for an IPv4
address in any of its forms when the last label is a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_network
from typing import Final
from urllib.parse import quote, unquote

import idna

from shared.outbound.errors import Refused

__all__ = ["Address", "Target", "is_public", "leads_inside", "not_allowed", "parse"]

Address = IPv4Address | IPv6Address

LONGEST_URL: Final = 4096

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?", re.I
)
_NEVER: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\ufffd\ud800-\udfff]")
_AUTHORITY: Final = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{0,5}))?")
# The underscore is none of DNS' host names, but of many that exist.
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SAFE_PATH: Final = "%/:@!$&'()*+,;=~"
_SAFE_QUERY: Final = _SAFE_PATH + "?[]"

# Names that lead nowhere but inside (RFC 6761, 6762, 7686, 8375, ICANN's reservation of .internal).
_INSIDE: Final = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home.arpa", "onion")

# The special-purpose registry of IANA (https://www.iana.org/assignments/iana-ipv4-special-registry), and
# what clouds answer on to their own machines alone.
_CLOSED_V4: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, by a public address
        "169.254.0.0/16",  # link-local; nearly every cloud's metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# All that is routed lies in here. Loopback, mapped and compatible IPv4, NAT64 (64:ff9b::), unique local
# (with the metadata of AWS and Google), link-local, site-local and multicast do not.
_GLOBAL_V6: Final = ip_network("2000::/3")
_CLOSED_V6: Final = tuple(
    ip_network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the 6bone of old
        "3fff::/20",  # documentation
    )
)
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
"""Upper half of interface ids that carry an IPv4 address (RFC 5214)."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in its only spelling; `address` where the host is one, else the host is a name to be resolved."""

    scheme: str
    host: str
    """Lower case, ASCII, no dot at its end; an IPv6 address without brackets."""
    port: int
    target: str
    """Path and query as they go on the wire."""
    address: Address | None

    @property
    def url(self) -> str:
        """The whole, without a fragment; the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _port_of(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"


def not_allowed(why: str) -> Refused:
    """Return the error for a URL that is not for us to fetch."""
    return Refused(why, code="url_not_allowed")


def parse(url: str) -> Target:
    """Reduce a URL to its only spelling. Raises Refused with the code `url_not_allowed`."""
    if len(url) > LONGEST_URL:
        raise not_allowed(f"a URL of more than {LONGEST_URL} characters")
    if _NEVER.search(url):
        raise not_allowed("a URL with a space, a backslash or a control character in it")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise not_allowed("not an http:// or https:// URL")
    if "@" in parts["authority"]:
        raise not_allowed("a URL with a user's name in it")
    where = _AUTHORITY.fullmatch(parts["authority"])
    if where is None:
        raise not_allowed("a URL without a proper host")
    scheme = parts["scheme"].lower()
    port = int(where["port"]) if where["port"] else _port_of(scheme)
    address: Address | None
    if where["ipv6"] is not None:
        address, host = _ipv6(where["ipv6"])
    else:
        host = _name(where["name"])
        address = _ipv4(host)
        host = host if address is None else str(address)
    target = quote(parts["path"] or "/", safe=_SAFE_PATH) + quote(parts["query"] or "", safe=_SAFE_QUERY)
    return Target(scheme, host, port, target, address)


def leads_inside(host: str) -> bool:
    """Tell whether a name, in its only spelling, can have no public meaning: one label, or under `.local`."""
    return "." not in host or any(host.endswith(f".{name}") for name in _INSIDE)


def is_public(address: Address) -> bool:
    """Tell whether everybody on the internet may reach an address, by what is known of its range."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    if address.scope_id is not None or address not in _GLOBAL_V6:
        return False
    return not any(address in network for network in _CLOSED_V6) and (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP


def _port_of(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _ipv6(text: str) -> tuple[IPv6Address, str]:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise not_allowed("no IPv6 address between the brackets") from None
    if address.scope_id is not None:
        raise not_allowed("an address with a zone, which only this machine's own links have")
    return address, str(address)


def _name(text: str) -> str:
    """Return a name, or the text of an IPv4 address in whichever form, in lower case and ASCII."""
    try:
        host = unquote(text, errors="strict")
        if not host.isascii():
            # Maps digits, letters and dots of other scripts to ours, and drops what is not seen.
            host = idna.uts46_remap(host, std3_rules=False, transitional=False)
            if not host.isascii():
                host = idna.encode(host.removesuffix("."), std3_rules=True).decode()
    except (UnicodeError, ValueError):  # idna's errors are UnicodeErrors
        raise not_allowed("a host that is no name") from None
    host = host.lower().removesuffix(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise not_allowed("a host that is no name")
    return host


def _ipv4(host: str) -> IPv4Address | None:
    """Return the address that a host is: `127.1`, `0x7f000001`, `017700000001`; None for a name.

    Raises Refused for what ends in a number and is no address, since resolvers differ on it. No top-level
    domain begins with a digit.
    """
    labels = host.split(".")
    if not labels[-1][0].isdigit():
        return None
    try:
        numbers = [_number(label) for label in labels]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 4 or any(number > 255 for number in numbers[:-1]):
        raise not_allowed("a host that ends in a number and is no address")
    room = 256 ** (5 - len(numbers))
    if numbers[-1] >= room:
        raise not_allowed("a host that ends in a number and is no address")
    value = numbers[-1]
    for place, number in enumerate(numbers[:-1]):
        value += number << (8 * (3 - place))
    return IPv4Address(value)


def _number(label: str) -> int:
    if not _NUMBER.fullmatch(label):
        raise ValueError(label)
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8) if len(label) > 1 and label.startswith("0") else int(label)
