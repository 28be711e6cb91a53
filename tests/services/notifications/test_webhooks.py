"""Tenants' own systems are told, each once at least, signed, and however badly they answer."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.notifications.jobs import clean_up_webhook_deliveries, deliver_webhook
from services.notifications.jobs.webhooks import RETRY
from services.notifications.providers import webhook
from services.notifications.service import service
from services.notifications.settings import settings
from services.notifications.webhooks.catalog import PUBLISHED
from shared.context import SYSTEM
from shared.events.contracts.imports import ImportFailed
from shared.events.contracts.shipping import LabelFailed, OrderCreated, OrderTransitioned
from shared.jobs import library
from shared.outbound import ProviderError, vault
from shared.testing.events import deliver
from shared.testing.service import ServiceUnderTest, wait_until
from shared.web.testing import Client
from tests.outbound.raw_server import answer
from tests.outbound.spellings import OTHER_URLS, SPELLINGS
from tests.services.notifications.receiver import Endpoint, Receiver, member


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


@pytest.fixture
def app(
    service_app: Callable[..., ServiceUnderTest], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServiceUnderTest]:
    """Notifications; the receiver may be sent to, and has half a second."""
    monkeypatch.setenv("NOTIFICATIONS_WEBHOOK_TRUSTED_HOSTS", json.dumps([receiver.url.removeprefix("http://")]))
    monkeypatch.setenv("NOTIFICATIONS_WEBHOOK_TOTAL_SECONDS", "0.5")
    settings.cache_clear()
    yield service_app(service)
    settings.cache_clear()


@pytest.fixture
def owner(app: ServiceUnderTest) -> Iterator[Client]:
    web, signer = app.app.web(), app.app.secrets.signer
    assert signer is not None
    yield Client(web, signer)
    web.extensions["backroom"].close()


@pytest.fixture
def endpoint(app: ServiceUnderTest, owner: Client, receiver: Receiver) -> Endpoint:
    return Endpoint(app, owner, f"{receiver.url}/hooks?from=backroom")


def notices(app: ServiceUnderTest) -> list[str]:
    """Of endpoints that were switched off."""
    return [row.title for row in app.query("SELECT title FROM notices WHERE kind = 'webhook_disabled' ORDER BY id")]


# -- what is told ----------------------------------------------------------------------------------------------


def test_what_happens_is_told_signed(app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver) -> None:
    event_id = endpoint.happens(OrderCreated.example(), time="2026-03-01T12:00:00+00:00")
    job = endpoint.attempt()
    assert (job.state, job.queue, job.result, job.subject) == (
        "succeeded", "webhooks_out", {"status": 200}, "Webhook order.created to 127.0.0.1",
    )  # fmt: skip
    (message,) = receiver.verified(endpoint.secret)
    assert message == {
        "type": "order.created",
        "timestamp": "2026-03-01T12:00:00Z",
        "data": {
            "order_id": str(OrderCreated.example().order_id),
            "number": "1042",
            "created_by": "user:ada",
            "recipient": {"name": "Bob Example", "company": "Example Labels", "email": "bob@example.com"},
        },
    }
    headers, _ = receiver.got[0]
    assert headers["webhook-id"] == event_id
    assert headers["content-type"] == "application/json"
    assert receiver.requests[0].startswith(b"POST /hooks?from=backroom HTTP/1.1\r\n")
    delivery = endpoint.delivery()
    assert (delivery["state"], delivery["attempts"], delivery["response_status"], delivery["response"]) == (
        "delivered", 1, 200, "ok",
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_type_is_told_without_what_is_ours_alone(
    name: str, app: ServiceUnderTest, owner: Client, receiver: Receiver
) -> None:
    endpoint = Endpoint(app, owner, receiver.url, name)
    endpoint.happens(PUBLISHED[name].contract.example())
    endpoint.attempt()
    (message,) = receiver.verified(endpoint.secret)
    assert message["type"] == name
    assert set(message["data"]) == set(PUBLISHED[name].fields)
    assert not [field for field in message["data"] if "job" in field or "secret" in field or "token" in field]
    assert PUBLISHED[name].description.endswith(".")


def test_only_who_subscribed_is_told_and_each_once(app: ServiceUnderTest, owner: Client, receiver: Receiver) -> None:
    orders = Endpoint(app, owner, f"{receiver.url}/orders", "order.created", "order.transitioned")
    both = Endpoint(app, owner, f"{receiver.url}/both", "order.created", "label.failed")
    off = Endpoint(app, owner, f"{receiver.url}/off", "order.created")
    off.change(state="disabled")
    event_id = orders.happens(OrderCreated.example())
    orders.happens(OrderTransitioned.example())
    both.happens(LabelFailed.example())
    both.happens(ImportFailed.example())
    both.happens(OrderCreated.example(), event_id=event_id)  # redelivered: its inbox knows it
    app.drain(queues=["webhooks_out"])
    assert sorted(request.split(b" ")[1] for request in receiver.requests) == [
        b"/both",
        b"/both",
        b"/orders",
        b"/orders",
    ]
    assert off.deliveries() == []


def test_an_event_that_is_told_again_on_purpose_is_the_same_message(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    event_id = endpoint.happens()
    endpoint.happens(replay=event_id)
    assert [delivery["message_id"] for delivery in endpoint.deliveries()] == [event_id]


def test_another_tenants_endpoint_is_not_told(app: ServiceUnderTest, endpoint: Endpoint) -> None:
    endpoint.happens(tenant_id="globex")
    assert endpoint.jobs() == []


# -- what goes wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["400 Bad", "404 No", "409 No", "500 Oops", "502 Bad", "503 Busy", "302 There"])
def test_whatever_is_not_2xx_is_tried_again(
    status: str, app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    receiver.says(status, b'{"error": "not today, token=sesame123"}', f"Location: {receiver.url}/elsewhere")
    endpoint.happens()
    job = endpoint.attempt()
    assert (job.state, job.waiting_for, job.failures) == ("scheduled", "retry", 1)
    assert abs((job.run_at - datetime.now(UTC)).total_seconds() - RETRY[0]) < 2
    delivery = endpoint.delivery()
    assert (delivery["state"], delivery["attempts"], delivery["response_status"]) == ("waiting", 1, int(status[:3]))
    assert "not today" in delivery["response"]
    assert "sesame" not in delivery["response"]
    assert delivery["problem"] == "Your own system did not accept a message."
    assert endpoint.attempt().state == "succeeded"
    first, second = receiver.got
    assert first[0]["webhook-id"] == second[0]["webhook-id"], "it is the same message"
    assert first[1] == second[1]
    assert len(receiver.verified(endpoint.secret)) == 2
    assert endpoint.view()["failing_since"] is None


def test_the_schedule_outlasts_a_weekend_and_then_a_person_is_told(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    assert sum(RETRY) > 3 * 86400
    receiver.says("500 Oops", times=10)
    endpoint.happens()
    for number in range(10):
        endpoint.age(resting_until="1 day")
        job = endpoint.attempt()
        if number < 9:
            assert abs((job.run_at - datetime.now(UTC)).total_seconds() - RETRY[number]) < 2
    assert (job.state, job.outcome, len(receiver.requests)) == ("failed", "retry", 10)
    assert job.failure["code"] == "webhook_refused"
    shown = endpoint.owner.get(f"/v1/jobs/{job.id}").json["error"]
    assert shown["what"] == "Your own system did not accept a message."
    assert endpoint.delivery()["state"] == "failed"
    # The button in the alert.
    assert endpoint.owner.post(f"/v1/jobs/{job.id}/retry").status_code == 200
    endpoint.age(resting_until="1 day")
    assert endpoint.attempt().state == "succeeded"
    assert endpoint.delivery()["state"] == "delivered"


def _hang(release: threading.Event) -> Callable[..., None]:
    return lambda connection, _: release.wait(20) and None


def _trickle(connection: Any, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    pause = threading.Event()
    while True:
        connection.sendall(b"x")
        pause.wait(0.05)


def _trickled_head(connection: Any, _: bytes) -> None:
    pause = threading.Event()
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
        connection.sendall(bytes([byte]))
        pause.wait(0.02)


def _flood(connection: Any, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def test_silence_is_a_failure_within_the_time_allowed(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    release = threading.Event()
    receiver.answers += [_hang(release), _trickled_head, lambda connection, _: connection.close()]
    endpoint.happens()
    began = datetime.now(UTC)
    for _ in range(3):
        job = endpoint.attempt()
        assert (job.state, job.waiting_for) == ("scheduled", "retry")
        delivery = endpoint.delivery()
        assert (delivery["response_status"], delivery["response"]) == (None, "")
        assert delivery["problem"] == "Your own system did not answer when we had a message for it."
    assert datetime.now(UTC) - began < timedelta(seconds=10)
    release.set()


@pytest.mark.parametrize("bad", [_trickle, _flood, answer(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip")])
def test_2xx_is_taken_whatever_follows(
    bad: Callable[..., None], app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    receiver.answers.append(bad)
    endpoint.happens()
    assert endpoint.attempt().state == "succeeded"
    delivery = endpoint.delivery()
    assert (delivery["state"], delivery["response_status"], delivery["response"]) == ("delivered", 200, "")


def test_an_answer_is_kept_bounded_and_without_secrets(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    receiver.says("200 OK", f"your secret is {endpoint.secret} ".encode() + b"\x00\xff" + b"x" * 50_000)
    endpoint.happens()
    endpoint.attempt()
    response = endpoint.delivery()["response"]
    assert len(response.encode()) <= webhook.EXCERPT
    assert response.startswith("your secret is [redacted]")


def test_429_is_waited_for_as_long_as_it_asks(app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver) -> None:
    receiver.says("429 Slow down", b"", "Retry-After: 120")
    endpoint.happens()
    job = endpoint.attempt()
    assert (job.state, job.waiting_for, job.failures) == ("scheduled", "provider_rate_limited", 0)
    assert abs((job.run_at - datetime.now(UTC)).total_seconds() - 120) < 2
    endpoint.happens()
    second = app.run(endpoint.jobs()[1].id)
    assert second.waiting_for == "endpoint_resting", "nothing else is sent meanwhile"
    assert len(receiver.requests) == 1


# -- endpoints that do not work --------------------------------------------------------------------------------


def test_410_switches_it_off_and_the_owner_is_told(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    member("owner"), member("sales")
    receiver.says("410 Gone")
    endpoint.happens()
    endpoint.happens()
    first, second = (app.run(job.id) for job in endpoint.jobs())
    assert (
        (first.state, first.result) == (second.state, second.result) == ("succeeded", {"skipped": "endpoint_disabled"})
    )
    view = endpoint.view()
    assert (view["state"], view["disabled_reason"]) == ("disabled", "gone")
    assert [delivery["state"] for delivery in endpoint.deliveries()] == ["dropped", "dropped"]
    assert len(receiver.requests) == 1
    assert notices(app) == ["Webhooks to 127.0.0.1 are switched off"]
    told = (
        "SELECT m.role FROM notice_receipts r JOIN notices n ON n.id = r.notice_id JOIN members m ON m.id = r.member_id"
    )
    assert app.query(f"{told} WHERE n.kind = 'webhook_disabled'") == [("owner",)]
    endpoint.happens()
    assert len(endpoint.jobs()) == 2, "nothing more is queued for it"
    assert endpoint.owner.post(f"{endpoint.path}/test").status_code == 409
    assert endpoint.change(state="enabled")["disabled_reason"] is None
    answered = endpoint.owner.post(f"{endpoint.path}/replay", {"since": "2026-01-01T00:00:00Z"})
    assert answered.status_code == 202, answered.text
    app.drain()
    assert [delivery["state"] for delivery in endpoint.deliveries()] == ["delivered", "delivered"]


def test_one_that_takes_nothing_for_days_is_switched_off_once(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    member("owner")
    receiver.says("500 Oops", times=2)
    endpoint.happens()
    endpoint.attempt()
    endpoint.age(failing_since="4 days")
    assert endpoint.view()["state"] == "enabled"
    endpoint.age(failing_since="2 days")
    endpoint.attempt()
    assert (endpoint.view()["state"], endpoint.view()["disabled_reason"]) == ("disabled", "failing")
    assert len(notices(app)) == 1


def test_what_another_address_did_is_not_held_against_the_new_one(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    def move(connection: Any, request: bytes) -> None:
        app.execute("UPDATE webhook_endpoints SET url = url || 'x'")
        answer(b"", "410 Gone")(connection, request)

    receiver.answers.append(move)
    endpoint.happens()
    assert endpoint.attempt().waiting_for == "retry"
    assert (endpoint.view()["state"], endpoint.view()["failing_since"]) == ("enabled", None)


def test_after_three_failures_it_rests_and_what_waits_burns_no_attempt(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    receiver.says("500 Oops", times=4)
    for _ in range(5):
        endpoint.happens()
    jobs = [app.run(job.id) for job in endpoint.jobs()]
    assert [job.waiting_for for job in jobs] == ["retry"] * 3 + ["endpoint_resting"] * 2
    assert [job.failures for job in jobs] == [1, 1, 1, 0, 0]
    assert len(receiver.requests) == 3
    rest = datetime.fromisoformat(endpoint.view()["resting_until"])
    assert 2 < (rest - datetime.now(UTC)).total_seconds() < 6
    # A test goes at once, and its success ends the rest.
    endpoint.age(resting_until="1 minute")
    app.run(jobs[3].id)
    longer = datetime.fromisoformat(endpoint.view()["resting_until"])
    assert 7 < (longer - datetime.now(UTC)).total_seconds() < 11, "twice as long"
    tried = endpoint.owner.post(f"{endpoint.path}/test")
    assert tried.status_code == 202
    app.run(endpoint.jobs()[-1].id)
    assert endpoint.view()["resting_until"] is None
    assert endpoint.owner.get(tried.headers["Location"]).json["state"] == "delivered"
    assert json.loads(receiver.got[-1][1])["type"] == "webhook.test"
    assert app.run(jobs[4].id).state == "succeeded"


@contextmanager
def _stuck(app: ServiceUnderTest, receiver: Receiver, count: int) -> Iterator[threading.Event]:
    release = threading.Event()
    receiver.answers += [_hang(release)] * count
    try:
        yield release
    finally:
        release.set()


def test_a_slow_endpoint_holds_up_neither_the_others_nor_other_tenants(
    service_app: Callable[..., ServiceUnderTest], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty messages for one that hangs; those for the tenant's other endpoint and another tenant go through."""
    quick = Receiver()
    hosts = [one.url.removeprefix("http://") for one in (receiver, quick)]
    monkeypatch.setenv("NOTIFICATIONS_WEBHOOK_TRUSTED_HOSTS", json.dumps(hosts))
    monkeypatch.setenv("NOTIFICATIONS_WEBHOOK_TOTAL_SECONDS", "15")
    settings.cache_clear()
    app = service_app(service, worker_threads=6)
    web, signer = app.app.web(), app.app.secrets.signer
    assert signer is not None
    owner = Client(web, signer)
    slow = Endpoint(app, owner, receiver.url, "label.failed")
    Endpoint(app, owner, quick.url, "order.created")
    Endpoint(app, owner.of("globex"), quick.url, "order.created")
    with _stuck(app, receiver, 20):
        for _ in range(20):
            slow.happens(LabelFailed.example())
        app.start()
        wait_until(lambda: len(receiver.requests) == 2, what="the slow one to be reached")
        for number in range(10):
            for tenant in ("acme", "globex"):
                event = OrderCreated.example().model_copy(update={"number": str(number)})
                deliver(app, event, tenant_id=tenant)
        wait_until(lambda: len(quick.requests) == 20, 10, "the others to be told")
        assert len(receiver.requests) == 2, "never more than two at a time"
        assert {job.failures for job in slow.jobs()} == {0}
    app.stop()
    quick.close()
    web.extensions["backroom"].close()
    settings.cache_clear()


# -- hostile addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "https://example.com:8443/", "https://localhost/", "https://printer.local/x", "ftp://x.example/",
     "https://user:secret@example.com/", "https://exa mple.com/", "https://127.0.0.1:1/"],
)  # fmt: skip
def test_addresses_that_are_never_sent_to(url: str, owner: Client) -> None:
    answered = owner.post("/v1/webhook-endpoints", {"url": url, "event_types": ["order.created"]})
    assert answered.status_code == 400
    assert answered.json["errors"][0]["pointer"] == "/url"


def test_no_spelling_of_an_inner_address_is_ever_reached(endpoint: Endpoint, dialed: list[Any]) -> None:
    """Whatever is in the row, however it came there."""
    for url in [*(f"https://{host}/" for host in SPELLINGS), *OTHER_URLS, "http://93.184.216.34/"]:
        with pytest.raises(ProviderError):
            webhook.send(url, [endpoint.secret], "1", "{}")
    assert dialed == []


def test_a_name_that_is_rebound_leads_nowhere(
    app: ServiceUnderTest, endpoint: Endpoint, dialed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([["93.184.216.34", "10.0.0.7"], ["93.184.216.34"], ["127.0.0.1"]])
    numeric = socket.getaddrinfo

    def resolver(host: str, port: int, *arguments: Any, **options: Any) -> list[Any]:
        if host != "rebound.example":
            return numeric(host, port, *arguments, **options)
        return [found for address in next(answers) for found in numeric(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    app.execute("UPDATE webhook_endpoints SET url = 'https://rebound.example/'")
    endpoint.happens()
    assert (endpoint.attempt().waiting_for, dialed) == ("retry", []), "one of two addresses leads inside"
    assert endpoint.delivery()["problem"].startswith("The address of your own system does not lead")
    assert "10.0.0.7" not in json.dumps(endpoint.deliveries()), "what we find out inside stays inside"
    endpoint.attempt()
    assert [address[0] for address in dialed] == ["93.184.216.34"], "the very address that was judged"


# -- by hand ---------------------------------------------------------------------------------------------------


def test_a_secret_is_changed_without_losing_a_message(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    renewed = endpoint.owner.post(f"{endpoint.path}/secret")
    assert renewed.status_code == 200
    endpoint.happens()
    endpoint.attempt()
    assert receiver.verified(endpoint.secret) == receiver.verified(renewed.json["secret"])
    app.execute("UPDATE webhook_endpoints SET previous_until = now()")
    endpoint.happens()
    app.run(endpoint.jobs()[1].id)
    assert receiver.got[1][0]["webhook-signature"].count("v1,") == 1


def test_secrets_are_shown_once_and_sealed(app: ServiceUnderTest, endpoint: Endpoint) -> None:
    assert endpoint.secret.startswith("whsec_")
    assert "secret" not in endpoint.view()
    rows = json.dumps([list(map(str, row)) for row in app.query("SELECT * FROM webhook_endpoints")])
    assert endpoint.secret.removeprefix("whsec_") not in rows
    keys = json.dumps([list(map(str, row)) for row in app.query("SELECT * FROM idempotency_keys")])
    assert endpoint.secret not in keys


def test_a_message_is_sent_again_by_hand_under_the_same_id(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    endpoint.happens()
    endpoint.attempt()
    path = f"/v1/webhook-deliveries/{endpoint.delivery()['id']}"
    again = endpoint.owner.post(f"{path}/redeliver")
    assert again.status_code == 202
    assert app.run(UUID(again.json["id"])).state == "succeeded"
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 2
    assert json.loads(endpoint.owner.get(path).json["body"])["type"] == "order.created"
    endpoint.change(state="disabled")
    assert endpoint.owner.post(f"{path}/redeliver").status_code == 409


def test_replay_sends_what_did_not_arrive_or_all(app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver) -> None:
    for _ in range(3):
        endpoint.happens()
    app.drain()
    app.execute(
        "UPDATE webhook_deliveries SET state = 'failed' WHERE id = (SELECT min(id::text)::uuid FROM webhook_deliveries)"
    )
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    for delivered, expected in [(False, 4), (True, 7)]:
        answered = endpoint.owner.post(f"{endpoint.path}/replay", {"since": since, "delivered": delivered})
        assert answered.status_code == 202, answered.text
        app.drain()
        assert len(receiver.requests) == expected
    late = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    endpoint.owner.post(f"{endpoint.path}/replay", {"since": late, "delivered": True})
    app.drain()
    assert len(receiver.requests) == 7
    assert endpoint.owner.post(f"{endpoint.path}/replay", {"since": "2026-01-01T00:00:00"}).status_code == 400


def test_ten_endpoints_and_no_more_however_fast(app: ServiceUnderTest, owner: Client, receiver: Receiver) -> None:
    body = {"url": receiver.url, "event_types": ["order.created"]}
    statuses = app.concurrently(14, lambda number: owner.post("/v1/webhook-endpoints", body).status_code)
    assert sorted(statuses) == [201] * 10 + [422] * 4
    assert owner.of("globex").post("/v1/webhook-endpoints", body).status_code == 201


def test_who_may(app: ServiceUnderTest, endpoint: Endpoint) -> None:
    endpoint.happens()
    delivery = f"/v1/webhook-deliveries/{endpoint.delivery()['id']}"
    for role in ("manager", "sales", "fulfillment"):
        client = endpoint.owner.role(role)
        assert client.get(endpoint.path).status_code == 403
        assert client.get(f"{endpoint.path}/deliveries").status_code == 403
        assert client.get(delivery).status_code == 403
    stranger = endpoint.owner.of("globex")
    assert stranger.get(endpoint.path).status_code == 404
    assert stranger.get(f"{endpoint.path}/deliveries").status_code == 404
    assert stranger.delete(endpoint.path).status_code == 404
    assert stranger.post(f"{endpoint.path}/test").status_code == 404
    assert stranger.get(delivery).status_code == 404
    assert stranger.post(f"{delivery}/redeliver").status_code == 404
    foreign = app.run_job(
        deliver_webhook, tenant_id="globex", delivery_id=UUID(endpoint.delivery()["id"]), event_type="x", host="x"
    )
    assert foreign.result == {"skipped": "webhook_settled"}


def test_changes_are_for_who_has_seen_the_last(endpoint: Endpoint) -> None:
    tag = endpoint.owner.get(endpoint.path).headers["ETag"]
    changed = endpoint.owner.patch(endpoint.path, {"description": "ERP"}, headers={"If-Match": tag})
    assert changed.status_code == 200
    assert endpoint.owner.patch(endpoint.path, {"description": "x"}, headers={"If-Match": tag}).status_code == 412
    assert endpoint.owner.patch(endpoint.path, {"event_types": ["nothing.at_all"]}).status_code == 400
    assert endpoint.owner.patch(endpoint.path, {"url": None}).status_code == 400


def test_what_is_deleted_is_told_nothing_more(app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver) -> None:
    endpoint.happens()
    assert endpoint.owner.delete(endpoint.path).status_code == 204
    (job,) = endpoint.jobs()
    assert app.run(job.id).result == {"skipped": "endpoint_disabled"}
    assert receiver.requests == []
    app.execute("UPDATE webhook_deliveries SET created_at = now() - interval '31 days'")
    assert app.run_job(clean_up_webhook_deliveries, tenant_id=SYSTEM).result == {"webhooks": 1}


def test_the_log_is_cleaned_up_but_for_what_waits(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    receiver.says("500 Oops")
    for _ in range(3):
        endpoint.happens()
    for job in endpoint.jobs():
        app.run(job.id)
    ages = "UPDATE webhook_deliveries SET created_at = now() - interval '{} days'"
    app.execute(ages.format(29))
    assert app.run_job(clean_up_webhook_deliveries, tenant_id=SYSTEM).result == {"webhooks": 0}
    app.execute(ages.format(31))
    assert app.run_job(clean_up_webhook_deliveries, tenant_id=SYSTEM).result == {"webhooks": 2}
    assert [delivery["state"] for delivery in endpoint.deliveries()] == ["waiting"]


def test_the_message_of_a_killed_worker_comes_again_under_its_id(
    service_app: Callable[..., ServiceUnderTest], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver has it, and our worker dies before it hears so: at least once, and to be told by the id."""
    monkeypatch.setenv("NOTIFICATIONS_WEBHOOK_TRUSTED_HOSTS", json.dumps([receiver.url.removeprefix("http://")]))
    settings.cache_clear()
    app = service_app(service, transport="rabbitmq")
    web, signer = app.app.web(), app.app.secrets.signer
    assert signer is not None
    endpoint = Endpoint(app, Client(web, signer), receiver.url)
    with _stuck(app, receiver, 1):
        endpoint.happens()
        with app.worker_process() as first:
            wait_until(lambda: len(receiver.requests) == 1, 60, "the message to arrive")
            first.kill()
        with app.worker_process():
            (job,) = endpoint.jobs()
            assert app.wait_for(job.id, deadline=60).state == "succeeded"
    first_id, second_id = (headers["webhook-id"] for headers, _ in receiver.got)
    assert first_id == second_id
    assert endpoint.delivery()["state"] == "delivered"
    web.extensions["backroom"].close()
    settings.cache_clear()


def test_secrets_are_sealed_anew_when_the_key_changes(
    app: ServiceUnderTest, endpoint: Endpoint, receiver: Receiver
) -> None:
    endpoint.owner.post(f"{endpoint.path}/secret")
    assert app.run_job(library.reseal_secrets, tenant_id=SYSTEM).result == {"secrets": 0}
    keys = [base64.b64encode(key).decode() for key in app.app.secrets.encryption_keys]
    new = vault.new_key()
    vault.configure([new, *keys])
    try:
        assert app.run_job(library.reseal_secrets, tenant_id=SYSTEM).result == {"secrets": 2}
        assert app.run_job(library.reseal_secrets, tenant_id=SYSTEM).result == {"secrets": 0}
        vault.configure([new])
        endpoint.happens()
        assert endpoint.attempt().state == "succeeded"
        assert len(receiver.verified(endpoint.secret)) == 1, "with the secret of before, as long as that is valid"
    finally:
        vault.configure(keys)
