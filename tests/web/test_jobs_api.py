"""The jobs of a service as clients see them: lists, states, waiting, retry, cancel."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import pytest
from sqlalchemy import text

from shared.db import Database
from shared.web.testing import Client

from .jobs import Jobs


def view(client: Client, job_id: str) -> dict[str, Any]:
    answer = client.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 200, answer.data
    assert isinstance(answer.json, dict)
    return answer.json


def test_accepted(client: Client) -> None:
    thing = client.post("/v1/things", {"name": "Cup"}).headers["Location"]
    answer = client.post(f"{thing}/polish")
    assert answer.status_code == 202
    assert answer.json is not None
    assert answer.headers["Location"] == answer.json["links"]["self"] == f"/v1/jobs/{answer.json['id']}"
    assert answer.headers["Retry-After"] == "2"
    assert (answer.json["subject"], answer.json["state"], answer.json["done"]) == ("Polish Cup", "scheduled", False)
    assert answer.json["principal"] == "user:ada"
    assert view(client, answer.json["id"]) == answer.json
    again = client.post(f"{thing}/polish")
    assert again.json == answer.json, "the second click answers with the first click's job"


def test_states(client: Client, jobs: Jobs) -> None:
    failure = {"code": "scratched", "fields": {"name": "The cup"}}
    waiting = view(client, jobs.add(failure=failure, waiting_for="retry", runs=1))
    assert waiting["error"] is None
    assert waiting["last_failure"]["what"] == "The cup got a scratch."
    assert waiting["next_run_at"].endswith("Z")
    assert set(waiting["links"]) == {"self", "events", "attempts", "children", "why", "cancel"}

    running = view(client, jobs.add(state="running", progress={"done": 2, "total": 5, "unit": "rows", "message": ""}))
    assert running["progress"] == {"done": 2, "total": 5, "unit": "rows", "message": ""}
    assert running["next_run_at"] is None

    done = view(client, jobs.add(state="succeeded", result={"shine": 9}, failure=None))
    assert (done["result"], done["error"], done["done"]) == ({"shine": 9}, None, True)

    failed = view(client, jobs.add(state="failed", failure=failure, result={"half": 1}))
    assert failed["result"] is None
    assert failed["error"] == {
        "code": "scratched",
        "what": "The cup got a scratch.",
        "meaning": "It is not shiny.",
        "doing": "Nothing more.",
        "action": "Polish it again.",
    }
    assert "retry" in failed["links"]
    for each in (waiting, running, done, failed):
        assert "arguments" not in each
        assert "checkpoint" not in each


def test_list_and_filters(client: Client, jobs: Jobs) -> None:
    parent = jobs.add(actor="bulk", subject="Polish 100% of_all")
    child = jobs.add(parent_id=parent, state="failed", failure={"code": "unexpected"})
    other = jobs.add(queue="other", state="queued")
    jobs.add(tenant_id="globex")

    def listed(query: str) -> list[str]:
        answer = client.get(f"/v1/jobs?{query}").json
        assert answer is not None
        return [item["id"] for item in answer["items"]]

    assert listed("") == [other, child, parent]
    assert listed("state=failed") == [child]
    assert listed("actor=bulk") == [parent]
    assert listed("queue=other") == [other]
    assert listed(f"parent={parent}") == [child]
    assert listed("subject=100%25%20of_") == [parent]
    assert listed("subject=%25cup") == []
    assert listed("subject=CUP") == [other, child]
    assert client.get("/v1/jobs?state=lost").status_code == 400
    children = client.get(f"/v1/jobs/{parent}/children").json
    assert children is not None
    assert [item["id"] for item in children["items"]] == [child]


def test_neighbors_and_sales(client: Client, jobs: Jobs) -> None:
    mine, theirs = jobs.add(principal="user:sam"), jobs.add(principal="user:ada")
    sam = client.role("sales", "user:sam")
    listed = sam.get("/v1/jobs").json
    assert listed is not None
    assert [item["id"] for item in listed["items"]] == [mine]
    for suffix in ("", "/attempts", "/children", "/why", "/events"):
        assert sam.get(f"/v1/jobs/{theirs}{suffix}").status_code == 404
        assert client.of("globex").get(f"/v1/jobs/{theirs}{suffix}").status_code == 404
    assert sam.post(f"/v1/jobs/{theirs}/cancel").status_code == 404
    assert sam.post(f"/v1/jobs/{mine}/cancel").status_code == 200


def test_attempts(client: Client, jobs: Jobs, database: Database) -> None:
    job_id = jobs.add(runs=2)
    with database.system.begin() as connection:
        for number in (1, 2):
            connection.execute(
                text(
                    "INSERT INTO job_attempts (job_id, number, dispatch, tenant_id, started_at, ended_at, outcome,"
                    " code, public, detail) VALUES (:id, :number, 1, 'acme', now(), now(), 'retry',"
                    " 'scratched', 'A scratch.', 'Traceback: secret')"
                ),
                {"id": job_id, "number": number},
            )
    answer = client.get(f"/v1/jobs/{job_id}/attempts")
    assert answer.json is not None
    assert [item["number"] for item in answer.json["items"]] == [2, 1]
    assert answer.json["items"][0]["public"] == "A scratch."
    assert "secret" not in answer.text


def test_why(client: Client, jobs: Jobs) -> None:
    answer = client.get(f"/v1/jobs/{jobs.add()}/why")
    assert answer.json is not None
    assert answer.json["reason"] == "no_worker"
    finished = client.get(f"/v1/jobs/{jobs.add(state='succeeded')}/why").json
    assert finished is not None
    assert finished["reason"] == "finished"


def test_retry_and_cancel(client: Client, jobs: Jobs) -> None:
    job_id = jobs.add(state="failed", failure={"code": "scratched"})
    refused = client.post(f"/v1/jobs/{job_id}/cancel")
    assert refused.status_code == 409
    assert refused.json is not None
    assert refused.json["type"] == "/problems/job-state-forbids"
    stale = client.get(f"/v1/jobs/{job_id}").headers["ETag"]
    retried = client.post(f"/v1/jobs/{job_id}/retry", headers={"If-Match": stale})
    assert retried.status_code == 200
    assert retried.json is not None
    assert (retried.json["id"], retried.json["state"]) == (job_id, "scheduled")
    assert client.post(f"/v1/jobs/{job_id}/retry").status_code == 409
    assert client.post(f"/v1/jobs/{job_id}/cancel", headers={"If-Match": stale}).status_code == 412
    cancelled = client.post(f"/v1/jobs/{job_id}/cancel").json
    assert cancelled is not None
    assert (cancelled["state"], cancelled["done"]) == ("cancelled", True)
    assert client.post(f"/v1/jobs/{uuid.uuid4()}/cancel").status_code == 404


def test_polling_is_cheap(client: Client, jobs: Jobs) -> None:
    job_id = jobs.add()
    tag = client.get(f"/v1/jobs/{job_id}").headers["ETag"]
    assert client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": tag}).status_code == 304
    jobs.change(job_id, state="running")
    assert client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": tag}).status_code == 200


def test_waiting_until_done(client: Client, jobs: Jobs) -> None:
    job_id = jobs.add()

    def work() -> None:
        time.sleep(0.3)
        jobs.change(job_id, state="running")
        time.sleep(0.3)
        jobs.change(job_id, state="succeeded", result={"shine": 9})

    worker = threading.Thread(target=work)
    worker.start()
    started = time.monotonic()
    answer = client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "respond-async, wait=10"})
    worker.join()
    assert 0.5 < time.monotonic() - started < 3
    assert answer.json is not None
    assert (answer.json["state"], answer.json["result"]) == ("succeeded", {"shine": 9})
    assert answer.headers["Preference-Applied"] == "wait=10"


def test_waiting_for_a_change(client: Client, jobs: Jobs) -> None:
    job_id = jobs.add()
    tag = client.get(f"/v1/jobs/{job_id}").headers["ETag"]
    timer = threading.Timer(0.3, lambda: jobs.change(job_id, state="running"))
    timer.start()
    answer = client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=10", "If-None-Match": tag})
    timer.join()
    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["state"] == "running"


def test_waiting_in_vain(client: Client, jobs: Jobs) -> None:
    started = time.monotonic()
    answer = client.get(f"/v1/jobs/{jobs.add()}", headers={"Prefer": "wait=1"})
    assert 0.9 < time.monotonic() - started < 2
    assert answer.json is not None
    assert answer.json["state"] == "scheduled"


def test_only_so_many_may_wait(client: Client, jobs: Jobs) -> None:
    job_id = jobs.add()
    waiting = [
        threading.Thread(target=client.get, args=(f"/v1/jobs/{job_id}",), kwargs={"headers": {"Prefer": "wait=2"}})
        for _ in range(2)
    ]
    for each in waiting:
        each.start()
    time.sleep(0.3)
    started = time.monotonic()
    answer = client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=10"})
    assert time.monotonic() - started < 1
    assert "Preference-Applied" not in answer.headers
    jobs.change(job_id, state="cancelled")
    for each in waiting:
        each.join()


@pytest.mark.parametrize("preference", ["wait", "wait=", "wait=-1", "wait=x", "await=5", "wait=0", "wait=1.5"])
def test_odd_preferences_are_ignored(client: Client, jobs: Jobs, preference: str) -> None:
    started = time.monotonic()
    assert client.get(f"/v1/jobs/{jobs.add()}", headers={"Prefer": preference}).status_code == 200
    assert time.monotonic() - started < 0.5
