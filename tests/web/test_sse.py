"""Event streams over real HTTP: in order, resumable, bounded, told at once, and by the re-read if a hint is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import requests

from shared.db import Database
from shared.web import Signer, sse
from shared.web.serve import Server

from .jobs import Jobs


class Listener:
    """A client of a stream, as a browser would be."""

    def __init__(
        self,
        server: Server,
        signer: Signer,
        path: str,
        *,
        last: int | None = None,
        role: str = "owner",
        principal: str = "user:ada",
    ):
        headers = {"Authorization": f"Bearer {signer.issue('acme', principal, role)}"}
        if last is not None:
            headers["Last-Event-ID"] = str(last)
        self.answer = requests.get(server.url + path, headers=headers, stream=True, timeout=20)
        self._lines = (line.decode() for line in self.answer.iter_lines(chunk_size=1))

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()

    def blocks(self) -> Iterator[dict[str, str]]:
        block: dict[str, str] = {}
        for line in self._lines:
            if not line:
                yield block
                block = {}
            else:
                name, _, value = line.partition(": ")
                block[name or "comment"] = value
                if line.startswith(":"):
                    block["comment"] = line[1:].strip()

    def events(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        for block in self.blocks():
            if "event" in block:
                yield block["event"], int(block["id"]), json.loads(block["data"])


def test_a_job_from_start_to_end(server: Server, signer: Signer, jobs: Jobs) -> None:
    job_id = jobs.add()
    with Listener(server, signer, f"/v1/jobs/{job_id}/events") as listener:
        assert listener.answer.headers["Content-Type"].startswith("text/event-stream")
        assert listener.answer.headers["X-Accel-Buffering"] == "no"
        assert listener.answer.headers["Cache-Control"] == "no-store"
        assert next(listener.blocks()) == {"retry": "3000"}
        events = listener.events()
        kind, first, job = next(events)
        assert (kind, job["state"]) == ("state", "scheduled")
        started = time.monotonic()
        jobs.change(job_id, state="running")
        kind, second, job = next(events)
        assert time.monotonic() - started < 1, "told by NOTIFY, not by the re-read"
        assert (kind, job["state"]) == ("state", "running")
        jobs.change(job_id, progress={"done": 1, "total": 2})
        kind, third, job = next(events)
        assert (kind, job["progress"]["done"]) == ("progress", 1)
        jobs.change(job_id, state="succeeded", result={"shine": 9})
        kind, fourth, job = next(events)
        assert (kind, job["result"]) == ("end", {"shine": 9})
        assert first < second < third < fourth
        assert list(events) == []


def test_lost_hints_cost_a_moment(server: Server, signer: Signer, jobs: Jobs) -> None:
    job_id = jobs.add()
    with Listener(server, signer, f"/v1/jobs/{job_id}/events") as listener:
        events = listener.events()
        next(events)
        started = time.monotonic()
        jobs.change(job_id, tell=False, state="succeeded")
        assert next(events)[0] == "end"
        assert time.monotonic() - started < sse.REREAD + 1


def test_resuming(server: Server, signer: Signer, jobs: Jobs) -> None:
    job_id = jobs.add()
    with Listener(server, signer, f"/v1/jobs/{job_id}/events") as listener:
        _, last, _ = next(listener.events())
    with Listener(server, signer, f"/v1/jobs/{job_id}/events", last=last) as listener:
        events = listener.events()
        jobs.change(job_id, state="running")
        kind, newer, job = next(events)
        assert job["state"] == "running", "what the client has is not sent again"
        assert newer > last
    jobs.change(job_id, state="failed", failure={"code": "scratched", "fields": {"name": "Cup"}})
    with Listener(server, signer, f"/v1/jobs/{job_id}/events", last=newer) as listener:
        kind, _, job = next(listener.events())
        assert (kind, job["error"]["what"]) == ("end", "Cup got a scratch.")


def test_a_whole_tenant(server: Server, signer: Signer, jobs: Jobs) -> None:
    old = jobs.add()
    with Listener(server, signer, "/v1/events") as listener:
        events = listener.events()
        time.sleep(0.2)
        jobs.change(jobs.add(tenant_id="globex"), state="running")
        jobs.change(jobs.add(principal="user:bob"), state="running")
        assert next(events)[2]["principal"] == "user:bob"
        jobs.change(old, state="succeeded")
        kind, last, job = next(events)
        assert (kind, job["id"]) == ("end", old)
    missed = jobs.add(state="running")
    with Listener(server, signer, "/v1/events", last=last) as listener:
        assert next(listener.events())[2]["id"] == missed


def test_sales_hear_of_their_own(server: Server, signer: Signer, jobs: Jobs) -> None:
    with Listener(server, signer, "/v1/events", role="sales") as listener:
        time.sleep(0.2)
        jobs.change(jobs.add(principal="user:bob"), state="running")
        mine = jobs.add(principal="user:ada")
        jobs.change(mine, state="running")
        assert next(listener.events())[2]["id"] == mine


def test_only_so_many_streams(server: Server, signer: Signer, jobs: Jobs) -> None:
    path = f"/v1/jobs/{jobs.add()}/events"
    open_ones = [Listener(server, signer, path) for _ in range(4)]
    refused = Listener(server, signer, path)
    assert refused.answer.status_code == 503
    assert refused.answer.headers["Retry-After"] == "5"
    assert refused.answer.json()["type"] == "/problems/unavailable"
    for each in open_ones:
        each.answer.close()


def test_silence_is_filled_and_life_is_bounded(
    server: Server, signer: Signer, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT", 0.1)
    monkeypatch.setattr(sse, "MAX_LIFE", 0.6)
    started = time.monotonic()
    with Listener(server, signer, f"/v1/jobs/{jobs.add()}/events") as listener:
        comments = [block for block in listener.blocks() if "comment" in block]
    assert len(comments) >= 3
    assert time.monotonic() - started < 2


def test_the_database_comes_back(server: Server, signer: Signer, jobs: Jobs, database: Database) -> None:
    job_id = jobs.add()
    with Listener(server, signer, f"/v1/jobs/{job_id}/events") as listener:
        events = listener.events()
        next(events)
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'backroom changes'"
            )
        jobs.change(job_id, state="succeeded")
        assert next(events)[0] == "end"


def test_stopping_ends_streams(server: Server, signer: Signer, jobs: Jobs) -> None:
    with Listener(server, signer, f"/v1/jobs/{jobs.add()}/events") as listener:
        events = listener.events()
        next(events)
        started = time.monotonic()
        server.stop()
        assert list(events) == []
        assert time.monotonic() - started < 3


def test_places_of_those_who_left_are_free_again(server: Server, signer: Signer, jobs: Jobs) -> None:
    path = f"/v1/jobs/{jobs.add()}/events"
    for _ in range(4):
        Listener(server, signer, path).answer.close()
    time.sleep(2.5)
    with Listener(server, signer, path) as listener:
        assert listener.answer.status_code == 200
