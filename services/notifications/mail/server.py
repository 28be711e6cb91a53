"""Which mail server, as settings name it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["Server", "server"]


@dataclass(frozen=True, slots=True)
class Server:
    """A mail server and how to speak to it. `tls` is `start` (STARTTLS, or nothing), `always` or `never`."""

    host: str
    port: int
    tls: str
    user: str = ""
    password: str = field(default="", repr=False)


def server(url: str) -> Server:
    """Read `smtp[s]://user:password@host:port?tls=never`. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path not in ("", "/") or parts.fragment:
        raise ValueError("must be smtp://user:password@host:port or smtps://…")
    tls = "always" if parts.scheme == "smtps" else "never" if _is_here(parts.hostname) else "start"
    for name, values in parse_qs(parts.query, keep_blank_values=True).items():
        if name != "tls" or values[-1] not in ("start", "never") or parts.scheme == "smtps":
            raise ValueError("knows no parameter but tls=start and tls=never, of smtp://")
        tls = values[-1]
    port = parts.port or (465 if tls == "always" else 587)
    return Server(parts.hostname, port, tls, unquote(parts.username or ""), unquote(parts.password or ""))


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
