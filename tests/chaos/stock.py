"""The same work on stock Dramatiq, as its guide teaches it: commit, then send; an actor that calls and retries.

The broker has its default settings. Only the waits between retries are shortened, as they are for ours.

    gunicorn tests.chaos.stock:app        the API
    dramatiq tests.chaos.stock            a worker
"""

from __future__ import annotations

import os
import uuid
from typing import Any

import dramatiq
import flask
import psycopg
import requests
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from tests.chaos.sample.jobs import ADDRESS, PARCEL

DATABASE_URL = os.environ["STOCK_DATABASE_URL"]
CARRIER_URL = os.environ["STOCK_CARRIER_URL"]
TIMEOUT = float(os.environ["STOCK_TIMEOUT_SECONDS"])

dramatiq.set_broker(RabbitmqBroker(url=os.environ["STOCK_BROKER_URL"]))
app = flask.Flask("stock")


@dramatiq.actor(min_backoff=200, max_backoff=2000)
def buy(order_id: str) -> None:
    """Buy what the order wants, and note it."""
    headers = {"Authorization": "ShippoToken shippo_test_stock"}
    shipment = {"address_from": ADDRESS, "address_to": ADDRESS, "parcels": [PARCEL], "async": False}
    rated = requests.post(f"{CARRIER_URL}/shipments", json=shipment, headers=headers, timeout=TIMEOUT)
    rated.raise_for_status()
    rate = rated.json()["rates"][0]["object_id"]
    wanted = {"rate": rate, "async": False, "metadata": f"order:{order_id}", "label_file_type": "PDF"}
    bought = requests.post(f"{CARRIER_URL}/transactions", json=wanted, headers=headers, timeout=TIMEOUT)
    bought.raise_for_status()
    if bought.json()["status"] == "ERROR":
        raise RuntimeError(bought.text)
    with psycopg.connect(DATABASE_URL) as connection:
        connection.execute("UPDATE orders SET state = 'purchased' WHERE id = %s", (order_id,))


@app.post("/v1/orders")
def create_order() -> Any:
    """Make an order; the same number again is the same order."""
    number = flask.request.get_json()["number"]
    with psycopg.connect(DATABASE_URL) as connection:
        row = connection.execute(
            "INSERT INTO orders (id, number) VALUES (%s, %s) "
            "ON CONFLICT (number) DO UPDATE SET number = excluded.number RETURNING id",
            (uuid.uuid4(), number),
        ).fetchone()
    assert row is not None
    return {"id": str(row[0])}, 201


@app.post("/v1/orders/<uuid:order_id>/purchase")
def purchase(order_id: uuid.UUID) -> Any:
    """Have an order bought, once: only the first click sends."""
    with psycopg.connect(DATABASE_URL) as connection:
        first = connection.execute(
            "UPDATE orders SET state = 'requested' WHERE id = %s AND state = 'new' RETURNING id", (order_id,)
        ).fetchone()
    if first is not None:
        buy.send(str(order_id))
    return {"id": str(order_id)}, 202


@app.get("/readyz")
def ready() -> str:
    """Answer that we listen."""
    return "ok"
