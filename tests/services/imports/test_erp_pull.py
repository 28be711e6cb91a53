"""ERPs that are asked: page by page, safely, resumed where it stopped, and with a clear word when it goes wrong."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

import pytest
from sqlalchemy import Row

from services.imports.erp.passes import Pass
from services.imports.jobs import pull_all_erps, pull_erp
from services.imports.service import service
from services.imports.settings import settings
from shared.context import SYSTEM
from shared.sandbox import Sandbox
from shared.testing.service import ServiceUnderTest
from tests.outbound.raw_server import Server
from tests.outbound.spellings import OTHER_URLS, SPELLINGS
from tests.services.imports.desk import Desk
from tests.services.imports.erp_desk import TOKEN, Erp

LONG_AGO = "2026-01-01T00:00:00Z"
BOXES = [{"title": f"Box {number:02}", "sku": f"B-{number:02}", "unit_cost": number} for number in range(25)]
ROUTE = "GET /erp/samples"
PATH = "/erp/samples"


class Asked(Erp):
    """A connection to the sandbox's ERP."""

    def __init__(self, desk: Desk, sandbox: Sandbox, account: str = "acme", **options: Any) -> None:
        token = options.pop("token", sandbox.erp_token(account))
        super().__init__(desk, f"{sandbox.url}/erp", token=token, **options)

    def pull(self, entity: str = "samples") -> UUID:
        """Start a pull as an owner does; return its job."""
        answer = self.desk.client.post(f"{self.path}/pull", {"entity": entity})
        assert answer.status_code == 202, answer.text
        return UUID(answer.json["id"])

    def pulled(self, entity: str = "samples") -> Row[Any]:
        """Pull, and run the job to its end; return it."""
        return self.finish(self.pull(entity))

    def finish(self, job_id: UUID) -> Row[Any]:
        while (job := self.desk.service.job(job_id)).state == "scheduled":
            self.desk.service.run(job_id)
        return job

    def state(self) -> str:
        return str(self.desk.read(self.path)["state"])

    def cursor(self) -> dict[str, Any]:
        (row,) = self.desk.service.query("SELECT cursor FROM erp_connections WHERE id = :id", id=self.id)
        return dict(row.cursor)


@pytest.fixture(scope="module")
def _running() -> Iterator[Sandbox]:
    with Sandbox.start(seed=1, limits=0) as running:
        yield running


@pytest.fixture
def sandbox(_running: Sandbox) -> Sandbox:
    _running.reset()
    return _running


@pytest.fixture
def impatient(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox may be asked, and has half a second for a page."""
    monkeypatch.setenv("IMPORTS_ERP_TRUSTED_HOSTS", json.dumps([sandbox.url.removeprefix("http://")]))
    monkeypatch.setenv("IMPORTS_ERP_TOTAL_SECONDS", "0.5")
    settings.cache_clear()


@pytest.fixture
def erp(impatient: None, desk: Desk, sandbox: Sandbox) -> Asked:
    settings.cache_clear()
    return Asked(desk, sandbox)


def count(desk: Desk) -> int:
    return int(desk.service.query("SELECT count(*) FROM samples")[0][0])


def calls(sandbox: Sandbox, route: str | None = None, outcome: str | None = None) -> int:
    """How many calls there were; one is counted a moment after it was answered."""
    sandbox.wait(lambda: not sandbox.calls()["open"])
    return sandbox.count(route, outcome)


def asked_with(line: dict[str, Any]) -> dict[str, str]:
    """The parameters of a question, as its line in the log has it."""
    return {name: values[0] for name, values in parse_qs(urlsplit(line["request"].split(" ")[1]).query).items()}


# -- what comes of it ------------------------------------------------------------------------------------------


def test_pages_come_one_by_one_into_the_catalog(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.erp_put("acme", "samples", BOXES)
    sandbox.erp_page_size(10)
    job_id = erp.pull()
    job = desk.service.run(job_id)
    assert (job.state, job.waiting_for, job.queue) == ("scheduled", "next_slice", "erp")
    assert (job.progress["done"], job.progress["unit"], count(desk)) == (10, "items", 10)
    assert desk.read(erp.path)["pulled_at"] == {}
    job = erp.finish(job_id)
    assert (job.state, job.runs, job.failures) == ("succeeded", 1, 0)
    assert job.result == {"items": 25, "created": 25, "updated": 0, "unchanged": 0, "failed": 0, "pages": 3}
    assert desk.titles() == [box["title"] for box in BOXES]
    assert calls(sandbox, ROUTE) == 3
    assert list(desk.read(erp.path)["pulled_at"]) == ["samples"]
    log = erp.log()
    assert [(line["direction"], line["outcome"], line["counts"]["items"]) for line in log] == [
        ("out", "ok", 5),
        ("out", "ok", 10),
        ("out", "ok", 10),
    ]
    assert [sorted(asked_with(line)) for line in log] == [["cursor", "limit"], ["cursor", "limit"], ["limit"]]
    assert "Box 24" in log[0]["response"]
    created = [event.data for event in desk.service.published("backroom.imports.sample.created.v1")]
    assert [len(data["sample_ids"]) for data in created] == [10, 10, 5]


def test_stock_comes_as_well(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.erp_put("acme", "samples", BOXES[:2])
    sandbox.erp_put("acme", "stock", [{"sku": "b-01", "stock": 7}, {"sku": "unknown", "stock": 1}])
    erp.pulled()
    assert erp.pulled("stock").result["failed"] == 1
    assert desk.service.query("SELECT stock FROM samples ORDER BY id") == [(None,), (7,)]
    whole, single = erp.log(entity="stock")
    assert (whole["counts"]["updated"], single["external_id"], single["direction"]) == (1, "unknown", "out")


def test_the_next_pass_asks_for_what_changed_since_the_last_one_began(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.erp_put("acme", "samples", BOXES, updated_at=LONG_AGO)
    before = datetime.now(UTC).replace(microsecond=0)
    erp.pulled()
    sandbox.erp_put("acme", "samples", [{**BOXES[3], "unit_cost": 99}])
    job = erp.pulled()
    assert job.result == {"items": 1, "created": 0, "updated": 1, "unchanged": 0, "failed": 0, "pages": 1}
    since = datetime.fromisoformat(asked_with(erp.log()[0])["updated_since"])
    assert before <= since + timedelta(seconds=300) <= datetime.now(UTC)
    assert erp.pulled().result["unchanged"] == 1, "it is asked for twice, since clocks differ, and that changes nothing"
    assert desk.service.query("SELECT max(version) FROM samples") == [(2,)]


def test_items_that_are_wrong_are_logged_and_stop_no_other(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.erp_put("acme", "samples", [BOXES[0], {"sku": "NO-TITLE"}, "no item", {"title": "Cost", "unit_cost": "x"}])
    job = erp.pulled()
    assert (job.state, job.result["created"], job.result["failed"]) == ("succeeded", 1, 3)
    whole, *single = erp.log()
    assert (whole["outcome"], whole["counts"]["failed"]) == ("failed", 3)
    assert {line["external_id"] for line in single} == {"NO-TITLE", None, "Cost"}


def test_the_plans_limit_holds_over_pages(
    desk: Desk, sandbox: Sandbox, erp: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPORTS_MAX_RECORDS", "12")
    settings.cache_clear()
    sandbox.erp_put("acme", "samples", BOXES)
    sandbox.erp_page_size(10)
    job = erp.pulled()
    assert (job.result["created"], job.result["failed"], count(desk)) == (12, 13, 12)


# -- who may, and when -----------------------------------------------------------------------------------------


def test_a_pull_that_is_under_way_is_the_answer_to_the_next(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    assert erp.pull() == erp.pull()
    assert erp.pull("stock") != erp.pull()


def test_another_tenants_connection_is_none(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    stranger = desk.client.of("globex")
    assert stranger.post(f"{erp.path}/pull", {"entity": "samples"}).status_code == 404
    assert stranger.patch(erp.path, {"token": sandbox.erp_token("globex")}).status_code == 404
    foreign = desk.service.run_job(pull_erp, tenant_id="globex", connection_id=erp.id, entity="samples", name="x")
    assert foreign.result == {"skipped": "connection_gone"}
    assert calls(sandbox) == 0


def test_only_owners_and_managers(desk: Desk, erp: Asked) -> None:
    sales = desk.client.role("sales")
    assert sales.post(f"{erp.path}/pull", {"entity": "samples"}).status_code == 403
    assert sales.patch(erp.path, {"name": "x"}).status_code == 403


def test_each_hour_all_are_asked_that_can_be(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    other = Asked(desk, sandbox, name="Second")
    desk.service.execute("UPDATE erp_connections SET state = 'needs_attention' WHERE id = :id", id=other.id)
    foreign = desk.client.of("globex").post(
        "/v1/erp/connections",
        {"name": "Theirs", "base_url": f"{sandbox.url}/erp", "token": sandbox.erp_token("globex")},
    )
    sandbox.erp_put("globex", "samples", BOXES[:3])
    sandbox.erp_put("acme", "samples", BOXES[:1])
    assert erp.pull()
    desk.service.app.scheduler().tick(datetime(2026, 3, 1, 10, 17, 20, tzinfo=UTC))
    (tick,) = desk.service.jobs(actor="pull_all_erps")
    assert desk.service.run(tick.id).result == {"pulls": 3}, "one is under way"
    assert desk.service.run_job(pull_all_erps, tenant_id=SYSTEM).result == {"pulls": 0}
    pulls = desk.service.jobs(actor="pull_erp")
    assert {(job.tenant_id, job.arguments["connection_id"], job.arguments["entity"]) for job in pulls} == {
        (tenant, connection, entity)
        for tenant, connection in (("acme", str(erp.id)), ("globex", foreign.json["connection"]["id"]))
        for entity in ("samples", "stock")
    }
    desk.service.drain()
    counted = desk.service.query("SELECT tenant_id, count(*) FROM samples GROUP BY tenant_id ORDER BY tenant_id")
    assert counted == [("acme", 1), ("globex", 3)]


# -- broken off, and resumed -----------------------------------------------------------------------------------


def test_a_page_that_is_applied_twice_changes_nothing(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.erp_put("acme", "samples", BOXES, updated_at=LONG_AGO)
    sandbox.erp_page_size(10)
    job_id = erp.pull()
    desk.service.run(job_id)
    # As if the page's commit had been lost.
    desk.service.execute("UPDATE erp_connections SET cursor = '{}'")
    job = erp.finish(job_id)
    assert (job.result["items"], job.result["unchanged"], count(desk)) == (35, 10, 25)
    assert desk.service.query("SELECT DISTINCT version FROM samples") == [(1,)]


def test_a_pass_that_failed_is_continued_by_the_next_job(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.erp_put("acme", "samples", BOXES, updated_at=LONG_AGO)
    sandbox.erp_page_size(10)
    sandbox.faults.add("status", path=PATH, after=1, times=4, status=503)
    job = erp.pulled()
    assert (job.state, job.failure["code"], job.runs) == ("failed", "provider_unavailable", 4)
    assert count(desk) == 10
    job = erp.pulled()
    assert (job.state, job.result["items"], count(desk)) == ("succeeded", 15, 25)
    assert calls(sandbox, ROUTE, "200") == 3


def test_a_job_that_is_cancelled_stops_between_pages(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.erp_put("acme", "samples", BOXES)
    sandbox.erp_page_size(10)
    job_id = erp.pull()
    desk.service.run(job_id)
    desk.service.cancel(job_id)
    assert erp.finish(job_id).state == "cancelled"
    assert (erp.pulled().result["items"], count(desk)) == (15, 25)


def test_a_connection_that_goes_meanwhile_ends_it(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.erp_put("acme", "samples", BOXES)
    sandbox.erp_page_size(10)
    job_id = erp.pull()
    desk.service.run(job_id)
    assert desk.client.delete(erp.path).status_code == 204
    job = erp.finish(job_id)
    assert (job.state, job.result, count(desk)) == ("succeeded", {"skipped": "connection_gone"}, 10)


def test_what_was_asked_under_another_address_or_token_is_not_applied(
    desk: Desk, sandbox: Sandbox, erp: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPORTS_ERP_TOTAL_SECONDS", "30")
    settings.cache_clear()
    sandbox.erp_put("acme", "samples", BOXES[:2])
    sandbox.erp_put("other", "samples", BOXES[2:5])
    sandbox.faults.add("latency", path=PATH, times=1, seconds=60)
    job_id = erp.pull()
    run = threading.Thread(target=lambda: desk.service.outside(lambda: desk.service.run(job_id)))
    run.start()
    sandbox.wait(lambda: sandbox.state()["hanging"])
    assert desk.client.patch(erp.path, {"token": sandbox.erp_token("other")}).status_code == 200
    sandbox.release()
    run.join(30)
    job = desk.service.job(job_id)
    assert (job.state, job.waiting_for, count(desk)) == ("scheduled", "erp_changed", 0)
    assert erp.finish(job_id).result["created"] == 3


def test_the_pull_of_a_killed_worker_is_continued_by_the_next(
    service_app: Callable[..., ServiceUnderTest], sandbox: Sandbox, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPORTS_ERP_TOTAL_SECONDS", "120")
    settings.cache_clear()
    app = service_app(service, transport="rabbitmq")
    web, signer = app.app.web(), app.app.secrets.signer
    assert signer is not None
    erp = Asked(Desk(app, web, signer), sandbox)
    sandbox.erp_put("acme", "samples", BOXES)
    sandbox.erp_page_size(10)
    sandbox.faults.add("hang", path=PATH, after=1, times=1, seconds=600)
    job_id = erp.pull()
    with app.worker_process() as first:
        app.wait_until(lambda: sandbox.state()["hanging"], 60, "the second page to be asked for")
        assert app.query("SELECT count(*) FROM samples") == [(10,)]
        first.kill()
    with app.worker_process():
        job = app.wait_for(job_id, deadline=60)
    assert (job.state, job.result["items"]) == ("succeeded", 25)
    assert app.query("SELECT count(*), max(version) FROM samples") == [(25, 1)]
    assert calls(sandbox, ROUTE, "200") == 3, "no page was asked for twice but the one that hung"
    web.extensions["backroom"].close()
    settings.cache_clear()


# -- a token that is not accepted ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_after_a_refused_token_the_connection_needs_attention(
    desk: Desk, sandbox: Sandbox, erp: Asked, status: int
) -> None:
    sandbox.erp_put("acme", "samples", BOXES[:3])
    sandbox.faults.add("status", path="/erp", status=status)
    stock = erp.pull("stock")
    job = erp.pulled()
    assert (job.state, job.failure["code"], job.runs) == ("failed", "provider_not_authorized", 1)
    assert erp.state() == "needs_attention"
    assert erp.log()[0]["response"].startswith("The ERP does not accept our access.")
    asked = calls(sandbox)
    # Nobody asks: not what was queued before, no person, no schedule.
    assert erp.finish(stock).failure["code"] == "provider_not_authorized"
    answer = desk.client.post(f"{erp.path}/pull", {"entity": "samples"})
    assert (answer.status_code, answer.json["type"].endswith("erp-needs-attention")) == (409, True)
    assert desk.service.run_job(pull_all_erps, tenant_id=SYSTEM).result == {"pulls": 0}
    assert calls(sandbox) == asked
    # Another name is no new token.
    sandbox.faults.clear()
    assert desk.client.patch(erp.path, {"name": "Renamed", "keep_days": 3}).json["state"] == "needs_attention"
    changed = desk.client.patch(erp.path, {"token": sandbox.erp_token("acme")})
    assert (changed.status_code, changed.json["state"], changed.json["name"]) == (200, "active", "Renamed")
    assert erp.pulled().result["created"] == 3


def test_a_wrong_token_is_told_by_the_erp_itself(desk: Desk, sandbox: Sandbox, impatient: None) -> None:
    erp = Asked(desk, sandbox, token=TOKEN)
    assert erp.pulled().failure["code"] == "provider_not_authorized"
    assert (calls(sandbox, ROUTE, "401"), erp.state()) == (1, "needs_attention")
    assert "Nobody here knows" in erp.log()[0]["response"]


# -- changing a connection -------------------------------------------------------------------------------------


def test_a_new_address_needs_its_token_and_begins_anew(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    erp.pulled()
    assert erp.cursor()
    elsewhere = f"{sandbox.url}/elsewhere"
    answer = desk.client.patch(erp.path, {"base_url": elsewhere})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "/token")
    assert desk.client.patch(erp.path, {"base_url": f"{sandbox.url}/erp/"}).status_code == 200, "it is the same one"
    assert erp.cursor()
    answer = desk.client.patch(erp.path, {"base_url": elsewhere, "token": TOKEN})
    assert (answer.status_code, answer.json["base_url"], answer.json["pulled_at"]) == (200, elsewhere, {})
    for forbidden in ("http://erp.example.com", "https://erp.example.com:22", "https://erp.example.com?a"):
        assert desk.client.patch(erp.path, {"base_url": forbidden, "token": TOKEN}).status_code == 400


def test_a_change_is_checked_and_can_be_conditional(desk: Desk, erp: Asked) -> None:
    tag = desk.client.get(erp.path).headers["ETag"]
    for name in ("name", "base_url", "token"):
        assert desk.client.patch(erp.path, {name: None}).status_code == 400
    assert desk.client.patch(erp.path, {"keep_days": 0}).status_code in (400, 422)
    changed = desk.client.patch(erp.path, {"keep_days": 7}, headers={"If-Match": tag})
    assert (changed.status_code, changed.json["keep_days"]) == (200, 7)
    assert desk.client.patch(erp.path, {"keep_days": 8}, headers={"If-Match": tag}).status_code == 412
    assert desk.client.patch(erp.path, {"keep_days": None}).json["keep_days"] is None
    assert TOKEN not in changed.text


# -- what may pass, and what does not --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "params"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 503}),
        ("status", {"status": 408}),
        ("hang", {"seconds": 30}),
        ("trickle", {"interval": 0.2}),
        ("reset_before", {}),
        ("truncated_body", {}),
    ],
)
def test_what_may_pass_is_tried_again(
    desk: Desk, sandbox: Sandbox, erp: Asked, fault: str, params: dict[str, Any]
) -> None:
    sandbox.erp_put("acme", "samples", BOXES)
    sandbox.faults.add(fault, path=PATH, times=1, **params)
    job_id = erp.pull()
    job = desk.service.run(job_id)
    assert (job.state, job.waiting_for, job.failures) == ("scheduled", "retry", 1)
    assert 5 < (job.run_at - datetime.now(UTC)).total_seconds() <= 10
    assert (count(desk), erp.cursor()) == (0, {})
    line = erp.log()[0]
    assert (line["outcome"], line["direction"]) == ("failed", "out")
    assert line["response"].startswith("The ERP did not answer as it should.")
    assert (erp.finish(job_id).state, count(desk), erp.state()) == ("succeeded", 25, "active")


def test_an_erp_that_asks_for_more_time_gets_it(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.faults.add("rate_limited", path=PATH, times=1, retry_after=120)
    job_id = erp.pull()
    job = desk.service.run(job_id)
    assert (job.state, job.waiting_for, job.failures) == ("scheduled", "provider_rate_limited", 0)
    assert 100 < (job.run_at - datetime.now(UTC)).total_seconds() <= 120
    assert erp.log()[0]["response"].startswith("The ERP wants us to come back a little later.")
    assert erp.finish(job_id).state == "succeeded"


@pytest.mark.parametrize(
    "body",
    [
        {"things": []},
        [],
        {"items": {}, "next": None},
        {"items": []},
        {"items": [], "next": 5},
        {"items": [], "next": ""},
        {"items": [], "next": "a b"},
        {"items": [], "next": "\u0000"},
        {"items": [], "next": "x" * 1001},
        {"items": [{"title": "A"}] * 501, "next": None},
    ],
    ids=lambda body: json.dumps(body)[:30],
)
def test_an_answer_that_is_not_as_agreed_fails_at_once(desk: Desk, sandbox: Sandbox, erp: Asked, body: Any) -> None:
    sandbox.faults.add("status", path=PATH, status=200, body=body)
    job = erp.pulled()
    assert (job.state, job.failure["code"], job.runs) == ("failed", "erp_answer_malformed", 1)
    (line,) = erp.log()
    assert (line["outcome"], line["external_id"]) == ("failed", None)
    assert line["response"].startswith("The answer of the ERP is not as it was agreed.")
    assert json.dumps(body)[:20] in line["response"]
    assert (count(desk), erp.state()) == (0, "active")


def test_garbage_fails_at_once(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.faults.add("garbage_json", path=PATH, times=1)
    job = erp.pulled()
    assert (job.state, job.failure["code"]) == ("failed", "erp_answer_malformed")
    assert "<html>oops" in erp.log()[0]["response"]
    (alert,) = desk.service.published("backroom.imports.job.failed.v1")
    assert alert.data["what"] == "The answer of the ERP is not as it was agreed."
    assert erp.pulled().state == "succeeded"


@pytest.mark.parametrize(
    ("status", "code"), [(302, "erp_redirects"), (307, "erp_redirects"), (404, "provider_refused")]
)
def test_what_no_retry_mends_fails_at_once(desk: Desk, sandbox: Sandbox, erp: Asked, status: int, code: str) -> None:
    sandbox.faults.add("status", path=PATH, status=status, body={"error": "elsewhere"})
    job = erp.pulled()
    assert (job.state, job.failure["code"], job.runs, len(erp.log())) == ("failed", code, 1, 1)


def test_a_page_of_too_many_bytes(desk: Desk, sandbox: Sandbox, erp: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPORTS_ERP_MAX_BYTES", "500")
    settings.cache_clear()
    sandbox.erp_put("acme", "samples", BOXES)
    assert erp.pulled().failure["code"] == "answer_too_large"
    assert count(desk) == 0


def test_a_cursor_that_is_too_old_makes_the_next_pass_begin_anew(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.erp_put("acme", "samples", BOXES)
    sandbox.erp_page_size(10)
    sandbox.faults.add("status", path=PATH, after=1, times=1, status=410, body={"error": "gone"})
    assert erp.pulled().failure["code"] == "provider_refused"
    assert "410: gone" in erp.log()[0]["response"]
    job = erp.pulled()
    assert (job.state, job.result["items"], count(desk)) == ("succeeded", 25, 25)


def test_an_erp_that_leads_in_a_circle(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.erp_put("acme", "samples", BOXES)
    sandbox.erp_page_size(10)
    sandbox.faults.add("same_cursor", path=PATH, after=1)
    job = erp.pulled()
    assert (job.state, job.failure["code"]) == ("failed", "erp_pages_repeat")
    assert (calls(sandbox, ROUTE), count(desk)) == (2, 20)
    assert erp.log()[0]["response"].startswith("The ERP leads us in a circle")
    sandbox.faults.clear()
    assert (erp.pulled().result["items"], count(desk)) == (25, 25)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("before", [0, 1, 5, 30])
def test_a_circle_of_any_length_is_found(length: int, before: int) -> None:
    walk = Pass(datetime.now(UTC), None)
    for page in range(1000):
        number = page if page < before else before + (page - before) % length
        if walk.repeats(str(number)):
            break
        walk = walk.after(str(number))
    assert length <= page <= 4 * (before + length)


def test_pages_without_a_circle_are_none() -> None:
    walk = Pass(datetime.now(UTC), None)
    for page in range(1000):
        assert not walk.repeats(str(page))
        walk = walk.after(str(page))
    assert walk.pages == 1000


def test_an_erp_that_comes_to_no_end(desk: Desk, sandbox: Sandbox, erp: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPORTS_ERP_MAX_PAGES", "3")
    settings.cache_clear()
    sandbox.erp_put("acme", "samples", BOXES)
    sandbox.erp_page_size(2)
    job = erp.pulled()
    assert (job.state, job.failure) == ("failed", {"code": "erp_too_many_pages", "fields": {"limit": 3}})
    assert (calls(sandbox, ROUTE), count(desk)) == (3, 6)
    assert erp.log()[0]["response"] == "The ERP had not come to an end after 3 pages."
    sandbox.erp_page_size(9)
    assert (erp.pulled().state, count(desk)) == ("succeeded", 25)


def test_one_tenants_erp_that_is_down_is_not_asked_on_and_on(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    sandbox.faults.add("status", path=PATH, account="acme", status=503)
    for _ in range(2):
        assert erp.pulled().state == "failed"
    job_id = erp.pull()
    for _ in range(4):
        desk.service.run(job_id)
    job = desk.service.job(job_id)
    assert (job.state, job.waiting_for, job.deferrals) == ("scheduled", "provider_circuit_open", 2)
    assert calls(sandbox, ROUTE) == 10
    assert len(erp.log()) == 10, "what was not asked is no line"
    foreign = desk.client.of("globex").post(
        "/v1/erp/connections",
        {"name": "Theirs", "base_url": f"{sandbox.url}/erp", "token": sandbox.erp_token("globex")},
    )
    theirs = desk.service.run_job(
        pull_erp, tenant_id="globex", connection_id=foreign.json["connection"]["id"], entity="samples", name="x"
    )
    assert theirs.state == "succeeded"


# -- addresses -------------------------------------------------------------------------------------------------


def names_lead_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all names be of this address; addresses stay what they are."""
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if str(host).replace(".", "").isdecimal() or ":" in str(host):
            return real(host, port, *rest, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_no_spelling_of_a_forbidden_address_is_asked(
    desk: Desk, dialed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written into the row behind the back of the checks, as a name that leads elsewhere by now would be."""
    names_lead_to("127.0.0.1", monkeypatch)
    canary = Server()
    erp = Erp(desk)
    hosts = list(dict.fromkeys(SPELLINGS))
    urls = [f"https://{host}/api" for host in hosts] + [f"https://{host}:{canary.port}" for host in hosts[:20]]
    urls += [*OTHER_URLS, "http://erp.example.com", "https://erp.example.com:22"]
    for url in urls:
        desk.service.execute("UPDATE erp_connections SET base_url = :url", url=url.replace("\x00", " "))
        job = desk.service.run_job(pull_erp, connection_id=erp.id, entity="samples", name="x")
        assert (job.state, job.failure and job.failure["code"]) == ("failed", "url_not_allowed"), url
    assert dialed == []
    line = erp.log()[0]
    assert line["response"] == "The address of the ERP does not lead to a server on the internet."
    canary.close()
    assert canary.connections == 0


def test_what_a_name_leads_to_is_not_told(desk: Desk, dialed: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    names_lead_to("10.1.2.3", monkeypatch)
    erp = Erp(desk)
    job = desk.service.run_job(pull_erp, connection_id=erp.id, entity="samples", name="x")
    assert job.failure["code"] == "url_not_allowed"
    assert "10.1.2.3" not in json.dumps(erp.log())
    assert dialed == []


# -- secrets ---------------------------------------------------------------------------------------------------


def test_no_secret_is_written_down(desk: Desk, sandbox: Sandbox, erp: Asked) -> None:
    """However the ERP repeats it: in items, in errors, in cursors, in what is no answer at all."""
    secret = sandbox.erp_token("acme")
    forms = [secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode(), secret.encode().hex()]
    sandbox.erp_put("acme", "samples", [{"title": f"Box {number}", "sku": form, "unit_cost": form, "note": form}
                                        for number, form in enumerate(forms)])  # fmt: skip
    erp.pulled()
    said: list[tuple[int, Any]] = [(200, {"items": [secret], "next": secret})]
    said += [
        (status, {"error": f"{form} is wrong {'x' * filler}"})
        for status, fillers in ((400, (0, 490, 1990, 2030)), (500, (0, 2030)), (302, (0,)))
        for form in forms
        for filler in fillers
    ]
    said += [(200, {"items": form}) for form in forms] + [(200, {"items": [], "next": f"{secret} x"})]
    for status, body in said:
        sandbox.faults.clear()
        sandbox.faults.load([{"kind": "status", "match": {"path": PATH}, "params": {"status": status, "body": body}}])
        desk.service.run(erp.pull())
        desk.service.execute("DELETE FROM jobs WHERE state = 'scheduled'")
    sandbox.faults.clear()
    sandbox.faults.add("status", path="/erp", status=401, body={"error": f"unknown token {secret}"})
    erp.pulled("stock")
    text = json.dumps(desk.read(f"{erp.path}/log?limit=200"))
    for table in ("erp_sync_log", "jobs", "job_attempts", "circuits", "outbox"):
        text += "".join(map(str, desk.service.query(f"SELECT {table}::text FROM {table}")))
    for form in forms:
        assert form not in text
    assert "[redacted]" in text
