"""Calls to third parties: from workers only, bounded in time, counted, never doubled.

`Client` sends a request and says, in the words of `errors`, what to do when it went wrong; `effects`
keeps what must not happen twice from happening twice; `circuit` and `limits` hold jobs back, over all
processes, while a provider is down or asks us to slow down; `guard` keeps the Rule at run time: no
request and no transactional job calls out; `vault` seals what lets us in. `fetch` gets what the URL of a
stranger leads to, and nothing that the internet cannot reach.
"""

from shared.outbound.errors import (
    CircuitOpen,
    NotAuthorized,
    ProviderError,
    RateLimited,
    Refused,
    Superseded,
    Unavailable,
    UnknownOutcome,
    Unsettled,
)
from shared.outbound.guard import RuleViolation

__all__ = [
    "CircuitOpen",
    "NotAuthorized",
    "ProviderError",
    "RateLimited",
    "Refused",
    "RuleViolation",
    "Superseded",
    "Unavailable",
    "UnknownOutcome",
    "Unsettled",
]
