"""Addresses that we write to, checked before anything is written to them.

What is taken is an unquoted ASCII local part (RFC 5321's dot-string) at a domain name. A domain of another
script is written as IDNA has it. A local part of another script needs a mail server and a mailbox that speak
SMTPUTF8 all the way; few do, so that it is refused with a code of its own rather than lost on the way.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Final

import idna

__all__ = ["Address", "BadAddress", "normalized"]

_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Address:
    """Somebody who can be written to; `email` as it was given."""

    email: str
    name: str = ""
    member_id: uuid.UUID | None = None
    """Whose it is, where it is a member's."""


class BadAddress(ValueError):
    """Nothing can be sent there; `code` is a key of the failure texts."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def normalized(email: str) -> str:
    """Return the address as it goes to a mail server. Raises BadAddress."""
    local, at, domain = email.strip().rpartition("@")
    if not at or not local or not domain or len(email) > 320:
        raise BadAddress("address_invalid")
    if not local.isascii():
        raise BadAddress("address_not_supported")
    if not _LOCAL.fullmatch(local) or len(local) > 64:
        raise BadAddress("address_invalid")
    try:
        host = domain.lower() if domain.isascii() else idna.encode(domain, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise BadAddress("address_invalid") from None
    labels = host.split(".")
    # Somewhere in the internet: no host of this network, no address of a machine.
    if len(labels) < 2 or labels[-1].isdecimal() or len(local) + len(host) > 253:
        raise BadAddress("address_invalid")
    if not all(_LABEL.fullmatch(label) and len(label) <= 63 for label in labels):
        raise BadAddress("address_invalid")
    return f"{local}@{host}"
