"""One trace from the click to the handler: request, job, call to the carrier, event, handler in another service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from services.shipping.providers import shippo as provider
from services.shipping.service import service as shipping
from services.shipping.settings import settings as shipping_settings
from shared.runtime.embedded.group import Group
from shared.runtime.settings import Settings
from shared.telemetry.testing import captured_spans
from shared.testing.servers import PostgresServer
from shared.testing.service import wait_until
from tests.e2e.reader.events import NOTED
from tests.e2e.reader.service import service as reader

SENDER = {
    "name": "Ada",
    "street1": "215 Clayton St",
    "city": "San Francisco",
    "state": "CA",
    "zip": "94117",
    "country": "US",
}
ORDER = {
    "number": "1042",
    "recipient": {"name": "Bob Example"},
    "address": {"street1": "1 Broadway", "city": "New York", "state": "NY", "zip": "10004", "country": "US"},
    "lines": [{"name": "Kraft box"}],
    "parcels": [{"length": "5", "width": "5", "height": "5", "distance_unit": "in", "weight": "2", "mass_unit": "lb"}],
}


@pytest.fixture
def group(postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    """Both services in this process, each with a database of its own, and the carrier's stand-in."""
    monkeypatch.setenv("SHIPPING_SHIPPO_OWN_LIMITS", "false")
    with (
        postgres.fresh_database("trace_shipping") as first,
        postgres.fresh_database("trace_reader") as second,
        pytest.MonkeyPatch.context() as patch,
    ):
        urls = {"shipping": first, "reader": second}
        patch.setattr(Settings, "database", lambda _, service: urls[service])
        patch.setattr(Settings, "migration_database", lambda _, service: urls[service])
        chosen = Settings(data_dir=tmp_path, database_url=f"{first}?{{service}}", port=18600, worker_threads=2)
        shipping_settings.cache_clear()
        provider.make_client.cache_clear()
        with Group(chosen, services=[shipping, reader], sandbox={"port": 0, "limits": 0}) as running:
            yield running
    shipping_settings.cache_clear()
    provider.make_client.cache_clear()


def test_the_click_the_job_the_call_the_event_and_its_handler_are_one_trace(group: Group) -> None:
    # Given a workspace whose carrier account is connected, and an order
    url = group.members["shipping"].url
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {group.token('acme', 'user:ada', 'owner')}"
    assert group.sandbox is not None
    token = group.sandbox.token("acme")
    connected = session.put(f"{url}/v1/connections/shippo", json={"token": token, "sender": SENDER}).json()
    wait_until(lambda: session.get(f"{url}/v1/jobs/{connected['job']['id']}").json()["done"])
    order = session.post(f"{url}/v1/orders", json=ORDER).json()
    NOTED.clear()

    # When somebody clicks on "buy label"
    with captured_spans() as spans:
        clicked = session.post(f"{url}/v1/orders/{order['id']}/labels", json={})
        assert clicked.status_code == 202, clicked.text
        wait_until(lambda: NOTED)
        wait_until(lambda: [span for span in spans if span.attributes.get("backroom.job.actor") == "note_label"])

    # Then one trace tells the whole of it
    request = next(span for span in spans if span.kind == "server" and span.name.startswith("POST"))
    trace = [span for span in spans if span.trace_id == request.trace_id]
    bought = next(span for span in trace if span.attributes.get("backroom.job.actor") == "purchase_label")
    assert bought.parent_id == request.span_id, spans.tree()
    calls = [span for span in trace if span.kind == "client" and span.parent_id == bought.span_id]
    assert calls, spans.tree()
    told = next(
        span
        for span in trace
        if span.kind == "producer"
        and span.attributes["messaging.rabbitmq.destination.routing_key"] == "backroom.shipping.label.purchased.v1"
    )
    assert told.parent_id == bought.span_id, spans.tree()
    noted = next(span for span in trace if span.attributes.get("backroom.job.actor") == "note_label")
    assert noted.parent_id == told.span_id, spans.tree()

    # And the record of the run names it
    one = f"{url}/v1/jobs/{bought.attributes['backroom.job_id']}"
    attempts = wait_until(lambda: session.get(f"{one}/attempts").json()["items"])
    assert [attempt["trace_id"] for attempt in attempts] == [request.trace_id]
