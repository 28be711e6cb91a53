"""The client against the sandbox's Shippo over real HTTP, with every fault that it can play."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.shipping.providers.shippo import REFERENCE_LENGTH, Shippo, failure_of, make_client
from services.shipping.shippo_objects import Address, Label, Message, Money, Parcel
from shared.context import use
from shared.db.database import Database
from shared.db.migrate import upgrade
from shared.outbound import (
    NotAuthorized,
    ProviderError,
    RateLimited,
    Refused,
    Unavailable,
    UnknownOutcome,
    Unsettled,
    effects,
)
from shared.outbound.client import Client, Timeouts
from shared.outbound.limits import Limiter
from shared.sandbox import Sandbox
from shared.testing.servers import PostgresServer

ADA = Address("Ada Example", "215 Clayton St.", "San Francisco", "94117", "US", state="CA")
BOB = replace(ADA, name="Bob Example", street1="1 Broadway", city="New York", zip="10004", state="NY")
BOX = Parcel("5", "5", "5", "in", "2", "lb")
_AT, _SECOND = datetime(2026, 3, 1, tzinfo=UTC), timedelta(seconds=1)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox.start(seed=1, limits=0, settle_seconds=3600) as sandbox:
        yield sandbox


@pytest.fixture
def shippo(sandbox: Sandbox) -> Iterator[Shippo]:
    """One account, with limits of time that suit a test."""
    sandbox.reset()
    yield account(sandbox, "acme")
    sandbox.release()


def account(sandbox: Sandbox, name: str, token: str | None = None) -> Shippo:
    client = make_client(sandbox.url, live=False, breaker=None, limiter=None)
    client.timeouts = Timeouts(connect=1, read=1, total=1.5)
    return Shippo(token or sandbox.token(name), client=client)


def rate_of(shippo: Shippo, recipient: Address = BOB) -> str:
    return shippo.create_shipment(ADA, recipient, [BOX]).rates[0].id


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.shipping.providers.shippo._TIMEOUTS", Timeouts(1, 0.7, 1))


def test_addresses(shippo: Shippo) -> None:
    good = shippo.validate_address(ADA)
    assert (good.valid, good.complete, good.messages) == (True, True, ())
    assert good.id
    bad = shippo.validate_address(replace(ADA, zip="00000"))
    assert not bad.valid
    assert bad.messages[0].code == "invalid_postal_code"
    assert not shippo.validate_address(replace(ADA, name="")).complete
    with pytest.raises(Refused) as caught:
        shippo.validate_address(replace(ADA, street1="x" * 36))
    assert caught.value.code == "address_rejected"


def test_rates(shippo: Shippo) -> None:
    shipment = shippo.create_shipment(ADA, BOB, [BOX], reference="order-7")
    assert len(shipment.rates) == 6
    cheapest = next(rate for rate in shipment.rates if "cheapest" in rate.attributes)
    assert (cheapest.carrier, cheapest.service_token) == ("USPS", "usps_ground_advantage")
    assert cheapest.price.currency == "USD"
    assert 100 < cheapest.price.amount < 10_000
    assert shippo.get_rate(cheapest.id) == cheapest
    nowhere = shippo.create_shipment(ADA, replace(BOB, street1="1 Nowhere Lane"), [BOX])
    assert nowhere.rates == ()
    assert nowhere.messages
    with pytest.raises(Refused) as caught:
        shippo.get_rate("no/such?rate")
    assert caught.value.code == "not_found"


def test_a_purchase(shippo: Shippo, sandbox: Sandbox) -> None:
    rate = rate_of(shippo)
    label = shippo.buy(rate, "pdf", "t1|l1")
    assert (label.status, label.reference, label.rate_id, label.test) == ("purchased", "t1|l1", rate, True)
    assert label.tracking_number
    assert [entry["metadata"] for entry in sandbox.charges()] == ["t1|l1"]
    assert Label.from_json(label.as_json()) == label
    again = shippo.get_label(label.id)
    assert replace(again, url="") == replace(label, url="")
    found = shippo.find_label(rate, "t1|l1")
    assert found is not None
    assert found.id == label.id
    assert shippo.find_label(rate, "t1|l2") is None
    assert shippo.find_label(rate_of(shippo), "t1|l1") is None


@pytest.mark.parametrize(
    ("label_format", "start", "media_type"),
    [("pdf", b"%PDF", "application/pdf"), ("png", b"\x89PNG", "image/png"), ("zpl", b"^XA", "application/zpl")],
)
def test_the_label_file(shippo: Shippo, sandbox: Sandbox, label_format: Any, start: bytes, media_type: str) -> None:
    label = shippo.buy(rate_of(shippo), label_format, "l1")
    content, kind = shippo.download_label(label.url)
    assert content.startswith(start)
    assert kind == media_type
    sandbox.advance(2 * 24 * 3600)
    with pytest.raises(Unavailable) as caught:
        shippo.download_label(label.url)
    assert caught.value.code == "label_link_expired"
    assert shippo.download_label(shippo.get_label(label.id).url)[0] == content
    with pytest.raises(Refused) as foreign:
        shippo.download_label("https://evil.example/label.pdf")
    assert foreign.value.code == "foreign_url"
    with pytest.raises(ProviderError):
        shippo.download_label(f"{sandbox.url}/addresses")


def test_a_waiting_purchase(shippo: Shippo, sandbox: Sandbox) -> None:
    sandbox.faults.add("queued_then_success", seconds=3600)
    rate = rate_of(shippo)
    label = shippo.buy(rate, "pdf", "l1")
    assert label.status == "waiting"
    assert shippo.find_label(rate, "l1") == label
    assert sandbox.charges() == []
    sandbox.settle()
    assert shippo.get_label(label.id).status == "purchased"


def test_a_purchase_that_fails_later(shippo: Shippo, sandbox: Sandbox) -> None:
    sandbox.faults.add("queued_then_error", seconds=3600)
    rate = rate_of(shippo)
    label = shippo.buy(rate, "pdf", "l1")
    sandbox.settle()
    failed = shippo.get_label(label.id)
    assert failed.status == "failed"
    assert isinstance(failure_of(failed.messages), Unavailable)
    assert shippo.find_label(rate, "l1") is None, "what failed is no purchase"
    assert [one.status for one in shippo.find_labels(rate, "l1")] == ["failed"]


def test_status_error_is_no_purchase(shippo: Shippo, sandbox: Sandbox) -> None:
    sandbox.faults.add("error_messages", times=1)
    with pytest.raises(Unavailable) as caught:
        shippo.buy(rate_of(shippo), "pdf", "l1")
    assert caught.value.code == "carrier_away"
    assert not caught.value.unanswered, "it is known that nothing was bought"
    with pytest.raises(Refused) as refused:
        shippo.buy(rate_of(shippo, replace(BOB, name="")), "pdf", "l2")
    assert refused.value.code == "address_rejected"
    assert "name is required" in refused.value.detail
    assert sandbox.charges() == []


@pytest.mark.parametrize(
    ("text", "code", "kind"),
    [
        ("UPS API did not respond. Please try again in a few minutes.", "", Unavailable),
        ("", "carrier_timeout", Unavailable),
        ("The system is temporarily down", "", Unavailable),
        ("The requested service is unavailable between the selected locations.", "", Refused),
        ("The address is wrong. Please correct it and try again.", "", Refused),
        ("Rate has expired, please try again later", "", Refused),
        ("Insufficient funds", "", Refused),
        ("Something else", "", Refused),
        ("", "", Refused),
    ],
)
def test_what_messages_mean(text: str, code: str, kind: type[ProviderError]) -> None:
    assert type(failure_of((Message("UPS", code, text),))) is kind
    assert type(failure_of(())) is Refused


def test_an_expired_rate(shippo: Shippo, sandbox: Sandbox) -> None:
    rate = rate_of(shippo)
    sandbox.advance(7 * 24 * 3600 + 1)
    with pytest.raises(Refused) as caught:
        shippo.buy(rate, "pdf", "l1")
    assert caught.value.code == "rate_expired"
    with pytest.raises(Refused) as unknown:
        shippo.buy("no-such-rate", "pdf", "l1")
    assert unknown.value.code == "rate_not_found"


def test_a_revoked_token(sandbox: Sandbox) -> None:
    with pytest.raises(NotAuthorized):
        account(sandbox, "", token="nonsense").get_rate("x")


CHARGED = ["reset_after", "timeout_after", "truncated_body", "garbage_json"]
UNCHARGED = ["reset_before", "hang"]


@pytest.mark.parametrize("fault", [*CHARGED, *UNCHARGED, "trickle"])
def test_without_an_answer_the_outcome_is_unknown(shippo: Shippo, sandbox: Sandbox, fault: str) -> None:
    rate = rate_of(shippo)
    sandbox.faults.add(fault, method="POST", path="/transactions", times=1)
    with pytest.raises(UnknownOutcome):
        shippo.buy(rate, "pdf", "l1")
    found = shippo.find_label(rate, "l1")
    if fault in CHARGED:
        assert found is not None
        assert found.status == "purchased"
    assert len(sandbox.charges()) <= 1
    sandbox.release()


def test_a_gateways_word_is_not_the_servers(shippo: Shippo, sandbox: Sandbox) -> None:
    rate = rate_of(shippo)
    sandbox.faults.add("status_after", times=1)
    with pytest.raises(UnknownOutcome):
        shippo.buy(rate, "pdf", "l1")
    assert shippo.find_label(rate, "l1") is not None
    assert sandbox.count("POST /transactions") == 1


def test_reads_that_fail_are_harmless(shippo: Shippo, sandbox: Sandbox) -> None:
    rate = rate_of(shippo)
    for fault in ("reset_after", "status", "garbage_json", "truncated_body"):
        sandbox.faults.add(fault, method="GET", times=1)
        with pytest.raises(Unavailable):
            shippo.get_rate(rate)


def test_the_provider_slows_us_down(shippo: Shippo, sandbox: Sandbox) -> None:
    rate = rate_of(shippo)
    sandbox.faults.add("rate_limited", method="POST", times=1, retry_after=7)
    with pytest.raises(RateLimited) as caught:
        shippo.buy(rate, "pdf", "l1")
    assert caught.value.retry_after == 7
    assert sandbox.charges() == []


def test_only_our_reference_is_found_over_many_pages(
    shippo: Shippo, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.shipping.providers.shippo._PAGE", 2)
    rate = rate_of(shippo)
    for number in range(5):
        shippo.buy(rate, "pdf", f"l{number}")
    for number in range(5):
        found = shippo.find_label(rate, f"l{number}")
        assert found is not None
        assert found.reference == f"l{number}"
    assert shippo.find_labels(rate, "l") == []


def test_of_several_the_oldest_is_found(shippo: Shippo, sandbox: Sandbox) -> None:
    rate = rate_of(shippo)
    first = shippo.buy(rate, "pdf", "l1")
    second = shippo.buy(rate, "pdf", "l1")
    found = shippo.find_label(rate, "l1")
    assert found is not None
    assert found.id == first.id
    assert [one.id for one in shippo.find_labels(rate, "l1")] == [second.id, first.id]


def test_refunds(shippo: Shippo, sandbox: Sandbox) -> None:
    label = shippo.buy(rate_of(shippo), "pdf", "l1")
    refund = shippo.refund(label.id)
    assert (refund.label_id, refund.status) == (label.id, "pending")
    assert shippo.get_label(label.id).status == "refund_pending"
    with pytest.raises(Refused):
        shippo.refund(label.id)
    sandbox.settle()
    assert shippo.get_refund(refund.id).status == "refunded"
    assert shippo.get_label(label.id).status == "refunded"


def test_tracking(shippo: Shippo, sandbox: Sandbox) -> None:
    label = shippo.buy(rate_of(shippo), "pdf", "l1")
    tracking = shippo.get_tracking("usps", label.tracking_number)
    assert tracking.latest is not None
    assert (tracking.latest.status, tracking.label_id, tracking.reference) == ("pre_transit", label.id, "l1")
    sandbox.move("usps", label.tracking_number, "DELIVERED", location={"city": "Reno", "state": "NV"})
    after = shippo.get_tracking("usps", label.tracking_number)
    assert after.latest is not None
    assert (after.latest.status, after.latest.place, len(after.history)) == ("delivered", "Reno, NV", 2)
    foreign = shippo.track("ups", "1Z1", reference="order-9")
    assert (foreign.carrier, foreign.tracking_number, foreign.reference) == ("ups", "1Z1", "order-9")


def test_webhooks_are_registered_once(shippo: Shippo) -> None:
    first = shippo.register_webhook("https://us.example/hooks?token=abc")
    assert shippo.register_webhook("https://us.example/hooks?token=abc") == first
    assert shippo.register_webhook("https://us.example/other") != first
    with pytest.raises(ValueError, match="200"):
        shippo.register_webhook("https://us.example/" + "x" * 200)


def test_references_are_checked_before_money_is_spent(shippo: Shippo, sandbox: Sandbox) -> None:
    for reference in ("", "x" * (REFERENCE_LENGTH + 1)):
        with pytest.raises(ValueError, match="reference"):
            shippo.buy("rate", "pdf", reference)
    for bad in ("", ".", ".."):
        with pytest.raises(ValueError, match="id"):
            shippo.get_label(bad)
    assert sandbox.count("POST /transactions") == 0


def test_an_undocumented_answer_is_as_good_as_none(shippo: Shippo, sandbox: Sandbox) -> None:
    sandbox.faults.add("status", status=201, body={"object_id": "x", "status": "SHINY"}, times=1)
    with pytest.raises(UnknownOutcome):
        shippo.buy("rate", "pdf", "l1")
    sandbox.faults.add("status", status=200, body=["what"], times=1)
    with pytest.raises(Unavailable):
        shippo.get_rate("rate")


def test_money_is_read_exactly() -> None:
    cases = [("5.50", "USD", 550), ("0.1", "usd", 10), ("1200", "JPY", 1200), ("1.234", "KWD", 1234)]
    for amount, currency, minor in cases:
        assert Money.parse(amount, currency) == Money(minor, currency.upper())
    for amount, currency in [("", "USD"), ("NaN", "USD"), ("Infinity", "USD"), ("5", ""), ("5", "DOLLAR")]:
        with pytest.raises(ValueError, match="money"):
            Money.parse(amount, currency)


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[Database]:
    with postgres.fresh_database("shippo") as url:
        upgrade(url, [])
        database = Database(url)
        yield database
        database.dispose()


@pytest.mark.parametrize("fault", [*CHARGED, *UNCHARGED, "status_after", "late_charge"])
def test_through_the_journal_one_label_is_bought(
    shippo: Shippo, sandbox: Sandbox, database: Database, fault: str
) -> None:
    """The money rule: whatever became of the answer, one charge, and the label that was charged."""
    token = database.bind()
    try:
        with use(tenant_id=f"t-{fault}"):
            rate = rate_of(shippo)
            sandbox.faults.add(fault, method="POST", path="/transactions", times=1)
            settle, now = 60.0, [0.0]

            def run() -> Label:
                answer = effects.once(
                    "label:1",
                    call=lambda: shippo.buy(rate, "pdf", "t|l1").as_json(),
                    look_up=lambda: (found := shippo.find_label(rate, "t|l1")) and found.as_json(),
                    settle=settle,
                    clock=lambda: _AT + now[0] * _SECOND,
                )
                return Label.from_json(answer)

            with pytest.raises(UnknownOutcome):
                run()
            with pytest.raises(Unsettled):
                run()
            sandbox.release()  # what hung is carried out now, late
            sandbox.wait(lambda: sandbox.calls()["open"] <= 1)
            now[0] = settle
            label = run()
            assert run() == label
            (charge,) = sandbox.charges(metadata="t|l1")
            assert charge["transaction"] == label.id
    finally:
        database.unbind(token)


def test_our_own_limits_come_first(sandbox: Sandbox, database: Database) -> None:
    sandbox.reset()
    token = database.bind()
    try:
        with use(tenant_id="t-limits"):
            client: Client = make_client(sandbox.url, live=False, breaker=None, limiter=Limiter())
            shippo = Shippo(sandbox.token("limited"), client=client)
            granted = 0
            with contextlib.suppress(RateLimited):
                while granted < 11:
                    shippo.find_label("rate", "l1")
                    granted += 1
            assert 2 <= granted <= 10
            assert sandbox.count("GET /transactions") == granted
    finally:
        database.unbind(token)
