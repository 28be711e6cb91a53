"""Addresses that tenants give us to send to. Where one leads is judged each time that it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shared.outbound.addresses import Target, leads_inside, parse
from shared.outbound.errors import Refused
from shared.web import BadRequest, FieldError

__all__ = ["checked", "wrong"]

_PORT: Final = 443


def checked(url: str, field: str, trusted: Sequence[str], why: str) -> Target:
    """Return an address in its only spelling. Raises BadRequest, naming the field, for what we never send to.

    `trusted` are hosts (`name:port`) that need not be public; `why` says why https is asked for.
    """
    try:
        target = parse(url)
    except Refused as error:
        raise wrong(f"This is no address that we may send to: {error.detail}.", field) from None
    if f"{target.host}:{target.port}" in trusted:
        return target
    if target.scheme != "https":
        raise wrong(f"The address must begin with https://, since {why}.", field)
    if target.port != _PORT:
        raise wrong("The address must be on the usual port of https.", field)
    if target.address is None and leads_inside(target.host):
        raise wrong("The address must be on the internet.", field)
    return target


def wrong(detail: str, field: str) -> BadRequest:
    """Return the problem of one field."""
    return BadRequest(detail, errors=[FieldError(pointer=f"/{field}", detail=detail)])
