"""Subdomains: a workspace's name in URLs, and its tenant in every service's rows, events and logs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from secrets import token_hex
from typing import Final

__all__ = ["PUBLIC", "SUBDOMAIN", "candidates", "is_subdomain"]

PUBLIC: Final = "public"
"""The reserved tenant of what strangers ask for. Nobody is a member of it, and no token is issued for it."""

SUBDOMAIN: Final = r"^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# `system` sees all tenants (shared.context.SYSTEM); the others would be taken for us, or are hosts of ours.
_RESERVED: Final = _words(
    """
    account accounts admin administrator api app apps assets auth autoconfig autodiscover backroom beta billing blog
    cdn console dashboard demo dev developer developers docs email example files ftp help host hostmaster identity
    imap imports internal jobs legal localhost login logout mail mailer mobile news notifications ns1 ns2 oauth
    operator owner pop postmaster preview privacy public root sales secure security shipping signin signup smtp ssl
    sso staff staging static status store support system team test tests token tokens webhooks webmaster webmail
    workspace workspaces www
    """
)

# What people have who have no domain of their own: it says nothing about their company.
_PUBLIC_MAIL: Final = _words(
    """
    163.com 126.com aol.com comcast.net duck.com fastmail.com free.fr gmail.com gmx.at gmx.ch gmx.com gmx.de gmx.net
    googlemail.com hey.com hotmail.com hotmail.co.uk hotmail.fr icloud.com laposte.net libero.it live.com live.co.uk
    mac.com mail.com mail.ru mailbox.org me.com msn.com naver.com orange.fr outlook.com outlook.de pm.me posteo.de
    proton.me protonmail.com qq.com rediffmail.com rocketmail.com sfr.fr t-online.de tutanota.com verizon.net web.de
    wp.pl yahoo.ca yahoo.co.in yahoo.co.jp yahoo.co.uk yahoo.com yahoo.de yahoo.fr yandex.com yandex.ru ymail.com
    zoho.com
    """
)

# `acme.co.uk` is acme's as `acme.com` is.
_SECOND_LEVEL: Final = _words("ac co com edu gov gob go ltd me net nom or org plc")


def is_subdomain(name: str) -> bool:
    """Tell whether a workspace may have this name: of the right form, and not reserved."""
    # A name whose third and fourth characters are hyphens is punycode, which may look like any other name.
    return re.fullmatch(SUBDOMAIN, name) is not None and name[2:4] != "--" and name not in _RESERVED


def candidates(email: str, company: str) -> Iterator[str]:
    """Yield names for a company, the best first: of its mail's domain, else of its own name; then with numbers."""
    stems = [stem for stem in (_of_domain(email), _of_text(company), "workspace") if len(stem) >= 3]
    yield from filter(is_subdomain, dict.fromkeys(stems))
    stem = stems[0]
    for number in range(2, 6):
        yield f"{stem[:35]}-{number}"
    for _ in range(3):
        yield f"{stem[:31]}-{token_hex(4)}"


def _of_domain(email: str) -> str:
    domain = email.rpartition("@")[2].lower()
    if domain in _PUBLIC_MAIL:
        return ""
    labels = domain.split(".")[:-1]
    if len(labels) > 1 and labels[-1] in _SECOND_LEVEL:
        labels.pop()
    return _of_text(labels[-1]) if labels else ""


def _of_text(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-")
