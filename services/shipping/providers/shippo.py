"""Shippo (https://docs.goshippo.com): addresses, rates, labels, tracking, refunds, in our words.

A thin client: one method, one call, never repeated here. Of all calls `buy` alone costs money, and Shippo
knows no idempotency key; it is for `shared.outbound.effects.once`, with `find_label` as its look-up:
Shippo lists purchases by rate, and our reference is in their metadata.

A purchase may be answered with HTTP 201 and yet have failed (status ERROR); nothing was bought then. Why
is in its messages: those by which a carrier says that it could not be asked, or did not answer, become
Unavailable and are tried again; all others are Refused, since the same data will be refused again. Codes:

    rate_expired       rates older than 7 days cannot be bought; get new ones
    rate_not_found     the account does not know the rate
    address_rejected   the carrier does not take one of the addresses
    billing_problem    the account's means of payment
    carrier_refused    any other refusal by a carrier
    carrier_away       (Unavailable) the carrier did not answer Shippo
    not_found          there is no such object
    label_link_expired (Unavailable) the link to a file is too old; read the label again
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar
from urllib.parse import quote

from services.shipping.shippo_objects import (
    LABEL_FILE_TYPES,
    Address,
    AddressCheck,
    Label,
    LabelFormat,
    Message,
    Parcel,
    Rate,
    Refund,
    Shipment,
    Tracking,
)
from shared.outbound import ProviderError, Refused, Unavailable, UnknownOutcome
from shared.outbound.answers import words_of
from shared.outbound.circuit import CircuitBreaker, breaker
from shared.outbound.client import Answer, Client, Timeouts
from shared.outbound.limits import Limiter, limiter

__all__ = ["BASE_URL", "REFERENCE_LENGTH", "Shippo", "failure_of", "make_client"]

T = TypeVar("T")

BASE_URL: Final = "https://api.goshippo.com"
REFERENCE_LENGTH: Final = 100
_API_VERSION: Final = "2018-02-08"

# A carrier may take its time over a purchase: 2 to 8 seconds are usual, 30 happen.
_TIMEOUTS: Final = Timeouts(connect=3.0, read=30.0, total=40.0)
_QUICK: Final = Timeouts(connect=3.0, read=15.0, total=20.0)

# Calls per minute, https://docs.goshippo.com/docs/API_Concepts/RateLimits
_LIVE: Final = {"write": 500, "one": 4000, "list": 50, "track_write": 750, "track_one": 500}
_TEST: Final = {"write": 50, "one": 400, "list": 10, "track_write": 50, "track_one": 50}

_FILE_HOSTS: Final = (
    ".goshippo.com",
    "shippo-delivery.s3.amazonaws.com",
    "shippo-delivery-east.s3.amazonaws.com",
)
_FILE_BYTES: Final = 10 * 1024 * 1024
_PAGE: Final = 100
_MOST_PAGES: Final = 20
_URL_LENGTH: Final = 200

_TRANSIENT_CODES: Final = frozenset({"carrier_timeout", "carrier_unavailable", "carrier_error_temporary"})
# "The requested service is unavailable between the selected locations" is no outage.
_TRANSIENT: Final = re.compile(
    r"did not respond|not responding|did not answer|timed?[ -]?out|temporar(?:y|ily)|currently unavailable"
    r"|try again (?:later|in a|soon|shortly)|internal (?:server )?error|service (?:is )?down"
    r"|could not connect|connection (?:error|reset|refused)|maintenance|too many requests|rate limit",
    re.IGNORECASE,
)
_CAUSES: Final = (
    ("rate_expired", re.compile(r"rate\b.*\b(?:expired|older than)|expired rate", re.IGNORECASE)),
    ("rate_not_found", re.compile(r"rate\b.*\bnot found", re.IGNORECASE)),
    (
        "billing_problem",
        re.compile(r"insufficient (?:funds|balance)|payment|billing|credit card|postage balance", re.IGNORECASE),
    ),
    (
        "address_rejected",
        re.compile(r"address|street|city|\bstate\b|\bzip\b|postal|recipient|sender|addressee", re.IGNORECASE),
    ),
)


@lru_cache(maxsize=16)
def make_client(
    base_url: str = BASE_URL,
    *,
    live: bool = True,
    timeouts: Timeouts = _QUICK,
    breaker: CircuitBreaker | None = breaker,
    limiter: Limiter | None = limiter,
) -> Client:
    """Return the client that all accounts of one mode share, with its connections, limits and circuit."""
    return Client(
        "shippo",
        base_url,
        timeouts=timeouts,
        headers={"Shippo-API-Version": _API_VERSION},
        classify=_classify,
        breaker=breaker,
        limiter=limiter,
        buckets=_LIVE if live else _TEST,
    )


class Shippo:
    """One account. Methods raise the errors of `shared.outbound`; see the module for the codes."""

    def __init__(
        self, token: str, *, base_url: str = BASE_URL, client: Client | None = None, patience: Timeouts | None = None
    ) -> None:
        """`token` is `shippo_live_…` or `shippo_test_…`; the modes share no data. `patience` is for what
        carriers take their time over: rates and purchases."""
        self.live = token.startswith("shippo_live_")
        self._client = client or make_client(base_url, live=self.live)
        self._patience = patience
        self._headers = {"Authorization": f"ShippoToken {token}"}

    def validate_address(self, address: Address) -> AddressCheck:
        """Have an address checked. An invalid one is an answer, not an error."""
        body = {**address.as_shippo(), "validate": True}
        return self._parsed(AddressCheck.parse, self._post("validate_address", "/addresses", body))

    def create_shipment(
        self, sender: Address, recipient: Address, parcels: list[Parcel], *, reference: str = ""
    ) -> Shipment:
        """Register a shipment and get its rates. Costs nothing, so that it may be repeated."""
        body = {
            "address_from": sender.as_shippo(),
            "address_to": recipient.as_shippo(),
            "parcels": [parcel.as_shippo() for parcel in parcels],
            "metadata": _checked(reference),
            "async": False,
        }
        return self._parsed(
            Shipment.parse, self._post("create_shipment", "/shipments", body, timeouts=self._patience or _TIMEOUTS)
        )

    def get_rate(self, rate_id: str) -> Rate:
        """Read a rate. Raises Refused (`not_found`)."""
        return self._parsed(Rate.parse, self._get("get_rate", f"/rates/{_id(rate_id)}"))

    def buy(self, rate_id: str, label_format: LabelFormat, reference: str) -> Label:
        """Buy a label: spends money, each time that it is called. Returns it `purchased` or `waiting`.

        `reference` is ours, at most 100 characters, and the only way to find the label again.
        Raises UnknownOutcome when it may have been bought and no answer says so; anything else means
        that nothing was bought.
        """
        body = {
            "rate": rate_id,
            "async": False,  # the default is an answer before the carrier has said anything
            "label_file_type": LABEL_FILE_TYPES[label_format],
            "metadata": _checked(reference, needed=True),
        }
        answer = self._post("buy", "/transactions", body, effect=True, timeouts=self._patience or _TIMEOUTS)
        label = self._parsed(Label.parse, answer, effect=True)
        if label.status == "failed":
            raise failure_of(label.messages)
        return label

    def get_label(self, label_id: str) -> Label:
        """Read a label by Shippo's id, with a fresh link to its file; also one that failed."""
        return self._parsed(Label.parse, self._get("get_label", f"/transactions/{_id(label_id)}"))

    def find_labels(self, rate_id: str, reference: str) -> list[Label]:
        """Return what was bought, or tried, at this rate under our reference, newest first.

        Lists are rationed (50 calls a minute, 10 in test mode).
        """
        found: list[Label] = []
        for page in range(1, _MOST_PAGES + 1):
            params = {"rate": rate_id, "results": _PAGE, "page": page}
            answer = self._get("find_labels", "/transactions", bucket="list", params=params)
            labels = self._parsed(lambda data: [Label.parse(one) for one in data["results"]], answer)
            # The filter is Shippo's; were it ignored, another's label must not be taken for ours.
            found += [one for one in labels if one.reference == reference and one.rate_id == rate_id]
            if not answer.data.get("next"):
                return found
        raise Unavailable(f"more than {_MOST_PAGES * _PAGE} purchases at one rate", provider="shippo")

    def find_label(self, rate_id: str, reference: str) -> Label | None:
        """Return the label that was bought under our reference, or is about to be; None if there is none.

        What failed is no purchase. More than one is reported by the oldest; see `find_labels`.
        """
        bought = [one for one in self.find_labels(rate_id, reference) if one.status != "failed"]
        return next((one for one in reversed(bought) if one.status != "waiting"), bought[-1] if bought else None)

    def download_label(self, url: str) -> tuple[bytes, str]:
        """Return a label's file and its media type, from Shippo's own hosts only.

        Raises Unavailable with the code `label_link_expired`, or with `label_unreadable` for a file that
        is none of PDF, PNG and ZPL; Refused with `foreign_url` for a link that leads elsewhere.
        """
        try:
            content = self._client.download("download_label", url, hosts=_FILE_HOSTS, max_bytes=_FILE_BYTES).content
        except Refused as error:
            if error.status in (403, 404, 410):
                raise Unavailable(error.detail, provider="shippo", code="label_link_expired") from error
            raise
        for start, media_type in _MEDIA_TYPES:
            if content.lstrip()[: len(start)] == start:
                return content, media_type
        raise Unavailable(f"a file of {len(content)} bytes", provider="shippo", code="label_unreadable")

    def refund(self, label_id: str) -> Refund:
        """Ask for the money back. Refused when it was asked for before, or the label was used.

        Raises UnknownOutcome; `get_label` then tells (`refund_pending`).
        """
        answer = self._post("refund", "/refunds", {"transaction": label_id, "async": False}, effect=True)
        return self._parsed(Refund.parse, answer, effect=True)

    def get_refund(self, refund_id: str) -> Refund:
        """Read how a refund stands."""
        return self._parsed(Refund.parse, self._get("get_refund", f"/refunds/{_id(refund_id)}"))

    def track(self, carrier: str, number: str, *, reference: str = "") -> Tracking:
        """Have a number followed that was not bought here; webhooks tell of its scans. May be repeated."""
        body = {"carrier": carrier, "tracking_number": number, "metadata": _checked(reference)}
        return self._parsed(Tracking.parse, self._post("track", "/tracks", body, bucket="track_write"))

    def get_tracking(self, carrier: str, number: str) -> Tracking:
        """Read where a parcel is. A number that nobody knows is `unknown`, not an error."""
        path = f"/tracks/{_id(carrier)}/{_id(number)}"
        return self._parsed(Tracking.parse, self._get("get_tracking", path, bucket="track_one"))

    def register_webhook(self, url: str, *, event: str = "all") -> str:
        """Have events sent to `url` (below 200 characters) and return the registration's id.

        Registering again returns the registration that is there.
        """
        if len(url) >= _URL_LENGTH:
            raise ValueError(f"Shippo takes URLs of less than {_URL_LENGTH} characters")
        there = self._get("list_webhooks", "/webhooks", bucket="list", params={"results": _PAGE})
        for one in self._parsed(lambda data: list(data["results"]), there):
            if (one.get("url"), one.get("event"), one.get("active")) == (url, event, True):
                return str(one["object_id"])
        body = {"event": event, "url": url, "active": True, "is_test": not self.live}
        answer = self._post("register_webhook", "/webhooks", body)
        return self._parsed(lambda data: str(data["object_id"]), answer)

    def _get(self, operation: str, path: str, *, bucket: str = "one", **options: Any) -> Answer:
        return self._client.get(operation, path, headers=self._headers, bucket=bucket, **options)

    def _post(
        self, operation: str, path: str, body: Mapping[str, Any], *, bucket: str = "write", **options: Any
    ) -> Answer:
        return self._client.post(operation, path, json=body, headers=self._headers, bucket=bucket, **options)

    def _parsed(self, parse: Callable[[Any], T], answer: Answer, *, effect: bool = False) -> T:
        """Read an answer; one that is not as documented tells as little as none."""
        try:
            return parse(answer.data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            kind = UnknownOutcome if effect else Unavailable
            raise kind(
                f"an answer that is not as documented: {type(error).__name__}: {error}",
                provider="shippo",
                status=answer.status,
                unanswered=True,
            ) from error


_MEDIA_TYPES: Final = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG", "image/png"),
    (b"^XA", "application/zpl"),
    (b"CT~~CD", "application/zpl"),  # printers' preamble before ^XA
)


def failure_of(messages: tuple[Message, ...]) -> ProviderError:
    """Return the error that the messages of a failed purchase mean; see the module."""
    words = "; ".join(": ".join(filter(None, (one.source, one.code, one.text))) for one in messages)
    transient = any(one.code.lower() in _TRANSIENT_CODES or _TRANSIENT.search(one.text) for one in messages)
    cause = _cause(words)
    if transient and cause != "rate_expired":
        return Unavailable(words, provider="shippo", code="carrier_away")
    return Refused(words or "no reason given", provider="shippo", code=cause or "carrier_refused")


def _classify(status: int, _headers: Mapping[str, str], data: Any) -> ProviderError | None:
    if status == 404:
        return Refused(words_of(data), code="not_found")
    if status == 402:
        return Refused(words_of(data), code="billing_problem")
    if status in (400, 422):
        words = words_of(data)
        code = _cause(words)
        # Of a refused request the field is named: {"rate": ["…"]}.
        return Refused(f"{status}: {words}", code=code or "invalid_request")
    return None


def _cause(words: str) -> str | None:
    return next((code for code, pattern in _CAUSES if pattern.search(words)), None)


def _checked(reference: str, *, needed: bool = False) -> str:
    if len(reference) > REFERENCE_LENGTH or (needed and not reference):
        raise ValueError(f"a reference has 1 to {REFERENCE_LENGTH} characters")
    return reference


def _id(text: str) -> str:
    """Return an id for use in a path: nothing in it may lead to another one."""
    if not text or text in (".", ".."):
        raise ValueError("an id is needed")
    return quote(text, safe="")
