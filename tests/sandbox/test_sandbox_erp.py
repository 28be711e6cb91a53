"""An ERP that says what changed, page by page, and goes wrong on request."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from shared.sandbox import Sandbox, SandboxError

BOXES = [{"title": f"Box {number}", "sku": f"B-{number}", "unit_cost": number} for number in range(5)]


def ask(sandbox: Sandbox, entity: str = "samples", token: str | None = None, **params: Any) -> requests.Response:
    token = token or sandbox.erp_token("acme")
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{sandbox.url}/erp/{entity}", params=params, headers=headers, timeout=5)


def walk(sandbox: Sandbox, entity: str = "samples", **params: Any) -> list[list[Any]]:
    """All pages; no more than fifty."""
    pages: list[list[Any]] = []
    cursor = None
    for _ in range(50):
        answer = ask(sandbox, entity, **params, **({"cursor": cursor} if cursor else {})).json()
        pages.append(answer["items"])
        cursor = answer["next"]
        if cursor is None:
            return pages
    raise AssertionError("pages without an end")


def test_pages_hold_everything_once(sandbox: Sandbox) -> None:
    sandbox.erp_put("acme", "samples", BOXES)
    assert walk(sandbox) == [BOXES]
    assert walk(sandbox, limit=2) == [BOXES[:2], BOXES[2:4], BOXES[4:]]
    sandbox.erp_page_size(3)
    assert walk(sandbox, limit=500) == [BOXES[:3], BOXES[3:]]
    assert walk(sandbox, "stock") == [[]]
    assert sandbox.erp_items("acme", "samples") == BOXES


def test_what_changed_since(sandbox: Sandbox) -> None:
    sandbox.erp_put("acme", "stock", [{"sku": "B-1", "stock": 1}], updated_at="2026-01-01T00:00:00Z")
    sandbox.erp_put("acme", "stock", [{"sku": "B-2", "stock": 2}], updated_at="2026-02-01T00:00:00Z")
    assert walk(sandbox, "stock", updated_since="2026-01-01T01:00:00+01:00") == [
        [{"sku": "B-1", "stock": 1}, {"sku": "B-2", "stock": 2}]
    ]
    assert walk(sandbox, "stock", updated_since="2026-01-15T00:00:00Z") == [[{"sku": "B-2", "stock": 2}]]
    sandbox.erp_put("acme", "stock", [{"sku": "B-1", "stock": 9}])
    assert walk(sandbox, "stock", updated_since="2026-01-15T00:00:00Z")[0][1] == {"sku": "B-1", "stock": 9}


def test_what_changes_while_somebody_pages_is_not_missed(sandbox: Sandbox) -> None:
    sandbox.erp_put("acme", "samples", BOXES)
    first = ask(sandbox, limit=2).json()
    sandbox.erp_put("acme", "samples", [{**BOXES[0], "unit_cost": 9}, {**BOXES[4], "unit_cost": 9}])
    rest = ask(sandbox, cursor=first["next"]).json()["items"]
    assert [item["sku"] for item in rest] == ["B-2", "B-3", "B-0", "B-4"]


def test_each_token_is_an_erp_of_its_own_and_others_are_none(sandbox: Sandbox) -> None:
    sandbox.erp_put("acme", "samples", BOXES)
    assert ask(sandbox, token=sandbox.erp_token("globex")).json() == {"items": [], "next": None}
    for token in ("erp_live_acme", "erp_test_", "x"):
        assert ask(sandbox, token=token).status_code == 401
    assert requests.get(f"{sandbox.url}/erp/samples", timeout=5).status_code == 401
    sandbox.erp_clear("acme", "samples")
    assert walk(sandbox) == [[]]


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 501}, {"limit": "x"}, {"cursor": "x"}, {"updated_since": "yesterday"}]
)
def test_a_wrong_question_is_refused(sandbox: Sandbox, params: dict[str, Any]) -> None:
    answer = ask(sandbox, **params)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_a_wrong_control_call_says_why(sandbox: Sandbox) -> None:
    for path, body in (
        ("/erp/acme/orders", {"items": []}),
        ("/erp/acme/stock", {"items": 1}),
        ("/erp/acme/stock", {"items": [], "updated_at": "soon"}),
        ("/erp", {"page_size": 0}),
    ):
        with pytest.raises(SandboxError):
            sandbox.call("PUT", path, body)


def test_a_cursor_that_leads_nowhere_else(sandbox: Sandbox) -> None:
    sandbox.erp_put("acme", "samples", BOXES)
    sandbox.faults.add("same_cursor", path="/erp/samples", times=2)
    first = ask(sandbox, limit=2).json()
    second = ask(sandbox, limit=2, cursor=first["next"]).json()
    assert first == second
    assert ask(sandbox, cursor=first["next"]).json() == {"items": BOXES, "next": None}


def test_faults_of_the_wire_are_had_as_everywhere(sandbox: Sandbox) -> None:
    sandbox.faults.add("status", path="/erp/stock", account="acme", times=1, status=200, body={"things": []})
    sandbox.faults.add("garbage_json", path="/erp/stock", times=1)
    sandbox.faults.add("rate_limited", path="/erp/stock", times=1, retry_after=7)
    assert ask(sandbox, "stock").json() == {"things": []}
    with pytest.raises(requests.JSONDecodeError):
        ask(sandbox, "stock").json()
    assert ask(sandbox, "stock").headers["Retry-After"] == "7"
    assert ask(sandbox, "stock").json() == {"items": [], "next": None}
    sandbox.wait(lambda: sandbox.count("GET /erp/stock") == 4)


def test_a_reset_forgets_items_and_page_size(sandbox: Sandbox) -> None:
    sandbox.erp_put("acme", "samples", BOXES)
    sandbox.erp_page_size(1)
    sandbox.reset()
    assert walk(sandbox) == [[]]
    sandbox.erp_put("acme", "samples", BOXES)
    assert walk(sandbox) == [BOXES]
