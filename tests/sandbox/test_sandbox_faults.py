"""Each kind of fault does what its description says; above all, whether it charges."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

import shared.sandbox
from shared.sandbox import Sandbox, SandboxError
from shared.sandbox.faults import KINDS, BadRule, Call, FaultBook
from shared.sandbox.presets import PRESETS

BUY: dict[str, Any] = {"method": "POST", "path": "/transactions"}


def test_latency_delays_and_then_answers(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("latency", **BUY, seconds=(0.1, 0.2))
    started = time.monotonic()
    assert customer.buy(rate).status_code == 201
    assert time.monotonic() - started >= 0.1


def test_hang_never_charges_and_ends_without_an_answer(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("hang", **BUY, times=1)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(customer.buy, rate)
        sandbox.wait(lambda: sandbox.state()["hanging"])
        assert sandbox.release() == 1
        with pytest.raises(requests.ConnectionError):
            call.result()
    assert sandbox.ledger() == []


def test_a_hanging_call_notices_that_its_client_left(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("hang", **BUY)
    with pytest.raises(requests.Timeout):
        customer.buy(rate, timeout=0.05)
    sandbox.wait(lambda: sandbox.calls()["open"] == 0)
    assert sandbox.count("POST /transactions", "no answer", "hang") == 1


@pytest.mark.parametrize("status", [401, 500, 502, 503, 504])
def test_status_answers_without_charging(sandbox: Sandbox, customer: Any, status: int) -> None:
    rate = customer.rate()
    sandbox.faults.add("status", **BUY, times=1, status=status)
    answer = customer.buy(rate)
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert sandbox.ledger() == []
    assert customer.buy(rate).status_code == 201


def test_status_can_be_a_choice_with_a_body_of_its_own(sandbox: Sandbox, customer: Any) -> None:
    sandbox.faults.add("status", status=[500, 503], body={"oops": 1})
    answers = [customer.get("/transactions") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {500, 503}
    assert answers[0].json() == {"oops": 1}


def test_status_after_charges_although_it_answers_an_error(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("status_after", **BUY)
    assert customer.buy(rate).status_code == 502
    assert len(sandbox.ledger()) == 1


def test_rate_limited_says_when_to_come_back(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("rate_limited", **BUY, retry_after=7)
    answer = customer.buy(rate)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert 5 <= int(answer.headers["X-RateLimit-Reset"]) - time.time() <= 8
    assert sandbox.ledger() == []


@pytest.mark.parametrize(("kind", "charges"), [("reset_before", 0), ("reset_after", 1)])
def test_a_reset_is_a_real_one_before_or_after_the_charge(
    sandbox: Sandbox, customer: Any, kind: str, charges: int
) -> None:
    rate = customer.rate()
    sandbox.faults.add(kind, **BUY)
    with pytest.raises(requests.ConnectionError) as caught:
        customer.buy(rate, "label-1")
    assert "Connection reset by peer" in str(caught.value)
    assert len(sandbox.charges(metadata="label-1")) == charges
    found = customer.get("/transactions", rate=rate).json()["results"]
    assert [item["metadata"] for item in found] == ["label-1"] * charges


def test_timeout_after_charges_at_once_and_stays_silent(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("timeout_after", **BUY)
    with pytest.raises(requests.Timeout):
        customer.buy(rate, timeout=0.1)
    assert len(sandbox.ledger()) == 1


def test_late_charge_charges_long_after_the_client_has_left(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("late_charge", **BUY)
    with pytest.raises(requests.Timeout):
        customer.buy(rate, "late", timeout=0.05)
    # By now a hang would have noticed that nobody waits any more.
    time.sleep(0.3)
    assert sandbox.ledger() == []
    assert sandbox.release() == 1
    sandbox.wait(lambda: sandbox.charges(metadata="late"))
    sandbox.wait(lambda: sandbox.count("POST /transactions", "no answer", "late_charge"))


def test_queued_then_success_charges_later_even_if_a_synchronous_answer_was_asked_for(
    sandbox: Sandbox, customer: Any
) -> None:
    rate = customer.rate()
    sandbox.faults.add("queued_then_success", seconds=3600)
    answer = customer.buy(rate).json()
    assert (answer["status"], sandbox.ledger()) == ("QUEUED", [])
    sandbox.settle()
    assert customer.get(f"/transactions/{answer['object_id']}").json()["status"] == "SUCCESS"
    assert len(sandbox.ledger()) == 1


def test_queued_then_error_never_charges(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("queued_then_error", seconds=3600, text="The truck is full.")
    key = customer.buy(rate).json()["object_id"]
    sandbox.settle()
    later = customer.get(f"/transactions/{key}").json()
    assert (later["status"], later["messages"][0]["text"]) == ("ERROR", "The truck is full.")
    assert sandbox.ledger() == []


def test_error_messages_is_a_201_with_status_error(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("error_messages", code="address", text="No such street.")
    answer = customer.buy(rate)
    assert (answer.status_code, answer.json()["status"]) == (201, "ERROR")
    assert answer.json()["messages"] == [{"source": "Carrier", "code": "address", "text": "No such street."}]
    assert sandbox.ledger() == []


def test_expired_rate_refuses_a_fresh_rate(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("expired_rate", times=1)
    assert customer.buy(rate).status_code == 400
    assert customer.buy(rate).status_code == 201


def test_refund_rejected_keeps_the_charge(sandbox: Sandbox, customer: Any) -> None:
    key = customer.buy(customer.rate()).json()["object_id"]
    sandbox.faults.add("refund_rejected")
    refund = customer.post("/refunds", {"transaction": key, "async": False}).json()
    sandbox.settle()
    assert customer.get(f"/refunds/{refund['object_id']}").json()["status"] == "ERROR"
    assert customer.get(f"/transactions/{key}").json()["status"] == "REFUNDREJECTED"
    assert [entry["kind"] for entry in sandbox.ledger()] == ["charge"]


def test_truncated_body_charges_and_breaks_off(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("truncated_body", **BUY)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        customer.buy(rate)
    assert len(sandbox.ledger()) == 1


def test_garbage_json_charges_and_cannot_be_read(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("garbage_json", **BUY)
    answer = customer.buy(rate)
    assert answer.status_code == 201
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert len(sandbox.ledger()) == 1


def test_trickle_sends_byte_by_byte_so_that_no_read_ever_times_out(sandbox: Sandbox, customer: Any) -> None:
    sandbox.faults.add("trickle", path="/refunds", interval=0.005)
    started = time.monotonic()
    assert customer.get("/refunds").json()["results"] == []
    assert time.monotonic() - started > 0.005 * 20


def test_a_rule_chooses_by_method_path_pattern_account_and_metadata(sandbox: Sandbox, customer: Any) -> None:
    other = type(customer)(sandbox, "other")
    rate, foreign = customer.rate(), other.rate()
    sandbox.faults.add("status", **BUY, account="acme", metadata="label-1")
    sandbox.faults.add("status", pattern="^/rates/[0-9a-f]+$", status=503)
    assert customer.buy(rate, "label-1").status_code == 500
    assert customer.buy(rate, "label-2").status_code == 201
    assert other.buy(foreign, "label-1").status_code == 201
    assert customer.get(f"/rates/{rate}").status_code == 503
    assert customer.get("/transactions").status_code == 200


def test_after_lets_calls_pass_and_times_removes_the_rule(sandbox: Sandbox, customer: Any) -> None:
    sandbox.faults.add("status", path="/transactions", after=1, times=2)
    statuses = [customer.get("/transactions").status_code for _ in range(4)]
    assert statuses == [200, 500, 500, 200]
    assert sandbox.faults.list() == []


def test_rules_are_asked_in_order_and_can_be_removed_one_by_one(sandbox: Sandbox, customer: Any) -> None:
    first = sandbox.faults.add("status", status=503)
    sandbox.faults.add("status", status=504)
    assert customer.get("/refunds").status_code == 503
    sandbox.faults.clear(first["id"])
    assert customer.get("/refunds").status_code == 504
    with pytest.raises(SandboxError, match="404"):
        sandbox.faults.clear(first["id"])
    sandbox.faults.clear()
    assert customer.get("/refunds").status_code == 200


def fired(seed: int, threads: int = 1) -> list[bool]:
    book = FaultBook(seed)
    book.add([{"kind": "status", "probability": 0.3}])
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda _: book.pick(Call("GET", "/x")) is not None, range(200)))


def test_the_same_seed_gives_the_same_faults_whatever_the_threads_do() -> None:
    assert fired(7) == fired(7)
    assert fired(7) != fired(8)
    assert sum(fired(7)) == sum(fired(7, threads=8))
    assert 30 < sum(fired(7)) < 90


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "explode"},
        {"kind": "hang", "probabilty": 1},
        {"kind": "hang", "match": {"verb": "GET"}},
        {"kind": "hang", "match": {"path": 1}},
        {"kind": "hang", "match": {"pattern": "("}},
        {"kind": "hang", "params": {"minutes": 1}},
        {"kind": "hang", "params": {"seconds": [1, 2, 3]}},
        {"kind": "hang", "probability": 2},
        {"kind": "hang", "times": 0},
        {"kind": "hang", "times": "often"},
        "hang",
    ],
)
def test_a_rule_that_cannot_be_understood_is_refused_rather_than_ignored(rule: Any) -> None:
    with pytest.raises(BadRule):
        FaultBook().add([rule])


def test_presets_are_good_rules_and_an_unknown_one_is_refused(sandbox: Sandbox) -> None:
    for name, rules in PRESETS.items():
        assert len(sandbox.faults.preset(name)) == len(rules)
    with pytest.raises(SandboxError, match="known: calm"):
        sandbox.faults.preset("foggy")
    # A refused replacement leaves what was in force.
    assert len(sandbox.faults.list()) == len(rules)


def test_the_readme_describes_every_kind_and_preset_and_its_example_works() -> None:
    text = (Path(shared.sandbox.__path__[0]) / "README.md").read_text()
    assert [name for name in [*KINDS, *PRESETS] if f"`{name}`" not in text] == []
    example = text.split("```python\n")[1].split("```")[0]
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102


def test_a_hundred_hanging_calls_do_not_keep_others_waiting(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    sandbox.faults.add("hang", **BUY)
    head = f"POST /transactions HTTP/1.1\r\nHost: x\r\nAuthorization: ShippoToken {customer.token}\r\n"
    body = f'{{"rate": "{rate}", "async": false}}'
    message = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    address = ("127.0.0.1", int(sandbox.url.rsplit(":", 1)[1]))
    connections = [socket.create_connection(address) for _ in range(150)]
    try:
        for connection in connections:
            connection.sendall(message)
        sandbox.wait(lambda: sandbox.state()["hanging"] == 150)
        started = time.monotonic()
        assert customer.get(f"/rates/{rate}").status_code == 200
        assert time.monotonic() - started < 1
    finally:
        for connection in connections:
            connection.close()
    sandbox.wait(lambda: sandbox.state()["hanging"] == 0)
    assert sandbox.ledger() == []


def test_stopping_cuts_hanging_calls_and_charges_nothing(customer: Any, sandbox: Sandbox) -> None:
    rate = customer.rate()
    sandbox.faults.add("late_charge", **BUY)
    books = sandbox._server.core.books
    ended = threading.Event()

    def buy() -> None:
        with pytest.raises(requests.ConnectionError):
            customer.buy(rate)
        ended.set()

    threading.Thread(target=buy, daemon=True).start()
    sandbox.wait(lambda: sandbox.state()["hanging"])
    sandbox.stop()
    assert ended.wait(5)
    assert books.entries() == []
