"""What can go wrong with a third party, sorted by what to do about it.

Everything above `shared.outbound` sees these errors and no other: no exception of an HTTP library, no
vendor's error. The runner of jobs maps each to an outcome of the run:

    Refused, NotAuthorized           give up       no retry can mend it
    Unavailable                      retry         by the actor's schedule
    RateLimited, CircuitOpen,
    Unsettled                        snooze        until the moment named; burns no attempt
    UnknownOutcome                   unknown       sent, no answer: look before you leap

`code` is a stable key in snake case into the service's `failures.py`, where the sentences for people
are; `detail` is private, redacted and bounded, and goes to the attempt's record and the log.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final

from shared.telemetry.redaction import bounded

__all__ = [
    "LONGEST_WAIT",
    "CircuitOpen",
    "NotAuthorized",
    "ProviderError",
    "RateLimited",
    "Refused",
    "Superseded",
    "Unavailable",
    "UnknownOutcome",
    "Unsettled",
]

LONGEST_WAIT: Final = 900.0
"""The longest that a provider's `Retry-After` may postpone us, in seconds."""

_DETAIL_LIMIT: Final = 2048


class ProviderError(Exception):
    """The other side did not do what was asked."""

    default_code: ClassVar[str] = "provider_error"

    def __init__(
        self,
        detail: str = "",
        *,
        provider: str = "",
        code: str | None = None,
        status: int | None = None,
        unanswered: bool = False,
    ) -> None:
        """
        `code` replaces the default of the class where the provider said more (`rate_expired`).
        `status` is the HTTP status that was answered, if any.
        `unanswered` is True when the request went out and nothing says what became of it; the effect
        journal then takes the outcome as unknown, whatever the class of the error.
        """
        self.code = code or self.default_code
        self.provider = provider
        self.status = status
        self.unanswered = unanswered
        self.detail = bounded(detail, _DETAIL_LIMIT)
        super().__init__(self.detail)

    def __str__(self) -> str:
        return ": ".join(part for part in (self.provider, self.code, self.detail) if part)


class Refused(ProviderError):
    """The other side said no, and would say no again."""

    default_code = "provider_refused"


class NotAuthorized(ProviderError):
    """The credentials are no longer accepted; somebody has to connect the account again."""

    default_code = "provider_not_authorized"


class Unavailable(ProviderError):
    """The other side could not be asked, or did not answer; nothing happened that would matter."""

    default_code = "provider_unavailable"


class Superseded(Unavailable):
    """Another run of this job has taken over; this one changed nothing and must not go on."""

    default_code = "superseded"


class UnknownOutcome(ProviderError):
    """The request went out, and no answer says whether it was carried out."""

    default_code = "provider_unknown_outcome"


class RateLimited(ProviderError):
    """We ask too often; the other side, or our own limit, wants us to wait."""

    default_code = "provider_rate_limited"

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after: float,
        provider: str = "",
        code: str | None = None,
        status: int | None = None,
    ) -> None:
        """`retry_after`: seconds from now, kept within 0 and `LONGEST_WAIT`."""
        super().__init__(detail, provider=provider, code=code, status=status)
        self.retry_after = min(max(retry_after, 0.0), LONGEST_WAIT)


class CircuitOpen(ProviderError):
    """The other side is down; nobody asks it before `retry_at`."""

    default_code = "provider_circuit_open"

    def __init__(self, detail: str = "", *, retry_at: datetime, provider: str = "", code: str | None = None) -> None:
        super().__init__(detail, provider=provider, code=code)
        self.retry_at = retry_at


class Unsettled(ProviderError):
    """An earlier try went out and its outcome cannot be known before `until`; a look now could miss it."""

    default_code = "provider_unsettled"

    def __init__(self, detail: str = "", *, until: datetime, provider: str = "", code: str | None = None) -> None:
        super().__init__(detail, provider=provider, code=code)
        self.until = until
