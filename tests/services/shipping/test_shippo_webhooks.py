"""Webhooks as the sandbox sends them, and as an attacker or a changed API would."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shipping.providers.shippo import Shippo, make_client
from services.shipping.shippo_objects import Address, Parcel
from services.shipping.webhooks import SIGNATURE_HEADER, Unreadable, WebhookEvent, is_genuine, parse
from shared.sandbox import Sandbox

ADDRESS = Address("Ada Example", "215 Clayton St.", "San Francisco", "94117", "US", state="CA")
BOX = Parcel("5", "5", "5", "in", "2", "lb")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

Received = queue.SimpleQueue[tuple[bytes, str | None]]


@pytest.fixture
def received() -> Iterator[tuple[str, Received]]:
    """A URL, and what arrives there: raw body and signature."""
    arrived: Received = queue.SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.put((body, self.headers.get(SIGNATURE_HEADER)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hooks?token=ours", arrived
    server.shutdown()
    server.server_close()


def test_what_the_provider_sends_is_genuine_and_read(received: tuple[str, Received]) -> None:
    url, arrived = received
    with Sandbox.start(seed=1, webhook_secret="sesame") as sandbox:
        shippo = Shippo(sandbox.token("a"), client=make_client(sandbox.url, live=False, breaker=None, limiter=None))
        shippo.register_webhook(url)
        shippo.register_webhook(url)
        rate = shippo.create_shipment(ADDRESS, ADDRESS, [BOX]).rates[0]
        label = shippo.buy(rate.id, "pdf", "l1")
        sandbox.move("usps", label.tracking_number, "TRANSIT", location={"city": "Reno"})
        sandbox.move("usps", label.tracking_number, "DELIVERED", substatus="delivered")
        events: list[WebhookEvent] = []
        for _ in range(3):
            body, signature = arrived.get(timeout=10)
            assert genuine(body, signature)
            assert not genuine(body + b" ", signature)
            assert not genuine(body, None)
            events.append(parse(body))
    assert [event.event for event in events] == ["transaction_created", "track_updated", "track_updated"]
    assert len({event.key for event in events}) == 3
    assert all(event.test for event in events)
    assert events[0].label is not None
    assert (events[0].label.id, events[0].label.status) == (label.id, "purchased")
    for event, status in zip(events[1:], ("transit", "delivered"), strict=True):
        assert event.tracking is not None
        assert event.tracking.latest is not None
        assert (event.tracking.label_id, event.tracking.latest.status) == (label.id, status)


def genuine(body: bytes, signature: str | None, **changes: Any) -> bool:
    how: dict[str, Any] = {"token": "ours", "expected_token": "ours", "secret": "sesame", "now": datetime.now(UTC)}
    return is_genuine(body, signature=signature, **{**how, **changes})


def test_token_and_signature_are_both_asked_for() -> None:
    digest = hmac.new(b"sesame", f"{int(NOW.timestamp())}.{{}}".encode(), hashlib.sha256).hexdigest()
    header = f"t={int(NOW.timestamp())},v1={digest}"
    assert genuine(b"{}", header, now=NOW)
    assert not genuine(b"{}", header, now=NOW, token="theirs")
    assert not genuine(b"{}", header, now=NOW, token=None)
    assert not genuine(b"{}", header, now=NOW + timedelta(minutes=6))
    assert not genuine(b"{}", None, now=NOW)
    assert genuine(b"{}", None, now=NOW, secret=None), "without a secret the token is what there is"
    assert not genuine(b"{}", None, now=NOW, secret=None, token="", expected_token="")


TRACK = {
    "event": "track_updated",
    "test": False,
    "data": {
        "carrier": "USPS",
        "tracking_number": "92055",
        "transaction": "tx1",
        "metadata": "l1",
        "eta": "2026-03-05T00:00:00Z",
        "tracking_status": {
            "status": "TRANSIT",
            "status_date": "2026-03-01T10:00:00.123Z",
            "status_details": "On its way",
            "substatus": {"code": "out_for_delivery", "text": "Out", "action_required": False},
            "location": None,
        },
        "tracking_history": [],
    },
}


def changed(**tracking_status: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(TRACK))
    copy["data"]["tracking_status"].update(tracking_status)
    return copy


def test_the_key_is_the_same_for_a_repetition_and_another_for_news() -> None:
    key = parse(TRACK).key
    assert parse(json.dumps(TRACK, indent=3).encode()).key == key
    assert parse(changed(status_details="other words")).key == key
    assert parse(changed(status_date="2026-03-01T11:00:00.123+01:00")).key == key, "the same moment"
    others = {
        parse(changed(status="DELIVERED")).key,
        parse(changed(status_date="2026-03-01T10:00:01Z")).key,
        parse(changed(substatus={"code": "delayed"})).key,
        parse({**TRACK, "data": {**TRACK["data"], "tracking_number": "92056"}}).key,  # type: ignore[dict-item]
    }
    assert len(others | {key}) == 5


def test_a_parcel_of_which_nothing_is_known() -> None:
    event = parse({**TRACK, "data": {**TRACK["data"], "tracking_status": None}})  # type: ignore[dict-item]
    assert event.tracking is not None
    assert event.tracking.latest is None
    assert event.tracking.carrier == "usps"


def test_other_events_pass_through() -> None:
    event = parse({"event": "batch_created", "test": True, "data": {"object_id": "b1"}})
    assert (event.label, event.tracking, event.test) == (None, None, True)
    assert event.key != parse({"event": "batch_created", "data": {"object_id": "b2"}}).key


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"null",
        b'"text"',
        b"[" * 100_000,
        b'{"event": "track_updated"}',
        b'{"event": 1, "data": {}}',
        b'{"event": "track_updated", "data": []}',
        b'{"event": "track_updated", "data": {"carrier": "usps"}}',
        b'{"event": "transaction_updated", "data": {"object_id": "x", "status": "SHINY"}}',
        json.dumps(changed(status="LOST")).encode(),
        json.dumps(changed(status_date="yesterday")).encode(),
        json.dumps(changed(status_date=5)).encode(),
        json.dumps(changed(location=[1])).encode(),
    ],
)
def test_what_is_not_as_documented_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        parse(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    event=st.sampled_from(["track_updated", "transaction_updated", "all"]),
    data=st.dictionaries(
        st.sampled_from([*TRACK["data"], "object_id", "status", "messages", "rate", "object_updated"]),  # type: ignore[misc]
        JSON,
    ),
)
def test_nothing_but_unreadable_is_raised(event: str, data: dict[str, Any]) -> None:
    with contextlib.suppress(Unreadable):
        parse({"event": event, "data": data})
