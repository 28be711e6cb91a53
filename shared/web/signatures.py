"""Is this webhook genuine? Checked over the raw body, in constant time, before anything is parsed.

Pure functions: they read no clock and no settings.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime

__all__ = ["is_same_token", "verify_hmac_timestamped", "verify_paddle"]


def is_same_token(given: str | None, expected: str) -> bool:
    """Tell whether the token of a webhook's URL is ours; an empty expectation is met by nothing."""
    if not given or not expected:
        return False
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def verify_hmac_timestamped(
    secret: str, header: str | None, body: bytes, now: datetime, *, tolerance: float = 300.0
) -> bool:
    """Verify a header `t=<unix seconds>,v1=<hex>`, hex being the HMAC-SHA256 of `<t>.<body>`.

    Several `v1` may be given, as while a secret is being changed; one that fits is enough. Other parts
    are ignored. `now` is aware; a time more than `tolerance` seconds from it, in the past or the future,
    is refused, so that a recorded webhook cannot be sent again later. An empty secret verifies nothing.
    """
    return _verified(secret, header, body, now, tolerance, _Scheme(parts=",", moment="t", signature="v1", joint=b"."))


def verify_paddle(secret: str, header: str | None, body: bytes, now: datetime, *, tolerance: float = 300.0) -> bool:
    """Verify a header `ts=<unix seconds>;h1=<hex>`, hex being the HMAC-SHA256 of `<ts>:<body>`.

    In all else as `verify_hmac_timestamped`. https://developer.paddle.com/webhooks/about/signature-verification
    """
    return _verified(secret, header, body, now, tolerance, _Scheme(parts=";", moment="ts", signature="h1", joint=b":"))


@dataclass(frozen=True, slots=True)
class _Scheme:
    """How a provider writes its header: what parts it, what names the time and a signature, what joins them."""

    parts: str
    moment: str
    signature: str
    joint: bytes


def _verified(secret: str, header: str | None, body: bytes, now: datetime, tolerance: float, scheme: _Scheme) -> bool:
    if not secret or not header:
        return False
    moment: str | None = None
    signatures: list[str] = []
    for part in header.split(scheme.parts):
        name, _, value = part.strip().partition("=")
        if name == scheme.moment:
            if moment is not None:  # two times: which one was signed?
                return False
            moment = value
        elif name == scheme.signature:
            signatures.append(value)
    if moment is None or not (moment.isascii() and moment.isdecimal() and len(moment) <= 12):
        return False
    if abs(now.timestamp() - int(moment)) > tolerance:
        return False
    expected = hmac.new(secret.encode(), moment.encode() + scheme.joint + body, hashlib.sha256).hexdigest()
    # Not any(): each is compared, whether or not an earlier one fits.
    fitting = [hmac.compare_digest(one.encode("utf-8", "surrogatepass"), expected.encode()) for one in signatures]
    return True in fitting
