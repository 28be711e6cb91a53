"""The relay: one leads, nothing that is marked gets lost, and outages end."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest

from shared.context import use
from shared.db import unit_of_work
from shared.events import outbox
from shared.jobs import relay as relay_module
from shared.jobs.publisher import EmbeddedTransport, PublishFailed
from shared.jobs.relay import Relay
from shared.testing.service import ServiceUnderTest
from tests.jobs.conftest import effects
from tests.sample import jobs

Script = Callable[..., str]


def leads(sample: ServiceUnderTest) -> int:
    """Return how many relays hold the lock of the leader."""
    statement = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 "
        "AND classid = 25207 AND objid = 4294967295 "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return int(sample.query(statement)[0][0])


def test_one_leads_and_another_takes_over(fresh_sample: ServiceUnderTest) -> None:
    """Of several relays one leads; when it stops, another hands out within moments."""
    sample = fresh_sample
    sample.start_worker()
    stops = [threading.Event() for _ in range(3)]
    threads = [threading.Thread(target=sample.app.relay().run, args=(stop,), daemon=True) for stop in stops]
    for thread in threads:
        thread.start()
    for stop, thread in zip(stops, threads, strict=True):
        assert sample.wait_for(sample.send(jobs.write, key=uuid.uuid4().hex)).state == "succeeded"
        assert leads(sample) == 1
        stop.set()
        thread.join(10)
        assert not thread.is_alive()
    sample.wait_until(lambda: leads(sample) == 0, what="nobody to lead any more")
    assert len(effects(sample)) == 3


def test_a_failed_publication_is_made_good(fresh_sample: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a broker that takes nothing for a while, what was marked as handed out is handed out anew."""
    sample = fresh_sample
    failures: list[int] = []
    original = EmbeddedTransport.send

    def send(self: EmbeddedTransport, publications: Sequence[Any]) -> Any:
        if len(failures) < 3:
            failures.append(len(publications))
            raise PublishFailed("the broker is away")
        return original(self, publications)

    monkeypatch.setattr(EmbeddedTransport, "send", send)
    sample.start()

    job = sample.wait_for(sample.send(jobs.write, key="a"))

    assert (job.state, job.runs, job.dispatch) == ("succeeded", 1, 4)
    assert effects(sample) == ["a"]


def test_a_lost_message_is_sent_again(fresh_sample: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a broker that confirmed a message and lost it, the job is handed out anew after a while, with care."""
    sample = fresh_sample
    monkeypatch.setattr(relay_module, "_LOST_EVERY", 0.1)
    original, lost = EmbeddedTransport.send, []

    def send(self: EmbeddedTransport, publications: Sequence[Any]) -> Any:
        if not lost and publications:
            lost.append(1)
            return original(self, [])
        return original(self, publications)

    monkeypatch.setattr(EmbeddedTransport, "send", send)
    sample.start()
    job_id = sample.send(jobs.write, key="a")
    sample.wait_for(job_id, "queued")
    assert lost

    sample.execute("UPDATE jobs SET queued_at = queued_at - interval '31 seconds'")

    job = sample.wait_for(job_id)
    assert (job.state, job.dispatch, job.lost) == ("succeeded", 2, 1)
    assert effects(sample) == ["a"]


def test_no_hint_is_needed(fresh_sample: ServiceUnderTest) -> None:
    """A job of which nobody told the relay is handed out all the same: it looks by itself."""
    sample = fresh_sample
    sample.start()
    sample.wait_for(sample.send(jobs.write, key="a"))

    sample.execute(
        "INSERT INTO jobs (id, tenant_id, queue, actor, priority, arguments, state, run_at, origin) "
        """VALUES (:id, 'acme', 'work', 'write', 2, '{"key": "b"}', 'scheduled', now(), 'program')""",
        id=uuid.uuid4(),
    )

    sample.drain()
    assert effects(sample) == ["a", "b"]


def test_it_wakes_for_what_becomes_due(fresh_sample: ServiceUnderTest) -> None:
    """Delayed jobs are handed out when they are due, and never before."""
    sample = fresh_sample
    sample.start()
    delays = (400, 100, 300, 200)
    ids = [jobs.lease.send_with_options(kwargs={"key": str(delay)}, delay=delay).message_id for delay in delays]

    sample.drain()

    for job_id in ids:
        job = sample.job(job_id)
        assert job.started_at >= job.run_at
    assert sorted(effects(sample)) == ["100", "200", "300", "400"]


def test_events_leave_in_order_and_are_marked(fresh_sample: ServiceUnderTest) -> None:
    """What the outbox holds is published, oldest first, and marked after the broker has it."""
    sample = fresh_sample
    sample.start_relay()
    with unit_of_work() as session:
        outbox.append(
            session.connection(),
            tenant_id="acme",
            type="backroom.sample.thing.made.v1",
            events=[(f"thing {number}", number, {"number": number}) for number in range(1200)],
        )

    sample.wait_until(lambda: all(event.published_at for event in sample.published()), what="all events to leave")

    times = [event.published_at for event in sample.published()]
    assert times == sorted(times)


def test_a_mistake_in_a_round_does_not_end_the_relay(
    fresh_sample: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong in a round, the relay starts over."""
    sample = fresh_sample
    original, mistakes = Relay._hand_out, []

    def hand_out(self: Relay, connection: Any) -> None:
        if len(mistakes) < 2:
            mistakes.append(1)
            raise ZeroDivisionError
        original(self, connection)

    monkeypatch.setattr(Relay, "_hand_out", hand_out)
    sample.start()

    assert sample.wait_for(sample.send(jobs.write, key="a")).state == "succeeded"
    assert len(mistakes) == 2


def test_a_lost_connection_to_the_database_is_made_good(fresh_sample: ServiceUnderTest) -> None:
    """Cut off from the database, the relay comes back and goes on."""
    sample = fresh_sample
    sample.start()
    sample.wait_for(sample.send(jobs.write, key="a"))

    with psycopg.connect(sample.database_url, autocommit=True) as owner:
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    # The test's own connections are gone as well.
    sample.database.dispose()
    with use(tenant_id="acme"):
        job_id = sample.wait_until(lambda: again(sample), what="the database to be reached again")
    assert sample.wait_for(job_id).state == "succeeded"


def again(sample: ServiceUnderTest) -> uuid.UUID | None:
    try:
        return sample.send(jobs.write, key="b")
    except Exception:
        return None


def test_the_server_notices_a_vanished_peer(fresh_sample: ServiceUnderTest) -> None:
    """A leader whose machine is gone does not keep its lock for hours: PostgreSQL itself looks after the connection."""
    with fresh_sample.database.connect() as connection:
        if connection.info.host.startswith("/"):
            return
        settings = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
        values = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in settings]
    assert values == [("5",), ("2",), ("3",)]
