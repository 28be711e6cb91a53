"""Fetching what a stranger's URL leads to, without ever reaching what the internet cannot reach.

    with open(path, "wb") as file:
        fetched = fetch(url, max_bytes=10_000_000, total=30, connect=10, into=file)

A tenant writes the URL, and whoever owns its host writes the answers: both are hostile. So

- a URL is read by the one strict parser of `addresses`, http and https only, on the ports of the policy;
- its name is resolved once, *every* address must be public, and the connection goes to those very
  addresses, so that a name which is rebound between check and use gains nothing; name, Host header and
  certificate stay those of the URL;
- each redirect begins again at the first point; from https none leads back to http;
- nothing is taken along: no proxy, no cookie, no credential, no referrer;
- one deadline bounds it all, redirects and a trickle of single bytes included, one limit the bytes of the
  body, another the bytes on the wire. Compressed answers are refused, so that none grows.

What it raises:

    Refused      url_not_allowed      not for us to fetch, the first or a later one of a chain
                 url_not_found        404, 410
                 url_not_public       401, 403, 407: it wants to know who asks
                 url_refused          any other answer which a retry will not change
                 redirect_refused     without a place to go to, or from https to http
                 too_many_redirects
                 too_large            more than `max_bytes`
                 encoding_refused     compressed, although we asked for it as it is
    RateLimited  429
    Unavailable  url_host_unknown, url_unreachable, url_timeout, or the default for 408, 425, 5xx

What `into` raises is passed on. Inside of a request, a transactional job or an open unit of work it raises
`RuleViolation`.
"""

from __future__ import annotations

import io
import re
import time
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final
from urllib.parse import urljoin

import urllib3.exceptions
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from shared.db.database import current_work
from shared.outbound import guard
from shared.outbound.addresses import Target, not_allowed, parse
from shared.outbound.answers import cause, retry_after
from shared.outbound.errors import ProviderError, RateLimited, Refused, Unavailable
from shared.outbound.policy import PUBLIC, Policy
from shared.outbound.wire import Pool, TLSPool, call
from shared.telemetry import client_span, metrics

__all__ = ["PUBLIC", "Fetched", "Policy", "fetch"]

_PROVIDER: Final = "web"
_CHUNK: Final = 65536
_WIRE_ALLOWANCE: Final = 1 << 20
"""Bytes for headers of all hops, TLS not counted; a chunked body may take twice its size besides."""
_FOLLOWED: Final = (301, 302, 303, 307, 308)
_NOT_FOUND: Final = (404, 410)
_NOT_PUBLIC: Final = (401, 403, 407)
_TRY_AGAIN: Final = (408, 425)
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,80}/[a-z0-9!#$&^_.+-]{1,80}")


class _NotWritten(Exception):
    """Our disk is full or the like: no fault of the other side, and not to be taken for one."""

    def __init__(self, said: Exception) -> None:
        super().__init__(str(said))
        self.said = said


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was there. `url` is the last of the chain; `media_type_claimed` is the server's word, unverified.

    `media_type_claimed` is in lower case and without parameters, "" when nothing usable was said.
    `content` is empty when the bytes went into a file.
    """

    url: str
    status: int
    media_type_claimed: str
    size: int
    redirects: int
    content: bytes = field(repr=False)


def fetch(
    url: str,
    *,
    max_bytes: int,
    total: float,
    connect: float,
    max_redirects: int = 3,
    into: BinaryIO | None = None,
    policy: Policy = PUBLIC,
) -> Fetched:
    """Fetch a URL by GET; the table of this module says what it raises.

    `max_bytes` bounds the body; `total` and `connect` are seconds, for everything and for each connection.
    The body is written to `into` as it comes, and returned as `content` without it. After an error what
    `into` holds is a part, for the caller to throw away.
    """
    guard.check("web fetch")
    if current_work() is not None:
        # Its connection and its locks would be held for as long as a stranger pleases.
        raise guard.RuleViolation("web fetch: not inside of an open unit of work")
    started = time.monotonic()
    outcome = "interrupted"
    memory = io.BytesIO()
    call.begin(connect=connect, read=total, total=total, receive=2 * max_bytes + _WIRE_ALLOWANCE)
    try:
        with client_span(_PROVIDER, "fetch", "GET", url) as span:
            try:
                fetched = _follow(url, into or memory, max_bytes, max_redirects, policy)
                span.status(fetched.status)
            except ProviderError as error:
                error.provider = _PROVIDER
                if error.status is not None:
                    span.status(error.status)
                span.fail(error.code)
                raise
        outcome = "ok"
    except ProviderError as error:
        outcome = type(error).default_code.removeprefix("provider_")
        raise
    except _NotWritten as error:
        raise error.said from None
    finally:
        call.addresses = ()  # of this thread's next call, none of these
        metrics.provider_request(_PROVIDER, "fetch", outcome, time.monotonic() - started)
    return replace(fetched, content=memory.getvalue())


def _follow(url: str, into: BinaryIO, max_bytes: int, max_redirects: int, policy: Policy) -> Fetched:
    target = parse(url)
    for redirects in range(max_redirects + 1):
        call.addresses = policy.addresses(target)
        found = _get(target, into, max_bytes, policy)
        if isinstance(found, Fetched):
            return replace(found, redirects=redirects)
        target = _next(target, found)
    raise Refused(f"more than {max_redirects} redirects", code="too_many_redirects")


def _next(target: Target, location: str) -> Target:
    try:
        # HTTP's headers are bytes, read as Latin-1; many servers put a URL in UTF-8 into this one.
        location = location.encode("latin-1").decode()
        if location.startswith("//"):
            location = f"{target.scheme}:{location}"
        # What names a scheme goes to the strict parser as it is: urljoin repairs `http:x` and `http:///x`.
        following = parse(location if _ABSOLUTE.match(location) else urljoin(target.url, location))
    except ValueError:
        raise not_allowed(f"{target.host} redirects to what is no URL") from None
    if target.scheme == "https" and following.scheme == "http":
        raise Refused(f"{target.host} redirects from https to http", code="redirect_refused")
    return following


def _get(target: Target, into: BinaryIO, max_bytes: int, policy: Policy) -> Fetched | str:
    """Return what is at a target, or the Location to which it redirects. Connects to `call.addresses`."""
    pool: Pool | TLSPool
    if target.scheme == "https":
        certificates = policy.certificates or DEFAULT_CA_BUNDLE_PATH
        pool = TLSPool(target.host, target.port, cert_reqs="CERT_REQUIRED", ca_certs=certificates)
    else:
        pool = Pool(target.host, target.port)
    try:
        # A pool of this hop alone: no connection that was opened to another address is ever used again.
        response = pool.urlopen(
            "GET",
            target.target,
            headers={"User-Agent": "backroom", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"},
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            if response.status in _FOLLOWED:
                location = response.headers.get("Location")
                if not location:
                    raise Refused("a redirect to nowhere", code="redirect_refused", status=response.status)
                return location
            _check(response, max_bytes)
            size = _copy(response, into, max_bytes)
        finally:
            response.close()
    except _FAILURES as error:
        raise _lost(error, target) from None
    finally:
        pool.close()
    claimed = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    media_type = claimed if _MEDIA_TYPE.fullmatch(claimed) else ""
    return Fetched(target.url, response.status, media_type, size, redirects=0, content=b"")


def _check(response: Any, max_bytes: int) -> None:
    """Raise what an answer means that is none, or none of ours, by its status and headers."""
    status, headers = response.status, response.headers
    if status == 429:
        raise RateLimited("429", retry_after=retry_after(headers), status=status)
    if status >= 500 or status in _TRY_AGAIN:
        raise Unavailable(str(status), status=status)
    if status != 200:
        code = "url_not_found" if status in _NOT_FOUND else "url_not_public" if status in _NOT_PUBLIC else "url_refused"
        raise Refused(str(status), code=code, status=status)
    encodings = {each.strip().lower() for each in headers.get("Content-Encoding", "").split(",")}
    transfers = {each.strip().lower() for each in headers.get("Transfer-Encoding", "").split(",")}
    if encodings - {"", "identity"} or transfers - {"", "identity", "chunked"}:
        raise Refused("compressed, unasked", code="encoding_refused", status=status)
    length = headers.get("Content-Length", "")
    if "chunked" not in transfers and length.isdecimal() and int(length[:20]) > max_bytes:
        raise _too_large(max_bytes)


def _copy(response: Any, into: BinaryIO, max_bytes: int) -> int:
    size = 0
    for part in response.stream(_CHUNK, decode_content=False):
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        try:
            into.write(part)
        except Exception as error:
            raise _NotWritten(error) from error
        call.left(1.0)
    return size


def _too_large(max_bytes: int) -> Refused:
    return Refused(f"more than {max_bytes} bytes", code="too_large", status=200)


def _lost(error: Exception, target: Target) -> ProviderError:
    if call.received > call.receive_limit:
        return Refused(f"{target.host} sends without an end", code="too_large")
    if call.expired:
        return Unavailable(f"{target.host}: no answer within the time for the whole fetch", code="url_timeout")
    late = isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError)
    late = late and not isinstance(error, urllib3.exceptions.NewConnectionError)  # a time-out to urllib3, always
    return Unavailable(f"{target.host}: {cause(error)}", code="url_timeout" if late else "url_unreachable")


_FAILURES: Final = (urllib3.exceptions.HTTPError, OSError, ValueError)
