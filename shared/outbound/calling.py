"""What surrounds every call to a third party, whatever language it speaks: the Rule, the circuit, span and figures.

    with calling("smtp", "send", breaker=breaker) as span:
        ...                                 # raises in the words of `errors`, or returns

`client` makes its HTTP calls within it; a provider with a protocol of its own does so itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.db.database import current_work
from shared.outbound import guard
from shared.outbound.circuit import CircuitBreaker
from shared.outbound.errors import ProviderError
from shared.telemetry import Span, client_span, metrics

__all__ = ["calling", "may_call"]


def may_call(provider: str, operation: str) -> None:
    """Raise RuleViolation where nobody may be called: in a request, a transactional job, an open unit of work."""
    guard.check(f"{provider} {operation}")
    if current_work() is not None:
        # Its connection and its locks would be held for as long as the other side pleases.
        raise guard.RuleViolation(f"{provider} {operation}: not inside of an open unit of work")


@contextmanager
def calling(
    provider: str,
    operation: str,
    *,
    breaker: CircuitBreaker | None = None,
    per_tenant: bool = False,
    method: str | None = None,
    url: str | None = None,
) -> Iterator[Span]:
    """Make one call within it; its circuit, metrics and trace learn how it went.

    `per_tenant`: each tenant has a circuit of its own. Raises CircuitOpen while nobody may call, RuleViolation where
    nobody may ever, and what the call raises. Of errors only a ProviderError tells anything about the other side, and
    of those only Unavailable and UnknownOutcome that it is not well: whatever else it says, it is there.
    """
    may_call(provider, operation)
    ticket = breaker and breaker.before(provider, per_tenant=per_tenant)
    started = time.monotonic()
    outcome = "interrupted"
    try:
        with client_span(provider, operation, method, url) as span:
            try:
                yield span
            except ProviderError as error:
                if error.status is not None:
                    span.status(error.status)
                span.fail(error.code)
                raise
        outcome = "ok"
    except ProviderError as error:
        outcome = type(error).default_code.removeprefix("provider_")
        if ticket:
            ticket.failed(error)
        raise
    finally:
        metrics.provider_request(provider, operation, outcome, time.monotonic() - started)
    if ticket:
        ticket.succeeded()
