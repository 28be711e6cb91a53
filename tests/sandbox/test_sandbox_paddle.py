"""Paddle's stand-in: subscriptions as its API shows them, and signed webhooks about what becomes of them."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
import requests

from shared.sandbox import Sandbox, SandboxError
from tests.sandbox.conftest import Receiver


def ask(sandbox: Sandbox, path: str = "/subscriptions", key: str | None = None, **params: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {key or sandbox.paddle_key('seller')}"}
    return requests.get(f"{sandbox.url}{path}", params=params, headers=headers, timeout=5)


def test_a_subscription_is_shown_as_it_is_now(sandbox: Sandbox) -> None:
    bought = sandbox.paddle_check_out("seller", custom_data={"workspace": "acme"}, plan="team")
    assert (bought["status"], bought["canceled_at"], bought["scheduled_change"]) == ("active", None, None)
    assert bought["items"][0]["price"]["custom_data"] == {"plan": "team"}
    sandbox.paddle_change("seller", bought["id"], status="canceled")
    now = ask(sandbox, f"/subscriptions/{bought['id']}").json()["data"]
    assert now["status"] == "canceled"
    assert now["canceled_at"] == now["updated_at"] > bought["updated_at"]


def test_lists_are_filtered_and_paged(sandbox: Sandbox) -> None:
    bought = [sandbox.paddle_check_out("seller", customer_id=f"ctm_{number % 2}") for number in range(5)]
    sandbox.paddle_check_out("other", customer_id="ctm_0")
    wanted = [one["id"] for one in bought if one["customer_id"] == "ctm_0"]
    assert [one["id"] for one in ask(sandbox, customer_id="ctm_0").json()["data"]] == wanted
    assert ask(sandbox, status="canceled").json()["data"] == []
    first = ask(sandbox, customer_id="ctm_0", per_page=2).json()
    assert first["meta"]["pagination"]["has_more"]
    key = {"Authorization": f"Bearer {sandbox.paddle_key('seller')}"}
    second = requests.get(first["meta"]["pagination"]["next"], headers=key, timeout=5).json()
    assert [one["id"] for one in first["data"] + second["data"]] == wanted
    assert not second["meta"]["pagination"]["has_more"]
    assert ask(sandbox, per_page=201).status_code == 400


def test_strangers_and_neighbors_see_nothing(sandbox: Sandbox) -> None:
    bought = sandbox.paddle_check_out("seller")
    assert ask(sandbox, key="pdl_live_apikey_x").json()["error"]["code"] == "authentication_malformed"
    assert ask(sandbox, f"/subscriptions/{bought['id']}", sandbox.paddle_key("other")).status_code == 404
    with pytest.raises(SandboxError):
        sandbox.paddle_change("seller", bought["id"], status="gone")
    with pytest.raises(SandboxError):
        sandbox.paddle_change("seller", "sub_none", status="canceled")


def test_webhooks_are_signed_with_each_secret(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.paddle_destination("seller", receiver.url, ["old", "new"])
    bought = sandbox.paddle_check_out("seller")
    sandbox.paddle_change("seller", bought["id"], status="paused")
    sandbox.paddle_change("seller", bought["id"], status="active")
    told = []
    for _ in range(6):
        headers, body = receiver.next()
        moment, *signatures = headers["Paddle-Signature"].split(";")
        text = moment.removeprefix("ts=").encode() + b":" + body
        assert signatures == [f"h1={hmac.new(key, text, hashlib.sha256).hexdigest()}" for key in (b"old", b"new")]
        told.append(json.loads(body))
    assert [event["event_type"].removeprefix("subscription.") for event in told] == [
        "created", "activated", "updated", "paused", "updated", "resumed",
    ]  # fmt: skip
    assert told == sandbox.paddle_events("seller")
    assert len({event["event_id"] for event in told}) == 6
