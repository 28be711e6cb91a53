"""A member's notices come by themselves: at once, resumable, bounded, and nobody else's."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest

from services.notifications.notices import mark_read, tell
from shared.db import unit_of_work
from shared.events.contracts.shipping import MilestoneReached
from shared.web import Signer, sse
from shared.web.serve import Server, serve
from tests.services.notifications.office import Office
from tests.web.test_sse import Listener

STREAM = "/v1/notices/stream"


@pytest.fixture
def server(office: Office) -> Iterator[Server]:
    web = office.service.app.web()
    with serve(web, threads=8) as server:
        yield server
    web.extensions["backroom"].close()
    assert web.extensions["backroom"].hub.streams == 0, "every stream gives its place back"


@pytest.fixture
def signer(office: Office) -> Signer:
    assert office.service.app.secrets.signer is not None
    return office.service.app.secrets.signer


def listen(office: Office, server: Server, signer: Signer, name: str = "sales", *, last: int | None = None) -> Listener:
    return Listener(server, signer, STREAM, last=last, role=name, principal=office.principal(name))


def say(office: Office, title: str, name: str = "sales") -> None:
    with unit_of_work() as session:
        tell(session, "watch", [office.members[name]], title, "x", dedupe_key=title)


def test_a_notice_comes_at_once_with_the_number(office: Office, server: Server, signer: Signer) -> None:
    say(office, "before")
    with listen(office, server, signer) as listener:
        assert listener.answer.headers["Content-Type"].startswith("text/event-stream")
        events = listener.events()
        first = {kind: data for kind, _, data in (next(events), next(events))}
        assert first["unread"] == {"count": 1}
        assert first["notice"]["title"] == "before", "what came seconds ago may have missed the list"
        started = time.monotonic()
        say(office, "another's", "rival")
        say(office, "now")
        kind, now_id, notice = next(events)
        assert time.monotonic() - started < 1, "told by the hint, not by the re-read"
        assert (kind, notice["title"], notice["read"]) == ("notice", "now", False)
        assert next(events)[::2] == ("unread", {"count": 2})
        with unit_of_work() as session:
            mark_read(session, office.members["sales"], until=None, ids=[notice["id"]])
        kind, read_id, unread = next(events)
        assert (kind, unread) == ("unread", {"count": 1})
        assert read_id >= now_id


def test_what_a_handler_tells_in_a_worker_comes_at_once(fresh_office: Office) -> None:
    """Hints go out after the commit of the job that tells, and not before."""
    office, signer = fresh_office, fresh_office.service.app.secrets.signer
    assert signer is not None
    office.service.start()
    web = office.service.app.web()
    with serve(web, threads=4) as server, listen(office, server, signer, "owner") as listener:
        events = listener.events()
        assert next(events)[0] == "unread"
        office.hear(MilestoneReached.example())
        told = "SELECT told_at FROM notice_receipts WHERE member_id = :id"
        office.service.wait_until(lambda: office.service.query(told, id=office.members["owner"]))
        committed = time.monotonic()
        kind, _, notice = next(events)
        assert (kind, notice["title"]) == ("notice", "Order 1042 is on its way.")
        assert time.monotonic() - committed < 1, "told by the hint, not by the re-read"
    web.extensions["backroom"].close()
    office.service.stop()


def test_lost_hints_cost_a_moment(
    office: Office, server: Server, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.notifications import notices

    with listen(office, server, signer) as listener:
        events = listener.events()
        next(events)
        monkeypatch.setattr(notices, "changed_after_commit", lambda *_: None)
        started = time.monotonic()
        say(office, "quietly")
        assert next(events)[0] == "notice"
        assert time.monotonic() - started < sse.REREAD + 1


def test_resuming_tells_what_came_meanwhile(office: Office, server: Server, signer: Signer) -> None:
    with listen(office, server, signer) as listener:
        events = listener.events()
        say(office, "heard")
        last = max(event_id for _, event_id, _ in (next(events), next(events), next(events)))
    # What was told long before is not told again; what a slow transaction told just before is.
    office.service.execute("UPDATE notice_receipts SET told_at = told_at - interval '1 minute'")
    say(office, "missed")
    with listen(office, server, signer, last=last) as listener:
        kind, missed_id, notice = next(listener.events())
        assert (kind, notice["title"]) == ("notice", "missed")
        assert missed_id > last


def test_more_than_one_look_finds_all_come_once(office: Office, server: Server, signer: Signer) -> None:
    with listen(office, server, signer) as listener:
        events = listener.events()
        next(events)
        with unit_of_work() as session:
            for number in range(450):
                tell(session, "watch", [office.members["sales"]], f"{number}", "x", dedupe_key=f"{number}")
        titles = []
        while len(titles) < 450:
            kind, _, data = next(events)
            if kind == "notice":
                titles.append(data["title"])
    assert titles == [f"{number}" for number in range(450)]


def test_the_database_comes_back(office: Office, server: Server, signer: Signer) -> None:
    with listen(office, server, signer) as listener:
        events = listener.events()
        next(events)
        with psycopg.connect(office.service.database.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'backroom changes'"
            )
        say(office, "after all")
        assert next(events)[2]["title"] == "after all"


def test_jobs_and_notices_share_one_listener_and_one_limit(office: Office, server: Server, signer: Signer) -> None:
    hub = server._app.extensions["backroom"].hub
    hub._max_streams = 2
    paths = [STREAM, "/v1/events"]
    both = [Listener(server, signer, path, principal=office.principal("owner")) for path in paths]
    refused = Listener(server, signer, STREAM, principal=office.principal("owner"))
    assert refused.answer.status_code == 503
    listening = office.service.query(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'backroom changes'"
    )
    assert listening == [(1,)]
    for each in both:
        each.answer.close()
    office.service.wait_until(lambda: hub.streams == 0, 5, "places to be free again")


def test_a_machine_has_no_stream(office: Office, server: Server, signer: Signer) -> None:
    assert Listener(server, signer, STREAM, principal="key:0199").answer.status_code == 403
