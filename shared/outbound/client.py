"""A client for one third party: bounded in time and size, and clear about what a failure means.

    client = Client("shippo", "https://api.goshippo.com", timeouts=Timeouts(connect=3, read=30, total=40))
    answer = client.post("buy", "/transactions", json={…}, headers=…, effect=True)

It sends once. Retrying is the job's affair, which alone knows the schedule and whether it is safe. What a
call may raise, `effect` being whether a second execution at the other side would matter:

    never sent: no name, no connection, no TLS           Unavailable
    sent, no usable answer: time-out, reset, garbage     UnknownOutcome if `effect`, else Unavailable
    408, 425, 5xx                                        UnknownOutcome if `effect`, else Unavailable
    429                                                  RateLimited
    401                                                  NotAuthorized
    3xx                                                  as 4xx; a 303 to an effect: UnknownOutcome
    other 4xx                                            Refused, with the provider's words

It takes nothing from the environment (no proxies, no .netrc), follows no redirect, keeps no cookie, and
holds one connection alive per thread and host. Inside of a request, a transactional job or an open unit
of work it raises `RuleViolation`.

Where a tenant says what the base URL is, `policy` keeps the client to the public internet, as `fetch` does it:
the name is resolved once for each call, every address must be admitted, and the connection goes to those very
addresses. Besides the above it then raises

    Refused      url_not_allowed      not for us to call
                 encoding_refused     compressed, although we asked for it as it is
    Unavailable  url_host_unknown, url_timeout
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, Literal

import requests
import urllib3.exceptions

from shared.outbound.addresses import parse
from shared.outbound.answers import Classify, Origin, cause, decoded, error_of, origin
from shared.outbound.calling import calling, may_call
from shared.outbound.circuit import CircuitBreaker
from shared.outbound.errors import (
    ProviderError,
    RateLimited,
    Refused,
    Unavailable,
    UnknownOutcome,
)
from shared.outbound.limits import Limiter
from shared.outbound.policy import Policy
from shared.outbound.wire import Adapter, call
from shared.telemetry import inject

__all__ = ["Answer", "Client", "Timeouts"]

_CHUNK: Final = 65536
_IDLE_LIMIT: Final = 2.0
_NO_CONTENT: Final = (204, 205)
_WIRE_ALLOWANCE: Final = 1 << 20
"""Bytes of a stranger's answer besides its body, which may take twice its size when it comes in chunks."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds: for a connection, for any single wait on the answer, for the call as a whole."""

    connect: float = 3.0
    read: float = 30.0
    total: float = 40.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. `data` is the decoded JSON, None without content or when bytes were asked for."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)
    data: Any = field(default=None, repr=False)


class Client:
    """Calls one provider at one base URL. Safe to share between threads, and over a fork."""

    def __init__(
        self,
        provider: str,
        base_url: str,
        *,
        timeouts: Timeouts | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = 8 * 1024 * 1024,
        classify: Classify | None = None,
        breaker: CircuitBreaker | None = None,
        limiter: Limiter | None = None,
        buckets: Mapping[str, float] | None = None,
        circuit_per_tenant: bool = False,
        trace_headers: bool = False,
        verify: bool | str = True,
        policy: Policy | None = None,
        clean: Callable[[str], str] | None = None,
    ) -> None:
        """
        `classify(status, headers, data)` may name the error of an answer from 300 on, data being its
        decoded JSON or text; None leaves it to the table above.
        `buckets` maps the names that calls give as `bucket` to calls per minute of each tenant.
        `circuit_per_tenant`: each tenant has a server of its own there, so that one's failure is not all's.
        `trace_headers` passes `traceparent` on: for what is ours, not for third parties.
        `policy` is for base URLs that come from tenants: where the client may connect to, and whom it trusts.
        `clean` goes over what the other side says before an error repeats it: for those who may repeat our secret.
        Raises ValueError for a base URL that is not plain http(s)://host[:port][/path].
        """
        self.provider = provider
        self.base_url = base_url.rstrip("/")
        self._origin = origin(self.base_url)
        if self._origin is None or "?" in base_url or "#" in base_url:
            raise ValueError("a base URL is http(s)://host[:port][/path], without a name or a query")
        self.timeouts = timeouts or Timeouts()
        self.max_bytes = max_bytes
        self._headers = {"Accept": "application/json", "User-Agent": "backroom", **(headers or {})}
        self._classify = classify
        self._breaker = breaker
        self._limiter = limiter
        self._buckets = dict(buckets or {})
        self._circuit_per_tenant = circuit_per_tenant
        self._trace_headers = trace_headers
        self._verify = verify if policy is None else policy.certificates or verify
        self._policy = policy
        self._clean = clean
        self._local = threading.local()

    def get(self, operation: str, path: str, **options: Any) -> Answer:
        """GET; options as of `request`."""
        return self.request(operation, "GET", path, **options)

    def post(self, operation: str, path: str, **options: Any) -> Answer:
        """POST; options as of `request`."""
        return self.request(operation, "POST", path, **options)

    def request(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        effect: bool = False,
        bucket: str | None = None,
        timeouts: Timeouts | None = None,
        expect: Literal["json", "bytes"] = "json",
        max_bytes: int | None = None,
    ) -> Answer:
        """Call the provider once and return its success.

        `operation` names the call in traces and metrics, never the URL. `content` is a body that goes as it is,
        for what is signed; its media type is for `headers` to say. `path` is below the base URL, or
        a URL of the same origin (a link to the next page). Raises what the module's table says,
        `RateLimited` or `CircuitOpen` before sending, Refused with the code `foreign_url` for a link
        that leads elsewhere, and RuleViolation where no call may be made.
        """
        url = self._url(path)
        sent = {**self._headers, **(headers or {})}
        prepared = requests.Request(method, url, json=json, data=content or form, params=params, headers=sent)
        return self._guarded(
            operation,
            prepared,
            effect=effect,
            bucket=bucket,
            timeouts=timeouts or self.timeouts,
            expect=expect,
            max_bytes=max_bytes or self.max_bytes,
        )

    def download(
        self,
        operation: str,
        url: str,
        *,
        hosts: tuple[str, ...] = (),
        max_bytes: int | None = None,
        timeouts: Timeouts | None = None,
    ) -> Answer:
        """GET a file from the provider, without any credentials; `Answer.content` has its bytes.

        Allowed are the origin of the base URL, and over https the `hosts` named and what ends in one of
        them that starts with a dot. Anything else raises Refused with the code `foreign_url`.
        """
        where = origin(url)
        if where is None or (where != self._origin and not _is_named(where, hosts)):
            host = where[1] if where else "a URL that is none"
            raise Refused(f"a file at {host}", provider=self.provider, code="foreign_url")
        prepared = requests.Request("GET", url, headers={"User-Agent": self._headers["User-Agent"]})
        return self._guarded(
            operation,
            prepared,
            effect=False,
            bucket=None,
            timeouts=timeouts or self.timeouts,
            expect="bytes",
            max_bytes=max_bytes or self.max_bytes,
        )

    def _url(self, path: str) -> str:
        if not path.startswith(("http://", "https://")):
            return f"{self.base_url}/{path.lstrip('/')}"
        if origin(path) != self._origin:
            raise Refused("a link to another origin", provider=self.provider, code="foreign_url")
        return path

    def _guarded(
        self, operation: str, request: requests.Request, *, effect: bool, bucket: str | None, **how: Any
    ) -> Answer:
        may_call(self.provider, operation)
        if self._limiter is not None and bucket is not None:
            self._limiter.take(self.provider, bucket, per_minute=self._buckets[bucket])
        try:
            # After the limit: whoever is let through as the probe of a circuit must call.
            with calling(
                self.provider,
                operation,
                breaker=self._breaker,
                per_tenant=self._circuit_per_tenant,
                method=request.method,
                url=request.url,
            ) as span:
                answer = self._send(request, effect=effect, **how)
                span.status(answer.status)
        except RateLimited as error:
            if self._limiter is not None:
                self._limiter.block(self.provider, error.retry_after, bucket=bucket or "*")
            raise
        return answer

    def _session(self, *, effect: bool) -> requests.Session:
        """Return this thread's session; a forked child gets one of its own, not its parent's sockets."""
        local = self._local
        session: requests.Session | None = getattr(local, "session", None)
        if session is None or local.pid != os.getpid():
            session = local.session = requests.Session()
            session.trust_env = False
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            session.headers.clear()
            for prefix in ("http://", "https://"):
                session.mount(prefix, Adapter())
            local.pid = os.getpid()
        elif effect and time.monotonic() - local.used > _IDLE_LIMIT:
            # The other side may be closing the idle connection at this moment. A read that runs into
            # that is repeated; a purchase would have to be taken for one with an unknown outcome.
            session.close()
        local.used = time.monotonic()
        return session

    def _send(
        self, request: requests.Request, *, effect: bool, timeouts: Timeouts, expect: str, max_bytes: int
    ) -> Answer:
        status, headers, content = self._exchange(request, effect, timeouts, max_bytes)
        if status >= 300:
            if self._clean is not None:
                content = self._clean(content.decode("utf-8", "replace")).encode()
            raise error_of(self.provider, status, headers, content, effect=effect, classify=self._classify)
        if expect == "bytes" or status in _NO_CONTENT:
            return Answer(status, headers, content)
        try:
            return Answer(status, headers, content, decoded(content))
        except ValueError:
            raise self._lost(f"no JSON, but {len(content)} bytes", effect=effect, status=status) from None

    def _exchange(
        self, request: requests.Request, effect: bool, timeouts: Timeouts, max_bytes: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        session = self._session(effect=effect)
        if self._trace_headers and (traceparent := inject()):
            request.headers = {**request.headers, "traceparent": traceparent}
        try:
            prepared = session.prepare_request(request)
        except (requests.RequestException, ValueError) as error:
            raise Refused(cause(error), provider=self.provider, code="invalid_request") from None
        status: int | None = None
        receive = float("inf") if self._policy is None else 2 * max_bytes + _WIRE_ALLOWANCE
        call.begin(connect=timeouts.connect, read=timeouts.read, total=timeouts.total, receive=receive)
        try:
            if self._policy is not None:
                call.addresses = self._admitted(self._policy, prepared.url or "")
            with session.send(
                prepared,
                stream=True,
                timeout=(timeouts.connect, timeouts.read),
                allow_redirects=False,
                verify=self._verify,
                proxies={},
            ) as response:
                status, headers = response.status_code, response.headers
                # A few bytes of a stranger must not grow to whatever he likes.
                readable = self._policy is None or headers.get("Content-Encoding", "").lower() in ("", "identity")
                if not readable and status < 300:
                    raise Refused("compressed, unasked", provider=self.provider, code="encoding_refused", status=status)
                # Of an error only the start is read: it says why, and no more is kept of it anyhow.
                limit = max_bytes if status < 300 else _CHUNK
                content, complete = _read(response, limit) if readable else (b"", False)
        except _FAILURES as error:
            if status is None or not 300 <= status < 500:
                raise self._lost(error, effect=effect, status=status) from None
            content, complete, headers = b"", False, response.headers  # the status alone is definite
        finally:
            call.addresses = ()  # of this thread's next call, none of these
            self._local.used = time.monotonic()
        if not complete and status < 300:
            detail = f"an answer of more than {max_bytes} bytes"
            if effect:
                raise self._lost(detail, effect=True, status=status)
            raise Refused(detail, provider=self.provider, code="answer_too_large", status=status)
        return status, headers, content

    def _admitted(self, policy: Policy, url: str) -> tuple[str, ...]:
        """Return the addresses to connect to; a connection that is kept was opened to such as well."""
        try:
            return policy.addresses(parse(url))
        except ProviderError as error:
            error.provider = self.provider
            raise

    def _lost(self, what: BaseException | str, *, effect: bool, status: int | None = None) -> ProviderError:
        """Return what it means that no usable answer came: whether anything was sent decides."""
        if isinstance(what, BaseException):
            what = "no answer within the time for the whole call" if call.expired else cause(what)
        if self._clean is not None:
            what = self._clean(what)
        if not call.sent:
            return Unavailable(f"not sent: {what}", provider=self.provider)
        if call.received > call.receive_limit and not effect:
            return Refused("an answer without an end", provider=self.provider, code="answer_too_large", status=status)
        kind = UnknownOutcome if effect else Unavailable
        return kind(what, provider=self.provider, status=status, unanswered=True)


_FAILURES: Final = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


def _read(response: requests.Response, limit: int) -> tuple[bytes, bool]:
    """Return the body, decompressed, up to the limit, and whether that is all of it."""
    parts = bytearray()
    for part in response.iter_content(min(_CHUNK, limit + 1)):
        parts += part
        if len(parts) > limit:
            return bytes(parts[:limit]), False
        call.left(1.0)
    return bytes(parts), True


def _is_named(where: Origin, hosts: tuple[str, ...]) -> bool:
    scheme, host, port = where
    named = any(host == name or (name.startswith(".") and host.endswith(name)) for name in hosts)
    return named and scheme == "https" and port == 443
