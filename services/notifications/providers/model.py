"""Language models: any endpoint that speaks OpenAI's chat completions, ours or the tenant's own.

A tenant says where its own is, so that its address is a stranger's; what any model says is a stranger's word as well,
and only handed on. Sent once: to ask twice costs a little and does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from services.notifications.settings import settings
from shared.outbound import NotAuthorized, ProviderError, Refused
from shared.outbound.addresses import not_allowed, parse
from shared.outbound.answers import words_of
from shared.outbound.circuit import breaker
from shared.outbound.client import Client, Timeouts
from shared.outbound.limits import limiter
from shared.outbound.policy import Policy
from shared.telemetry.excerpts import excerpt

__all__ = ["Model", "ask"]

# Two circuits: where ours is down, tenants with a model of their own do not wait.
_OURS: Final = "managed_model"
_TENANTS: Final = "model"
_MOST_BYTES: Final = 262144
_MOST_TOKENS: Final = 1500


@dataclass(frozen=True, slots=True)
class Model:
    """Where a model is, its name there, and what lets us in; `own` where the tenant says so."""

    base_url: str
    name: str
    key: str | None = field(repr=False)
    own: bool


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]


def ask(model: Model, messages: Sequence[Mapping[str, str]], response_format: Mapping[str, Any]) -> str:
    """Return what the model says to these messages; "" where it declines. Raises the errors of `shared.outbound`."""
    limits = settings()
    policy = None
    if model.own:
        target, policy = parse(model.base_url), Policy.trusting(limits.model_trusted_hosts)
        if target.scheme != "https" and (target.host, target.port) not in policy.trusted:
            raise not_allowed("a key is sent over https alone")
    secrets = [model.key] if model.key else []
    client = Client(
        _TENANTS if model.own else _OURS,
        model.base_url,
        timeouts=Timeouts(connect=5, read=limits.model_total_seconds, total=limits.model_total_seconds),
        max_bytes=_MOST_BYTES,
        classify=_classify,
        breaker=breaker,
        circuit_per_tenant=model.own,
        limiter=limiter,
        buckets={"ask": limits.model_per_minute},
        policy=policy,
        clean=lambda said: excerpt(said, secrets),
    )
    # As is usual: an address without a path has the interface below /v1, one with a path right there.
    path = "/chat/completions" if urlsplit(model.base_url).path.strip("/") else "/v1/chat/completions"
    answer = client.post(
        "ask",
        path,
        json={
            "model": model.name,
            "messages": list(messages),
            "response_format": response_format,
            "temperature": 0,
            "max_tokens": _MOST_TOKENS,
        },
        headers={"Authorization": f"Bearer {model.key}"} if model.key else {},
        bucket="ask",
    )
    try:
        return _Completion.model_validate(answer.data).choices[0].message.content or ""
    except ValidationError:
        raise Refused("no completion", provider=client.provider, code="model_answer_malformed") from None


def _classify(status: int, _headers: Mapping[str, str], data: Any) -> ProviderError | None:
    code = data.get("error", {}).get("code") if isinstance(data, dict) and isinstance(data.get("error"), dict) else None
    if status in (401, 403):
        return NotAuthorized(f"{status}: {words_of(data)}", code="model_not_authorized")
    if status == 429 and code == "insufficient_quota":
        return Refused(f"{status}: {words_of(data)}", code="model_quota")
    if status == 404:
        return Refused(f"{status}: {words_of(data)}", code="model_not_found")
    return None
