"""A web shop of a stranger on this machine, and a policy that lets its host through and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.outbound import Refused
from shared.outbound.fetch import Fetched, Policy, fetch
from tests.outbound.raw_server import Handler, Server

IMAGE = b"\x89PNG" + bytes(2000)
SHOP = "img.shop.example"
PUBLIC_ADDRESS = "93.184.215.14"


def open_to(server: Server, *others: Server, **more: Any) -> Policy:
    """Let the shop's host, on the ports of these servers, lead to this machine; nothing else is let through."""
    trusted = frozenset((SHOP, each.port) for each in (server, *others))

    def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host in (SHOP, "inside.shop.example") else [PUBLIC_ADDRESS]

    return replace(Policy(trusted=trusted, resolve=resolve), **more)


def get(url: str, policy: Policy, **options: Any) -> Fetched:
    return fetch(url, policy=policy, **{"max_bytes": 10_000, "total": 3, "connect": 1, **options})


def refusal(url: str, policy: Policy, **options: Any) -> str:
    with pytest.raises(Refused) as caught:
        get(url, policy, **options)
    assert caught.value.provider == "web"
    return caught.value.code


def shop(server: Server, path: str = "/a.png") -> str:
    return f"http://{SHOP}:{server.port}{path}"


def to(location: str | bytes, status: str = "302 Found") -> Handler:
    raw = location if isinstance(location, bytes) else location.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nLocation: ".encode() + raw + b"\r\n\r\n"
    return lambda connection, _: connection.sendall(head)
