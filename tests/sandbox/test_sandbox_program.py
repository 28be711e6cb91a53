"""The sandbox as a program: limits, control API, the ledger's file, the command line, many at once."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from shared.sandbox import Sandbox, SandboxClient, SandboxError
from shared.sandbox.cli import sandbox as command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def limited() -> Iterator[Sandbox]:
    with Sandbox.start() as running:
        yield running


def test_lists_are_limited_to_ten_a_minute_with_a_test_token_and_fifty_with_a_live_one(
    limited: Sandbox, customer: Any
) -> None:
    for live, allowed in ((False, 10), (True, 50)):
        someone = type(customer)(limited, "acme", live)
        statuses = [someone.get("/transactions").status_code for _ in range(allowed + 1)]
        assert statuses == [200] * allowed + [429]
    refused = someone.get("/transactions")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert int(refused.headers["X-RateLimit-Reset"]) % 60 == 0
    # Other operations, and after a minute this one, go on.
    assert someone.get("/transactions/none").status_code == 404
    limited.advance(60)
    assert someone.get("/transactions").status_code == 200


def test_limits_can_be_scaled_and_turned_off(limited: Sandbox, customer: Any) -> None:
    someone = type(customer)(limited)
    limited.limits(0.2)
    assert [someone.get("/refunds").status_code for _ in range(3)] == [200, 200, 429]
    limited.limits(0)
    assert {someone.get("/refunds").status_code for _ in range(20)} == {200}
    with pytest.raises(SandboxError, match="scale"):
        limited.limits(-1)


def test_a_remote_client_sees_and_does_what_the_local_one_does(sandbox: Sandbox, customer: Any) -> None:
    remote = SandboxClient(sandbox.url)
    remote.faults.add("status", path="/refunds", times=1)
    assert customer.get("/refunds").status_code == 500
    customer.buy(customer.rate(), "label-9")
    assert remote.ledger() == sandbox.ledger()
    assert remote.count("GET /refunds", "500", "status") == 1
    [last] = remote.calls(last=1)["last"]
    assert (last["route"], last["metadata"], last["outcome"]) == ("POST /transactions", "label-9", "201")


def test_ledger_filters(sandbox: Sandbox, customer: Any) -> None:
    other = type(customer)(sandbox, "other")
    rate = customer.rate()
    customer.buy(rate, "t1|label-1")
    other.buy(other.rate(), "t2|label-1")
    assert len(sandbox.ledger(metadata="label-1")) == 2
    assert [entry["metadata"] for entry in sandbox.ledger(account="acme")] == ["t1|label-1"]
    assert [entry["metadata"] for entry in sandbox.charges(account=other.token)] == ["t2|label-1"]
    assert len(sandbox.ledger(rate=rate, kind="charge")) == 1
    with pytest.raises(SandboxError, match="unknown filters: colour"):
        sandbox.ledger(colour="red")


def test_reset_forgets_everything(sandbox: Sandbox, customer: Any) -> None:
    customer.buy(customer.rate())
    sandbox.faults.add("hang", path="/nothing")
    sandbox.advance(100)
    sandbox.reset(seed=9)
    assert (sandbox.ledger(), sandbox.faults.list(), sandbox.calls()["total"]) == ([], [], 0)
    assert (sandbox.state()["offset"], sandbox.state()["seed"]) == (0, 9)
    assert customer.get("/transactions").json()["results"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/calls?last=x", None, 400),
        ("GET", "/elsewhere", None, 404),
        ("POST", "/reset", {"seed": "x"}, 400),
        ("POST", "/clock", {"advance": "soon"}, 400),
        ("POST", "/faults", {"kind": "explode"}, 400),
        ("POST", "/tracking/usps/1", {"status": "TRANSIT"}, 404),
        ("POST", "/tracking/usps/1", {"status": "LOST"}, 400),
    ],
)
def test_a_wrong_control_call_says_why(sandbox: Sandbox, method: str, path: str, body: Any, status: int) -> None:
    answer = requests.request(method, f"{sandbox.url}/_sandbox{path}", json=body, timeout=5)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_the_page_shows_the_ledger_and_escapes_what_callers_sent(sandbox: Sandbox, customer: Any) -> None:
    customer.buy(customer.rate(), "<b>bold</b>")
    sandbox.faults.preset("stormy")
    page = requests.get(sandbox.url, timeout=5)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "&lt;b&gt;bold&lt;/b&gt;" in page.text
    assert "reset_after" in page.text


def test_a_body_of_unknown_or_immoderate_length_is_refused(sandbox: Sandbox, customer: Any) -> None:
    answer = customer.http.post(f"{sandbox.url}/addresses", data=iter([b"{}"]), timeout=5)
    assert answer.status_code == 413


def test_a_bug_of_the_stand_in_is_a_500_that_says_so(
    sandbox: Sandbox, customer: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shared.sandbox.shippo.transactions.paginate", lambda *_: 1 / 0)
    answer = customer.get("/transactions")
    assert (answer.status_code, "sandbox itself" in answer.json()["detail"]) == (500, True)
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_many_purchases_at_once_are_each_in_the_ledger_exactly_once(sandbox: Sandbox, customer: Any) -> None:
    rate = customer.rate()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: customer.buy(rate, f"label-{n}").json(), range(400)))
    entries = sandbox.ledger()
    assert [entry["seq"] for entry in entries] == list(range(1, 401))
    assert {entry["transaction"] for entry in entries} == {answer["object_id"] for answer in answers}
    assert len({entry["tracking_number"] for entry in entries}) == 400


def start_program(*arguments: str) -> tuple[subprocess.Popen[str], SandboxClient]:
    program = subprocess.Popen(
        [sys.executable, "-m", "shared.sandbox", "--port", "0", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert program.stdout is not None
    found = re.search(r"http://\S+", program.stdout.readline())
    assert found
    return program, SandboxClient(found[0])


def test_the_books_survive_a_kill_of_the_program(tmp_path: Path, customer: Any) -> None:
    file = tmp_path / "ledger.jsonl"
    program, remote = start_program("--ledger", str(file), "--limits", "0")
    try:
        someone = type(customer)(remote)
        rate = someone.rate()
        bought = someone.buy(rate, "before").json()["object_id"]
        remote.faults.add("queued_then_success", seconds=600)
        queued = someone.buy(rate, "while").json()["object_id"]
    finally:
        program.kill()
        program.communicate()
    with file.open("ab") as torn:
        torn.write(b'{"account": "shippo_te')

    rules = tmp_path / "rules.json"
    rules.write_text('[{"kind": "hang", "match": {"path": "/nothing"}}]')
    program, remote = start_program("--ledger", str(file), "--faults", str(rules), "--seed", "5")
    try:
        assert (len(remote.faults.list()), remote.state()["seed"]) == (1, 5)
        someone = type(customer)(remote)
        assert someone.get(f"/transactions/{bought}").json()["status"] == "SUCCESS"
        # What was queued goes on, and the old rate can still be bought.
        remote.settle()
        remote.wait(lambda: len(remote.charges()) == 2)
        assert someone.get(f"/transactions/{queued}").json()["status"] == "SUCCESS"
        assert someone.buy(rate, "after").status_code == 201
        assert [entry["seq"] for entry in remote.ledger()] == [1, 2, 3]
    finally:
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=10)
    assert program.returncode == 0
    # What was written behind the torn line is whole.
    with Sandbox.start(ledger=file) as third:
        assert [entry["metadata"] for entry in third.ledger()] == ["before", "while", "after"]


def test_a_reset_holds_over_a_restart(tmp_path: Path, customer: Any) -> None:
    file = tmp_path / "ledger.jsonl"
    with Sandbox.start(ledger=file, limits=0) as first:
        type(customer)(first).buy(type(customer)(first).rate(), "old")
        first.reset()
        type(customer)(first).buy(type(customer)(first).rate(), "new")
    with Sandbox.start(ledger=file) as second:
        assert [entry["metadata"] for entry in second.ledger()] == ["new"]


def test_the_command_refuses_bad_faults_and_a_taken_port(tmp_path: Path, sandbox: Sandbox) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps([{"kind": "explode"}]) + "\n")
    port = sandbox.url.rsplit(":", 1)[1]
    for arguments, words in (
        (["--port", "0", "--faults", "foggy"], "neither a preset"),
        (["--port", "0", "--faults", str(file)], "unknown kind 'explode'"),
        (["--port", port], "cannot start on 127.0.0.1"),
        (["--port", "0", "--ledger", str(file)], "is no ledger"),
    ):
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code != 0
        assert words in result.output


def test_a_sandbox_can_be_stopped_and_started_again_on_its_port_while_clients_are_connected(
    tmp_path: Path, customer: Any
) -> None:
    file = tmp_path / "ledger.jsonl"
    first = Sandbox.start(ledger=file)
    someone = type(customer)(first)
    rate = someone.rate()
    first.stop()
    with pytest.raises(requests.ConnectionError):
        someone.buy(rate)
    with Sandbox.start(port=int(first.url.rsplit(":", 1)[1]), ledger=file) as second:
        assert someone.buy(rate, "after").status_code == 201
        assert [entry["metadata"] for entry in second.ledger()] == ["after"]
