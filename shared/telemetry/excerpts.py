"""Excerpts of what strangers say to us, without the secrets that we said to them.

A secret of ours may come back from anywhere: an error that repeats the token, an item in which somebody keeps it, a
cursor. So each is taken out verbatim and in the forms that URLs, JSON and headers give it, before anything is cut;
what looks like a secret goes as well.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, quote_plus

from shared.telemetry.redaction import REDACTED, bounded

__all__ = ["EXCERPT", "excerpt"]

EXCERPT: Final = 4096
"""Bytes."""
_LOOKED_AT: Final = 4 * EXCERPT
"""Characters of a text, at its beginning, of which an excerpt is made."""


def excerpt(text: str, secrets: Sequence[str], limit: int = EXCERPT) -> str:
    """Return a text redacted and shortened to `limit` bytes."""
    forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
    if not forms:
        return bounded(text[:_LOOKED_AT], limit)
    window = text[: _LOOKED_AT + len(forms[0])]
    clean = re.sub("|".join(map(re.escape, forms)), REDACTED, window, flags=re.IGNORECASE)
    if len(window) < len(text):
        # The window may have split a secret at its end: no part of one is longer than this.
        clean = clean[: -len(forms[0])]
    return bounded(clean, limit)


def _forms(secret: str) -> set[str]:
    if len(secret) < 4:
        return set()  # would blank out ordinary words; nobody may give us one so short
    plain = json.dumps(secret)[1:-1]
    # As Go and PHP write it; each of them escapes more than it must.
    html_safe = plain.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    raw = [secret, quote(secret, safe=""), quote_plus(secret), plain, html_safe, plain.replace("/", "\\/")]
    encoded = [base64.b64encode(secret.encode()).decode(), base64.urlsafe_b64encode(secret.encode()).decode()]
    return {*raw, *encoded, *(one.rstrip("=") for one in encoded), secret.encode().hex()}
