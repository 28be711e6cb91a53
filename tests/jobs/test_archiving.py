"""Archiving a workspace: its work ends, its data becomes files, and only then its credentials go."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import Row
from sqlalchemy.orm import Session

from shared import blobs
from shared.context import SYSTEM
from shared.db.migrate import enable_tenancy, upgrade
from shared.jobs import library, parts
from shared.jobs.library import archive_workspace, export_workspace, exporting
from shared.testing.events import deliver
from shared.testing.servers import PostgresServer
from shared.testing.service import ServiceUnderTest
from shared.web.testing import Client
from tests.jobs.test_standing import changed
from tests.sample import jobs

_SECRETS = """
CREATE TABLE accounts (id int PRIMARY KEY, tenant_id text NOT NULL, name text, token_sealed text, key_hash bytea);
INSERT INTO accounts VALUES (1, 'acme', E'Ada "A" \\\\ Ä\\n2', 'v1.secret', 'x'), (2, 'globex', 'Bob', 'v1.other', 'y');
"""


@pytest.fixture
def closed(fresh_sample: ServiceUnderTest) -> Iterator[ServiceUnderTest]:
    """A service with a table of accounts, whose workspace acme was archived; its credentials can be destroyed."""
    with psycopg.connect(fresh_sample.database_url, autocommit=True) as owner:
        owner.execute((_SECRETS + enable_tenancy("accounts")).encode())
    before = parts._by_service["sample"]

    def destroy(session: Session) -> int:
        return int(session.connection().exec_driver_sql("DELETE FROM accounts").rowcount)

    parts.register("sample", replace(before, destroy_credentials=destroy))
    yield fresh_sample
    parts.register("sample", before)


def archive(sample: ServiceUnderTest) -> Row[Any]:
    """Have the service told, and return the job which that led to."""
    deliver(sample, changed("archived", "suspended"), sequence=9)
    sample.run(sample.jobs(actor="follow_workspace", state="scheduled")[-1].id)
    (job,) = sample.jobs(actor="archive_workspace", state="scheduled")
    return job


def read(key: str) -> bytes:
    return b"".join(blobs.store().get(key))


def lines(key: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(read(key)).splitlines()]


def test_data_becomes_files_and_credentials_go(closed: ServiceUnderTest) -> None:
    closed.run_job(jobs.write, key="mine")
    closed.run_job(jobs.write, key="theirs", tenant_id="globex")

    done = closed.run(archive(closed).id)

    assert (done.state, done.result) == ("succeeded", {"cancelled": 0, "tables": 2, "credentials": 1})
    manifest = json.loads(read("archives/acme/sample/manifest.json"))
    assert [(table["table"], table["rows"], table["left_out"]) for table in manifest["tables"]] == [
        ("accounts", 1, ["key_hash", "token_sealed"]),
        ("done", 1, []),
    ]
    for table in manifest["tables"]:
        content = read(table["key"])
        assert (len(content), hashlib.sha256(content).hexdigest()) == (table["bytes"], table["sha256"])
    assert lines("archives/acme/sample/accounts.jsonl.gz") == [
        {"id": 1, "tenant_id": "acme", "name": 'Ada "A" \\ Ä\n2'}
    ]
    assert [row["key"] for row in lines("archives/acme/sample/done.jsonl.gz")] == ["mine"]
    assert closed.query("SELECT tenant_id FROM accounts") == [("globex",)]
    assert closed.query("SELECT FROM standings WHERE archived_at IS NOT NULL")


def test_its_work_ends_first(closed: ServiceUnderTest) -> None:
    """What waits is cancelled as a person would cancel it; what runs is waited for; handlers stay."""
    waits = closed.send(jobs.call_fails, key="waits")
    handler = deliver(closed, changed("archived"), sequence=1)
    runs = closed.send(jobs.lease, key="runs")
    closed.execute("UPDATE jobs SET state = 'running', worker_id = 7 WHERE id = :id", id=runs)
    other = closed.send(jobs.call_fails, key="other", tenant_id="globex")
    job = archive(closed)

    assert closed.run(job.id).waiting_for == "waiting_for_jobs"

    assert closed.job(waits).state == "cancelled"
    assert closed.query("SELECT key FROM done WHERE key = 'failed:waits:cancelled'"), "its hook put the domain right"
    assert closed.job(runs).cancel_requested_at is not None
    assert closed.query("SELECT FROM accounts WHERE tenant_id = 'acme'"), "what runs may need them"
    assert closed.job(other).state == "scheduled"
    assert closed.query("SELECT state FROM jobs WHERE once_key LIKE '%' || :id", id=handler)[0].state == "scheduled"

    closed.execute("UPDATE jobs SET state = 'cancelled', finished_at = now() WHERE id = :id", id=runs)
    assert closed.run(job.id).state == "succeeded"
    assert not closed.query("SELECT FROM accounts WHERE tenant_id = 'acme'")


class Away:
    """A store that takes so many files and then is away."""

    def __init__(self, store: blobs.BlobStore, takes: int) -> None:
        self.store, self.takes = store, takes
        self.keys: list[str] = []

    def put(self, key: str, content: Any) -> int:
        if self.takes == 0:
            raise OSError("the store is away")
        self.takes -= 1
        self.keys.append(key)
        return self.store.put(key, content)


@pytest.mark.parametrize("takes", [0, 1, 2])
def test_nothing_is_destroyed_before_all_is_exported(
    closed: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch, takes: int
) -> None:
    """Wherever the store goes away, the manifest included, the next run goes on there; credentials go last."""
    store = blobs.store()
    away = Away(store, takes)
    monkeypatch.setattr(exporting.blobs, "store", lambda: away)
    job = archive(closed)
    assert closed.run(job.id).state == "scheduled"
    assert closed.query("SELECT FROM accounts WHERE tenant_id = 'acme'")

    away.takes = 99
    assert closed.run(job.id).state == "succeeded"

    assert [key.rpartition("/")[2] for key in away.keys] == ["accounts.jsonl.gz", "done.jsonl.gz", "manifest.json"]
    assert not closed.query("SELECT FROM accounts WHERE tenant_id = 'acme'")


def test_a_workspace_that_is_restored_meanwhile_keeps_everything(
    closed: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restored between the export and the end: the last look is in the transaction that destroys."""
    job = archive(closed)
    export = exporting.export_tables

    def restored(prefix: str) -> dict[str, Any]:
        manifest = export(prefix)
        closed.execute("UPDATE standings SET state = 'active', sequence = 10")
        return manifest

    monkeypatch.setattr("shared.jobs.library.archiving.export_tables", restored)
    done = closed.run(job.id)

    assert (done.state, done.outcome) == ("succeeded", "skipped")
    assert closed.query("SELECT FROM accounts WHERE tenant_id = 'acme'")


def test_what_failed_is_taken_up_again_at_night_and_what_is_done_is_not_done_twice(closed: ServiceUnderTest) -> None:
    job = archive(closed)
    closed.execute("UPDATE jobs SET state = 'failed', finished_at = now() WHERE id = :id", id=job.id)
    closed.execute("UPDATE standings SET noted_at = now() - interval '2 hours'")

    assert closed.run_job(library.resume_archives, tenant_id=SYSTEM).result == {"workspaces": 1}
    closed.drain()

    (again,) = closed.jobs(actor="archive_workspace", state="succeeded")
    assert (again.tenant_id, again.result["credentials"]) == ("acme", 1)
    assert closed.run_job(library.resume_archives, tenant_id=SYSTEM).result == {"workspaces": 0}
    assert closed.run_job(archive_workspace).outcome == "skipped"


def test_an_export_streams(closed: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty megabytes pass, and never more than a few blocks of them are held at once."""
    closed.execute(
        "INSERT INTO done (tenant_id, key, attempt) SELECT 'acme', repeat(md5(n::text), 32), 1 "
        "FROM generate_series(1, 20000) AS n"
    )
    largest = [0]

    class Watched(Away):
        def put(self, key: str, content: Any) -> int:
            def passing() -> Iterator[bytes]:
                for block in content:
                    largest[0] = max(largest[0], len(block))
                    yield block

            return self.store.put(key, passing())

    watched = Watched(blobs.store(), 99)
    monkeypatch.setattr(exporting.blobs, "store", lambda: watched)
    done = closed.run_job(export_workspace)

    assert [table["rows"] for table in done.result["tables"] if table["table"] == "done"] == [20000]
    assert 0 < largest[0] < 1 << 20


def test_an_owner_exports_even_a_suspended_workspace(closed: ServiceUnderTest) -> None:
    """Over HTTP: started, listed and downloaded; by nobody else, and not before there is one."""
    closed.run_job(jobs.write, key="mine")
    closed.execute("INSERT INTO standings VALUES ('acme', 'suspended', 1, now())")
    web = closed.app.web()
    assert closed.app.secrets.signer is not None
    owner = Client(web, closed.app.secrets.signer)
    assert owner.get("/v1/export").status_code == 404
    assert owner.role("manager").post("/v1/export").status_code == 403

    started = owner.post("/v1/export")
    assert started.status_code == 202
    assert owner.post("/v1/export").json["id"] == started.json["id"], "a second click is answered by the first's job"  # type: ignore[index]
    closed.drain()

    listed = {table["table"]: table for table in owner.get("/v1/export").json["tables"]}  # type: ignore[index]
    assert listed["accounts"]["left_out"] == ["key_hash", "token_sealed"]
    assert "key" not in listed["done"], "where it lies is nobody's business"
    file = owner.get("/v1/export/done")
    assert hashlib.sha256(file.data).hexdigest() == listed["done"]["sha256"]
    assert [json.loads(line)["key"] for line in gzip.decompress(file.data).splitlines()] == ["mine"]
    assert file.headers["Content-Disposition"] == 'attachment; filename="done.jsonl.gz"'
    assert owner.get("/v1/export/jobs").status_code == 404
    closed.execute("UPDATE standings SET state = 'active'")
    assert owner.of("globex").get("/v1/export").status_code == 404
    web.extensions["backroom"].close()


def test_the_librarys_own_tables_are_those_that_are_left_out(postgres: PostgresServer) -> None:
    """A table of a later revision of the library must be put on one side or the other."""
    with postgres.fresh_database("library") as url:
        upgrade(url, [])
        with psycopg.connect(url) as connection:
            found = connection.execute(
                "SELECT table_name FROM information_schema.columns WHERE column_name = 'tenant_id' AND table_schema = "
                "'public' ORDER BY 1"
            ).fetchall()
    assert tuple(name for (name,) in found) == exporting.OWN_TABLES
