"""The stand-in answers as Shippo's documentation says."""

from typing import Any

import pytest
import requests

from shared.sandbox import Sandbox

LONG = "x" * 101


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        (None, "Authentication credentials were not provided."),
        ("Bearer shippo_test_a", "Authentication credentials were not provided."),
        ("ShippoToken nonsense", "Token does not exist"),
    ],
)
def test_a_call_without_a_good_token_is_refused_with_the_documented_body(
    sandbox: Sandbox, header: str | None, detail: str
) -> None:
    headers = {"Authorization": header} if header else {}
    answer = requests.get(f"{sandbox.url}/transactions", headers=headers, timeout=5)
    assert (answer.status_code, answer.json()) == (401, {"detail": detail})


def test_accounts_share_nothing(sandbox: Sandbox, customer: Any) -> None:
    other = type(customer)(sandbox, "acme", live=True)
    rate = customer.rate()
    assert other.get(f"/rates/{rate}").status_code == 404
    assert other.buy(rate).status_code == 400
    assert sandbox.ledger() == []


@pytest.mark.parametrize("path", ["/transactions", "/transactions/"])
def test_a_trailing_slash_makes_no_difference(customer: Any, path: str) -> None:
    assert customer.get(path).json() == {"next": None, "previous": None, "results": []}


def test_unknown_paths_methods_and_bodies_are_refused_as_json(customer: Any) -> None:
    assert customer.get("/nothing").json() == {"detail": "Not found."}
    wrong = customer.http.delete(f"{customer.url}/transactions", timeout=5)
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST, GET")
    broken = customer.http.post(f"{customer.url}/transactions", data="{", timeout=5)
    assert broken.status_code == 400
    assert broken.json()["detail"].startswith("JSON parse error")


def test_a_good_address_is_complete_and_valid(customer: Any, address: dict[str, str]) -> None:
    created = customer.post("/addresses", {**address, "validate": True})
    assert created.status_code == 201
    assert created.json()["is_complete"] is True
    assert created.json()["validation_results"] == {"is_valid": True, "messages": []}
    assert customer.get(f"/addresses/{created.json()['object_id']}").json() == created.json()


@pytest.mark.parametrize("change", [{"zip": "00000"}, {"street1": "1 Nowhere Lane"}])
def test_some_addresses_are_never_deliverable(customer: Any, address: dict[str, str], change: dict[str, str]) -> None:
    created = customer.post("/addresses", {**address, **change}).json()
    assert created["validation_results"] == {}
    results = customer.get(f"/addresses/{created['object_id']}/validate").json()["validation_results"]
    assert results["is_valid"] is False
    assert {"source", "code", "text"} <= set(results["messages"][0])
    shipment = customer.shipment(change)
    assert shipment["rates"] == []
    assert shipment["messages"]


def test_an_incomplete_address_is_accepted_but_one_without_country_or_with_long_lines_is_not(
    customer: Any, address: dict[str, str]
) -> None:
    assert customer.post("/addresses", {**address, "name": ""}).json()["is_complete"] is False
    assert customer.post("/addresses", {"name": "A"}).json() == {"country": ["This field is required."]}
    assert "street1" in customer.post("/addresses", {**address, "street1": "x" * 36}).json()


def test_rates_are_deterministic_decimal_strings_of_several_carriers(customer: Any) -> None:
    first, second = customer.shipment(), customer.shipment()
    prices = [(rate["provider"], rate["servicelevel"]["token"], rate["amount"]) for rate in first["rates"]]
    assert prices == [(r["provider"], r["servicelevel"]["token"], r["amount"]) for r in second["rates"]]
    assert {provider for provider, _, _ in prices} == {"USPS", "UPS", "FedEx"}
    assert prices[0] == ("USPS", "usps_ground_advantage", "5.59")
    attributes = [mark for rate in first["rates"] for mark in rate["attributes"]]
    assert sorted(attributes) == ["BESTVALUE", "CHEAPEST", "FASTEST"]
    assert customer.shipment({"zip": "10001"})["rates"][0]["amount"] == "8.04"


def test_a_shipment_and_its_rates_can_be_read_again(customer: Any) -> None:
    shipment = customer.shipment(metadata="order 7")
    read = customer.get(f"/shipments/{shipment['object_id']}").json()
    assert read == shipment
    rates = customer.get(f"/shipments/{shipment['object_id']}/rates").json()["results"]
    assert rates == shipment["rates"]
    assert customer.get(f"/rates/{rates[0]['object_id']}").json() == rates[0]


def test_addresses_may_be_given_by_id_and_an_async_shipment_has_its_rates_later(
    customer: Any, address: dict[str, str]
) -> None:
    key = customer.post("/addresses", address).json()["object_id"]
    shipment = customer.shipment(address_from=key, address_to=key, **{"async": True})
    assert (shipment["status"], shipment["rates"]) == ("QUEUED", [])
    assert len(customer.get(f"/shipments/{shipment['object_id']}").json()["rates"]) == 6


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "address_to"),
        ({"address_to": "gone"}, "address_to"),
        ({"parcels": [{"weight": "1"}]}, "parcels"),
        ({"parcels": ["x"]}, "parcels"),
        ({"metadata": LONG}, "metadata"),
    ],
)
def test_a_bad_shipment_is_refused_by_field(
    customer: Any, address: dict[str, str], parcel: dict[str, str], body: dict[str, Any], field: str
) -> None:
    whole = {
        "address_from": address,
        "parcels": [parcel],
        **({"address_to": address} if body else {}),
        **body,
    }
    answer = customer.post("/shipments", whole)
    assert answer.status_code == 400
    assert list(answer.json()) == [field]


def test_a_synchronous_purchase_is_charged_once_and_entered_in_the_ledger(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    answer = customer.buy(rate, "label-17", label_file_type="PNG")
    bought = answer.json()
    assert (answer.status_code, bought["status"], bought["object_state"]) == (201, "SUCCESS", "VALID")
    assert bought["tracking_number"].startswith("92")
    [entry] = sandbox.ledger()
    assert entry == {
        "seq": 1,
        "kind": "charge",
        "provider": "shippo",
        "account": customer.token,
        "transaction": bought["object_id"],
        "rate": rate,
        "metadata": "label-17",
        "amount": "5.59",
        "currency": "USD",
        "tracking_number": bought["tracking_number"],
        "time": entry["time"],
    }


def test_the_same_purchase_twice_is_two_charges_because_shippo_knows_no_idempotency(
    sandbox: Sandbox, customer: Any
) -> None:
    rate = customer.rate()
    customer.buy(rate, "same")
    customer.buy(rate, "same")
    assert len(sandbox.charges(metadata="same")) == 2


def test_async_is_the_default_and_charges_when_it_succeeds(sandbox: Sandbox, customer: Any) -> None:
    answer = customer.post("/transactions", {"rate": customer.rate()}).json()
    assert (answer["status"], answer["label_url"]) == ("QUEUED", "")
    assert sandbox.ledger() == []
    sandbox.settle()
    assert customer.get(f"/transactions/{answer['object_id']}").json()["status"] == "SUCCESS"
    assert len(sandbox.ledger()) == 1


@pytest.mark.parametrize("missing", ["name", "street1", "state"])
def test_an_incomplete_recipient_can_be_rated_but_the_purchase_is_a_201_with_status_error(
    sandbox: Sandbox, customer: Any, missing: str
) -> None:
    answer = customer.buy(customer.rate({missing: ""}))
    assert (answer.status_code, answer.json()["status"]) == (201, "ERROR")
    assert answer.json()["messages"] == [
        {"source": "USPS", "code": "invalid_address", "text": f"The recipient's {missing} is required."}
    ]
    assert sandbox.ledger() == []


def test_a_rate_older_than_seven_days_is_refused(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.advance(7 * 24 * 3600 - 60)
    assert customer.buy(rate).status_code == 201
    sandbox.advance(120)
    answer = customer.buy(rate)
    assert (answer.status_code, list(answer.json())) == (400, ["rate"])
    assert len(sandbox.ledger()) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rate": "none"}, "rate"),
        ({"label_file_type": "GIF"}, "label_file_type"),
        ({"metadata": LONG}, "metadata"),
    ],
)
def test_a_bad_purchase_is_refused_by_field(
    sandbox: Sandbox, customer: Any, change: dict[str, str], field: str
) -> None:
    answer = customer.post("/transactions", {"rate": customer.rate(), "async": False, **change})
    assert (answer.status_code, list(answer.json())) == (400, [field])
    assert sandbox.ledger() == []


def test_an_instant_purchase_names_shipment_carrier_account_and_service(
    customer: Any, address: dict[str, str], parcel: dict[str, str]
) -> None:
    rate = customer.shipment()["rates"][2]
    body = {
        "shipment": {"address_from": address, "address_to": address, "parcels": [parcel]},
        "carrier_account": rate["carrier_account"],
        "servicelevel_token": "ups_ground",
        "async": False,
    }
    bought = customer.post("/transactions", body).json()
    assert (bought["status"], bought["tracking_number"][:2]) == ("SUCCESS", "1Z")
    assert customer.post("/transactions", {**body, "servicelevel_token": "x"}).status_code == 400


def test_transactions_are_filtered_and_paged_but_never_by_metadata(sandbox: Sandbox, customer: Any) -> None:
    rate, other = customer.rate(), customer.rate()
    keys = [customer.buy(rate, f"label-{n}").json()["object_id"] for n in range(5)]
    customer.post("/transactions", {"rate": other})
    by_rate = customer.get("/transactions", rate=rate, metadata="label-1").json()["results"]
    assert [item["object_id"] for item in by_rate] == keys[::-1]
    queued = customer.get("/transactions", object_status="QUEUED").json()["results"]
    assert [item["rate"] for item in queued] == [other]
    assert len(customer.get("/transactions", tracking_status="PRE_TRANSIT").json()["results"]) == 5
    page = customer.get("/transactions", rate=rate, results=2, page=2).json()
    assert [item["object_id"] for item in page["results"]] == keys[1:3][::-1]
    following = customer.http.get(page["next"], timeout=5).json()
    assert ([item["object_id"] for item in following["results"]], following["next"]) == (keys[:1], None)
    assert customer.get("/transactions", page=9).json() == {"detail": "Invalid page."}
    assert customer.get("/transactions", results="many").status_code == 400


@pytest.mark.parametrize(
    ("file_type", "media", "start", "end"),
    [
        ("PDF_4x6", "application/pdf", b"%PDF-1.4", b"%%EOF\n"),
        ("PNG", "image/png", b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
        ("ZPLII", "application/octet-stream", b"^XA", b"^XZ\n"),
    ],
)
def test_a_label_is_a_file_with_the_tracking_number(
    customer: Any, file_type: str, media: str, start: bytes, end: bytes
) -> None:
    bought = customer.buy(customer.rate(), label_file_type=file_type).json()
    label = requests.get(bought["label_url"], timeout=5)
    assert (label.status_code, label.headers["Content-Type"]) == (200, media)
    assert label.content.startswith(start)
    assert label.content.endswith(end)
    assert bought["tracking_number"].encode() in label.content


def test_the_cross_reference_table_of_a_pdf_label_is_right(customer: Any) -> None:
    bought = customer.buy(customer.rate(), "with (brackets)", label_file_type="PDF_A4").json()
    data = requests.get(bought["label_url"], timeout=5).content
    table = int(data.rsplit(b"startxref\n", 1)[1].split()[0])
    assert data[table:].startswith(b"xref\n0 6\n")
    for number, row in enumerate(data[table:].splitlines()[3:8], start=1):
        assert data[int(row.split()[0]) :].startswith(b"%d 0 obj" % number)


def test_a_label_link_expires_and_cannot_be_altered(sandbox: Sandbox, customer: Any) -> None:
    bought = customer.buy(customer.rate()).json()
    assert requests.get(bought["label_url"] + "0", timeout=5).status_code == 403
    sandbox.advance(25 * 3600)
    expired = requests.get(bought["label_url"], timeout=5)
    assert (expired.status_code, expired.headers["Content-Type"]) == (403, "application/xml")
    renewed = customer.get(f"/transactions/{bought['object_id']}").json()["label_url"]
    assert requests.get(renewed, timeout=5).status_code == 200


def test_a_refund_is_entered_when_it_is_granted_and_only_once(sandbox: Sandbox, customer: Any) -> None:
    key = customer.buy(customer.rate(), "mistake").json()["object_id"]
    answer = customer.post("/refunds", {"transaction": key})
    assert (answer.status_code, answer.json()["status"]) == (201, "QUEUED")
    assert customer.get(f"/transactions/{key}").json()["status"] == "REFUNDPENDING"
    assert customer.post("/refunds", {"transaction": key}).status_code == 400
    sandbox.settle()
    assert customer.get(f"/refunds/{answer.json()['object_id']}").json()["status"] == "SUCCESS"
    assert customer.get(f"/transactions/{key}").json()["status"] == "REFUNDED"
    assert [(entry["kind"], entry["amount"]) for entry in sandbox.ledger(metadata="mistake")] == [
        ("charge", "5.59"),
        ("refund", "5.59"),
    ]


def test_a_refund_of_what_was_not_bought_is_refused(customer: Any) -> None:
    assert customer.post("/refunds", {"transaction": "none"}).status_code == 400
    queued = customer.post("/transactions", {"rate": customer.rate()}).json()["object_id"]
    assert customer.post("/refunds", {"transaction": queued}).status_code == 400


def test_a_bought_label_is_tracked_and_moves_on_command(sandbox: Sandbox, customer: Any) -> None:
    bought = customer.buy(customer.rate()).json()
    number = bought["tracking_number"]
    sandbox.move("usps", number, "TRANSIT", substatus="package_arrived", location={"city": "Reno"})
    sandbox.move("usps", number, "DELIVERED")
    track = customer.get(f"/tracks/usps/{number}").json()
    assert [scan["status"] for scan in track["tracking_history"]] == ["PRE_TRANSIT", "TRANSIT", "DELIVERED"]
    assert track["tracking_status"]["status"] == "DELIVERED"
    assert track["transaction"] == bought["object_id"]
    assert track["tracking_history"][1]["substatus"]["code"] == "package_arrived"
    assert customer.get(f"/transactions/{bought['object_id']}").json()["tracking_status"] == "DELIVERED"


def test_any_number_may_be_registered_and_unknown_ones_are_unknown(sandbox: Sandbox, customer: Any) -> None:
    body = {"carrier": "ups", "tracking_number": "1Z1", "metadata": "m"}
    assert customer.post("/tracks", body).json()["tracking_status"]["status"] == "UNKNOWN"
    sandbox.move("ups", "1Z1", "RETURNED")
    assert customer.post("/tracks", body).json()["tracking_status"]["status"] == "RETURNED"
    assert customer.get("/tracks/ups/1Z2").json()["tracking_status"]["status"] == "UNKNOWN"
    mock = customer.get("/tracks/shippo/SHIPPO_DELIVERED").json()
    assert mock["tracking_status"]["status"] == "DELIVERED"


def test_webhooks_are_registered_changed_listed_and_removed(customer: Any) -> None:
    created = customer.post("/webhooks", {"event": "all", "url": "http://a.invalid/?token=1"})
    key = created.json()["object_id"]
    assert (created.status_code, created.json()["active"]) == (201, True)
    url = f"{customer.url}/webhooks/{key}"
    changed = customer.http.put(
        url, json={"event": "track_updated", "url": "http://b.invalid", "active": False}, timeout=5
    )
    assert changed.json()["active"] is False
    assert customer.get("/webhooks").json()["results"] == [changed.json()]
    assert customer.http.delete(url, timeout=5).status_code == 204
    assert customer.http.delete(url, timeout=5).status_code == 404
    for bad in ({"event": "x", "url": "http://a"}, {"event": "all", "url": "a"}, {"event": "all"}):
        assert customer.post("/webhooks", bad).status_code == 400
