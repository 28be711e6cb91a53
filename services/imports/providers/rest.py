"""ERPs that speak the protocol of docs/erp.md: pages of JSON over https, with a bearer token.

The tenant says where the ERP is, so that its address and its answers are a stranger's: the client goes to public
addresses alone, follows no redirect, and reads no more than a page may have. What comes back of our secrets, in
whatever form, is taken out of every error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, StringConstraints, ValidationError
from requests import Request

from services.imports.erp import log
from services.imports.providers.connector import MOST_ITEMS, Page, Question
from services.imports.settings import settings
from shared.outbound import NotAuthorized, ProviderError, Refused
from shared.outbound.addresses import not_allowed, parse
from shared.outbound.answers import decoded, words_of
from shared.outbound.circuit import breaker
from shared.outbound.client import Client, Timeouts
from shared.outbound.policy import Policy

__all__ = ["PROVIDER", "Rest", "policy"]

PROVIDER: Final = "erp"
_SHOWN: Final = 1000
"""Bytes of an answer that is not as documented, in its error."""


class _Answer(BaseModel):
    items: Annotated[list[Any], Field(max_length=MOST_ITEMS)]
    # Without a default: who leaves `next` away has not said that this is all.
    next: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,1000}$")] | None


class Rest:
    """One ERP. See `Connector` for what its methods promise."""

    def __init__(self, base_url: str, token: str, secrets: Sequence[str]) -> None:
        """Raises Refused for an address that a token must not be sent to."""
        limits, chosen = settings(), policy()
        target = parse(base_url)
        if target.scheme != "https" and (target.host, target.port) not in chosen.trusted:
            raise not_allowed("a token is sent over https alone")
        self._secrets = secrets
        self._headers = {"Authorization": f"Bearer {token}"}
        total = limits.erp_total_seconds
        self._client = Client(
            PROVIDER,
            target.url,
            timeouts=Timeouts(connect=limits.erp_connect_seconds, read=min(30.0, total), total=total),
            max_bytes=limits.erp_max_bytes,
            classify=_classify,
            breaker=breaker,
            circuit_per_tenant=True,
            policy=chosen,
            clean=self._clean,
        )

    def describe(self, question: Question) -> str:
        url = f"{self._client.base_url}/{question.entity}"
        return f"GET {Request('GET', url, params=_params(question)).prepare().url}"

    def ask(self, question: Question) -> Page:
        answer = self._client.get(
            f"list_{question.entity}",
            f"/{question.entity}",
            params=_params(question),
            headers=self._headers,
            expect="bytes",
        )
        text = answer.content.decode("utf-8", "replace")
        try:
            found = _Answer.model_validate(decoded(answer.content))
        except ValidationError as error:
            wrong = error.errors()[0]
            where = ".".join(map(str, wrong["loc"])) or "the whole"
            raise self._malformed(f"{where}: {wrong['msg']}", text, answer.status) from None
        except ValueError:
            raise self._malformed("it is no JSON", text, answer.status) from None
        return Page(found.items, found.next, text)

    def _malformed(self, what: str, text: str, status: int) -> Refused:
        detail = f"{what}; the answer was: {log.excerpt(text, self._secrets, _SHOWN)}"
        return Refused(detail, provider=PROVIDER, code="erp_answer_malformed", status=status)

    def _clean(self, said: str) -> str:
        return log.excerpt(said, self._secrets)


def policy() -> Policy:
    """Where ERPs may be: on the public internet, and where the operator of this machine vouches for."""
    return Policy.trusting(settings().erp_trusted_hosts)


def _params(question: Question) -> dict[str, str | int]:
    params: dict[str, str | int] = {"limit": MOST_ITEMS}
    if question.since is not None:
        params["updated_since"] = question.since.strftime("%Y-%m-%dT%H:%M:%SZ")
    if question.cursor is not None:
        params["cursor"] = question.cursor
    return params


def _classify(status: int, _headers: Mapping[str, str], data: Any) -> ProviderError | None:
    if status == 403:
        return NotAuthorized(f"403: {words_of(data)}")
    if 300 <= status < 400:
        # Our token is for the address that we were given, and for no other.
        return Refused(f"{status}", code="erp_redirects")
    return None
