"""What an answer of a provider says: which error it is, how long to wait, in whose words, of which origin.

Pure functions, shared by the client and by those who classify a provider's errors themselves.
"""

from __future__ import annotations

import email.utils
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from shared.outbound.errors import (
    LONGEST_WAIT,
    NotAuthorized,
    ProviderError,
    RateLimited,
    Refused,
    Unavailable,
    UnknownOutcome,
)

__all__ = ["Classify", "Origin", "cause", "decoded", "error_of", "origin", "retry_after", "words_of"]

Origin = tuple[str, str, int]
"""Scheme, host in lower case, port."""

Classify = Callable[[int, Mapping[str, str], Any], ProviderError | None]
"""Status, headers, and the body as JSON or text, to the error that they mean; None where it is the usual."""

_DEFAULT_WAIT: Final = 10.0
_TRY_AGAIN: Final = (408, 425)


def error_of(
    provider: str,
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    *,
    effect: bool,
    classify: Classify | None = None,
) -> ProviderError:
    """Return the error that an answer from 300 on means; the table is in `shared.outbound.client`."""
    try:
        data = decoded(content)
    except ValueError:
        data = content.decode("utf-8", "replace")
    if classify is not None and (error := classify(status, headers, data)) is not None:
        error.provider = error.provider or provider
        error.status = status
        return error
    detail = f"{status}: {words_of(data)}"
    if status == 429:
        return RateLimited(detail, retry_after=retry_after(headers), provider=provider, status=status)
    if status == 401:
        return NotAuthorized(detail, provider=provider, status=status)
    if status >= 500 or status in _TRY_AGAIN or (status == 303 and effect):
        # A gateway says 502 or 504 about a server that may well have done it.
        kind = UnknownOutcome if effect else Unavailable
        return kind(detail, provider=provider, status=status, unanswered=True)
    return Refused(detail, provider=provider, status=status)


def decoded(content: bytes) -> Any:
    """Return the JSON that an answer holds. Raises ValueError for anything else, bottomless nesting too."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error


def cause(error: BaseException) -> str:
    """Name the innermost reason: the outer ones carry the URL, which may carry what is nobody's business."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
        if inner is None and error.args and isinstance(error.args[0], BaseException):
            inner = error.args[0]
        if not isinstance(inner, BaseException):
            break
        error = inner
    return f"{type(error).__name__}: {error}"


def words_of(data: Any) -> str:
    """Return what a provider says in the body of an error: its sentence if we find one, else all of it."""
    if isinstance(data, Mapping):
        for key in ("detail", "message", "error_description", "error", "title"):
            if isinstance(data.get(key), str) and data[key]:
                return str(data[key])
    if isinstance(data, str):
        return " ".join(data.split())[:500]
    return json.dumps(data, ensure_ascii=False)[:2000]


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float:
    """Return how many seconds a 429 asks us to wait, at most `LONGEST_WAIT`.

    Reads `Retry-After` (seconds or an HTTP date, RFC 9110 section 10.2.3), else `X-RateLimit-Reset`
    (seconds from now, or of the epoch); without either 10.
    """
    now = now or datetime.now(UTC)
    seconds: float | None = None
    if given := headers.get("Retry-After"):
        seconds = _number(given)
        if seconds is None:
            try:
                moment = email.utils.parsedate_to_datetime(given.strip())
            except ValueError:
                moment = None
            if moment is not None:
                seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    if seconds is None and (given := headers.get("X-RateLimit-Reset")):
        seconds = _number(given)
        if seconds is not None and seconds > 1e9:
            seconds -= now.timestamp()
    return _DEFAULT_WAIT if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT)


def _number(text: str) -> float | None:
    try:
        number = float(text.strip())
    except ValueError:
        return None
    return number if number == number else None  # not NaN


def origin(url: str) -> Origin | None:
    """Return where an http(s) URL leads; None for any other URL, and for one with a user's name in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    return (parts.scheme, parts.hostname.lower(), port or (443 if parts.scheme == "https" else 80))
