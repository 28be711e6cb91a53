"""A language model that writes rules about orders, the same for the same sentence, and goes wrong on request."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from shared.sandbox import Sandbox

PROCESSING = {
    "entity": "order",
    "filters": [
        {"field": "state", "operator": "is", "values": ["Processing"]},
        {"field": "days_in_state", "operator": "more_than", "days": 3.0},
    ],
    "aggregate": "none",
    "comparator": None,
    "threshold": None,
}


def ask(sandbox: Sandbox, text: str, key: str | None = None, **more: Any) -> requests.Response:
    body = {
        "model": "small",
        "messages": [{"role": "system", "content": "…"}, {"role": "user", "content": text}],
        **more,
    }
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return requests.post(f"{sandbox.url}/v1/chat/completions", json=body, headers=headers, timeout=5)


def says(answer: requests.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return json.loads(answer.json()["choices"][0]["message"]["content"])


def test_it_writes_the_rule_of_the_example(sandbox: Sandbox) -> None:
    text = "Tell me when an order is in Processing for more than 3 days"
    assert says(ask(sandbox, text)) == says(ask(sandbox, text)) == {"rule": PROCESSING}


@pytest.mark.parametrize(
    ("text", "filters", "count"),
    [
        (
            "tell me if an order is overdue more than 5 days",
            [("state", ["New", "Processing"]), ("days_since_ordered", 5.0)],
            None,
        ),
        ("more than 10 orders are New", [("state", ["New"])], ("more_than", 10)),
        ("when fewer than 3 new orders are there", [("state", ["New"])], ("less_than", 3)),
        ("orders for the company Example Labels.", [("recipient_company", "Example Labels")], None),
        ("my orders which are shipped", [("state", ["Shipped"]), ("created_by_me", True)], None),
        ("an order whose parcel is returned", [("delivery_status", ["returned"])], None),
        (
            "at least 5 orders in Processing for longer than 12 hours",
            [("state", ["Processing"]), ("days_in_state", 0.5)],
            ("at_least", 5),
        ),
    ],
)
def test_it_reads_what_such_sentences_say(
    sandbox: Sandbox, text: str, filters: list[tuple[str, Any]], count: tuple[str, int] | None
) -> None:
    rule = says(ask(sandbox, text))["rule"]
    found = [
        (one["field"], next(one[name] for name in ("values", "days", "text", "value") if name in one))
        for one in rule["filters"]
    ]
    assert found == filters
    assert (rule["comparator"], rule["threshold"]) == (count or (None, None))


@pytest.mark.parametrize("text", ["What is the weather like?", "Tell me about orders", ""])
def test_it_says_where_no_rule_can_say_it(sandbox: Sandbox, text: str) -> None:
    assert says(ask(sandbox, text)) == {"rule": None}


def test_who_may_ask(sandbox: Sandbox) -> None:
    assert ask(sandbox, "orders", sandbox.model_key("acme")).status_code == 200
    refused = ask(sandbox, "orders", "sk-somebody")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "sk-somebody" in refused.text, "as providers do"
    assert ask(sandbox, "orders", model="missing").status_code == 404
    assert ask(sandbox, "orders", messages=[]).status_code == 400
    assert [one["account"] for one in sandbox.model_asked()] == ["model_test_acme"]


def test_it_says_what_a_fault_makes_it_say(sandbox: Sandbox) -> None:
    sandbox.faults.add("model_says", content="no JSON", times=1)
    assert ask(sandbox, "orders").json()["choices"][0]["message"]["content"] == "no JSON"
    sandbox.faults.add("rate_limited", path="/v1/chat", times=1, retry_after=7)
    limited = ask(sandbox, "orders")
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "7")
    assert limited.json()["error"]["code"] == "rate_limit_exceeded"
