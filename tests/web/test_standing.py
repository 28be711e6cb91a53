"""The gate: what a workspace's standing and a revoked credential forbid, and how soon every process knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask import Flask
from sqlalchemy import Engine, event, text

from shared.context import use
from shared.db import Database, unit_of_work
from shared.db.signals import REFUSALS
from shared.testing.service import wait_until
from shared.web import Api, Signer, WebSettings, create_app, standing
from shared.web.testing import Client

from . import sample
from .test_auth import signed

api = Api("standing")


@api.post("/v1/billing", role="owner", status=204, standing="any")
def pay() -> None:
    """Pay."""


@api.post("/v1/doors/<tenant>", public=True, status=204, standing="usual")
def enter(tenant: str) -> None:
    """Leave a thing for a workspace, as a stranger who said who he is."""
    with use(tenant_id=tenant), unit_of_work() as session:
        session.add(sample.Thing(name="left", weight=1))


@api.post("/v1/bells/<tenant>", public=True, status=204)
def ring(tenant: str) -> None:
    """The same, whatever the workspace's standing is."""
    enter(tenant)


@pytest.fixture(scope="module")
def gated(database: Database, settings: WebSettings) -> Iterator[Flask]:
    app = create_app([sample.api, api], database, settings)
    yield app
    app.extensions["backroom"].close()


@pytest.fixture
def owner(gated: Flask, signer: Signer) -> Client:
    return Client(gated, signer)


Hold = Callable[..., None]


@pytest.fixture
def hold(database: Database) -> Iterator[Hold]:
    """Write down a workspace's state, and give the hint."""

    def write(state: str, tenant_id: str = "acme", *, hint: bool = True) -> None:
        with database.system.begin() as connection:
            connection.execute(
                text("INSERT INTO standings VALUES (:tenant, :state, 1, now()) ON CONFLICT (tenant_id) DO UPDATE "
                     "SET state = excluded.state, noted_at = clock_timestamp()"),
                {"tenant": tenant_id, "state": state},
            )  # fmt: skip
            if hint:
                connection.execute(text(f"NOTIFY {REFUSALS}"))

    yield write
    with database.system.begin() as connection:
        # As a workspace is restored: nobody forgets one that was deleted before a minute has passed.
        connection.execute(text("UPDATE standings SET state = 'active', noted_at = clock_timestamp()"))
        connection.execute(text("UPDATE revocations SET kind = 'session', credential_id = gen_random_uuid()"))
        connection.execute(text(f"NOTIFY {REFUSALS}"))


def refused(answer: Any) -> str | None:
    """Return the code of a refusal, None where there is none."""
    return None if answer.status_code < 400 else str(answer.json["code"])


def learned(client: Client, code: str | None) -> None:
    """Wait until writes are answered so."""
    wait_until(lambda: refused(client.post("/v1/things", {"name": "Box"})) == code, 5, f"{code}")


FROZEN, SUSPENDED, ARCHIVED = "workspace_frozen", "workspace_suspended", "workspace_archived"


@pytest.mark.parametrize(
    ("state", "writes", "owner_reads", "others_read", "pays"),
    [
        ("active", None, None, None, None),
        ("canceled", None, None, None, None),
        ("frozen", FROZEN, None, None, None),
        ("suspended", SUSPENDED, None, SUSPENDED, None),
        ("archived", ARCHIVED, ARCHIVED, ARCHIVED, ARCHIVED),
    ],
)
def test_what_each_state_forbids(
    owner: Client, hold: Hold, state: str, writes: str, owner_reads: str, others_read: str, pays: str
) -> None:
    hold(state)
    learned(owner, writes)

    assert refused(owner.get("/v1/things")) == owner_reads
    for role in ("manager", "sales", "fulfillment"):
        assert refused(owner.role(role).get("/v1/things")) == others_read
    assert owner.request("HEAD", "/v1/things").status_code == owner.get("/v1/things").status_code
    assert refused(owner.post("/v1/billing")) == pays
    assert refused(owner.of("globex").post("/v1/things", {"name": "Box"})) is None


def test_a_refusal_says_what_to_do(owner: Client, hold: Hold) -> None:
    hold("frozen")
    learned(owner, FROZEN)
    answer = owner.post("/v1/things", {"name": "Box"})
    assert answer.status_code == 403
    assert answer.json is not None
    assert "reactivate" in answer.json["detail"]
    assert owner.stranger().get(answer.json["type"]).status_code == 200


@pytest.mark.parametrize("state", ["frozen", "suspended", "archived"])
def test_a_public_operation_writes_nothing_for_a_workspace_that_may_not(
    owner: Client, hold: Hold, database: Database, state: str
) -> None:
    hold(state)
    learned(owner, f"workspace_{state}")
    assert refused(owner.stranger().post("/v1/doors/acme")) == f"workspace_{state}"
    assert owner.stranger().post("/v1/doors/globex").status_code == 204
    assert owner.stranger().post("/v1/bells/acme").status_code == 204
    with database.system.begin() as connection:
        left = connection.execute(text("SELECT tenant_id FROM things WHERE name = 'left' ORDER BY 1")).scalars().all()
    assert left == ["acme", "globex"]


# -- how soon --------------------------------------------------------------------------------------------------


def test_nobody_asks_the_database_for_those_in_good_standing(owner: Client, hold: Hold) -> None:
    """Two look-ups in memory: an operation that touches no row makes no round trip, for those who wait either."""
    hold("suspended", "globex")
    neighbor = owner.of("globex").role("manager")
    wait_until(lambda: refused(neighbor.get("/v1/whoami")) == SUSPENDED, 5)
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert owner.get("/v1/whoami").status_code == 200
        assert refused(neighbor.get("/v1/whoami")) == SUSPENDED
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert statements == []


def test_a_hint_is_heard_at_once_and_a_lost_one_within_two_looks(owner: Client, hold: Hold) -> None:
    learned(owner, None)
    begun = time.monotonic()
    hold("frozen")
    learned(owner, FROZEN)
    with_hint = time.monotonic() - begun
    begun = time.monotonic()
    hold("active", hint=False)
    learned(owner, None)
    without = time.monotonic() - begun
    assert with_hint < standing.LOOK
    assert without < 2 * standing.LOOK


def test_who_has_not_looked_trusts_nothing(
    database: Database, settings: WebSettings, signer: Signer, hold: Hold
) -> None:
    """A process whose thread never came up, and one that lost it: each request asks the tables, and is right."""
    app = create_app([sample.api, api], database, settings)
    gate = app.extensions["backroom"].gate
    gate.stop()
    client = Client(app, signer)
    try:
        assert not gate._is_fresh()
        for state, code in (("frozen", FROZEN), ("active", None), ("suspended", SUSPENDED)):
            hold(state, hint=False)
            assert refused(client.post("/v1/things", {"name": "Box"})) == code
        assert client.stranger().get("/readyz").status_code == 503
        assert refused(client.of("globex").post("/v1/things", {"name": "Box"})) is None
        assert refused(client.stranger().post("/v1/doors/acme")) == SUSPENDED
    finally:
        app.extensions["backroom"].close()


def test_what_is_known_is_not_trusted_for_long(owner: Client, hold: Hold, gated: Flask) -> None:
    """The thread hangs: its last look is good for two seconds, and then the tables are asked."""
    learned(owner, None)
    gate = gated.extensions["backroom"].gate
    look, gate._look = gate._look, lambda connection: None
    try:
        hold("frozen")
        wait_until(lambda: refused(owner.post("/v1/things", {"name": "Box"})) == FROZEN, 2 * standing.TRUSTED)
        assert not gate._is_fresh()
    finally:
        gate._look = look


def test_the_thread_survives_its_connection(owner: Client, hold: Hold, gated: Flask, database: Database) -> None:
    learned(owner, None)
    with psycopg.connect(database.url, autocommit=True) as superuser:
        superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backroom refusals' "
            "AND datname = current_database()"
        )
    hold("frozen")
    learned(owner, FROZEN)
    wait_until(gated.extensions["backroom"].gate._is_fresh, 5)
    assert refused(owner.post("/v1/things", {"name": "Box"})) == FROZEN


def test_a_stream_ends_when_its_caller_would_be_refused(
    app: Flask, signer: Signer, hold: Hold, database: Database
) -> None:
    client = Client(app, signer, tenant_id="initech", role="manager")
    assert client.get("/v1/whoami").status_code == 200  # the gate knows
    answer = client.get("/v1/events")
    chunks = answer.iter_encoded()
    assert next(chunks).startswith(b"retry:")
    begun = time.monotonic()
    hold("suspended", "initech")
    assert list(chunks) == []
    assert time.monotonic() - begun < 3 * standing.LOOK


# -- revoked credentials ---------------------------------------------------------------------------------------

ID, OTHER = "<id>", str(uuid4())
NOW = int(time.time())


def revoke(database: Database, kind: str, credential_id: str, at: float, tenant_id: str = "acme") -> None:
    with database.system.begin() as connection:
        connection.execute(
            text("INSERT INTO revocations VALUES (:tenant, :kind, :id, :at, :forget)"),
            {
                "tenant": tenant_id,
                "kind": kind,
                "id": credential_id,
                "at": datetime.fromtimestamp(at, UTC),
                "forget": datetime.now(UTC) + timedelta(minutes=15),
            },
        )
        connection.execute(text(f"NOTIFY {REFUSALS}"))


@pytest.mark.parametrize(
    ("kind", "of_it", "of_another"),
    [
        ("session", {"sid": ID}, {"sid": OTHER}),
        ("session", {"sid": ID}, {"sid": None}),
        ("api_key", {"sub": f"key:{ID}"}, {"sub": f"key:{OTHER}"}),
        ("api_key", {"sub": f"key:{ID}"}, {"sub": f"user:{ID}"}),
        ("member", {"sub": f"user:{ID}"}, {"sub": f"user:{OTHER}"}),
        ("member", {"sub": f"user:{ID}", "iat": NOW - 60}, {"sub": f"user:{ID}", "iat": NOW + 2}),
        ("member", {"sub": f"user:{ID}", "sid": OTHER}, {"sub": f"key:{ID}"}),
        ("member", {"sub": f"user:{ID}"}, {"sub": f"user:{ID}", "tenant": "globex"}),
    ],
)
def test_tokens_of_a_revoked_credential_are_refused_and_no_others(
    owner: Client, signer: Signer, hold: Hold, database: Database, kind: str, of_it: Any, of_another: Any
) -> None:
    """A member's tokens until then: who signs in again afterwards has new ones."""
    credential_id = str(uuid4())
    revoke(database, kind, credential_id, NOW)
    bad, good = (
        {
            name: value.replace(ID, credential_id) if isinstance(value, str) else value
            for name, value in {"iat": NOW, "exp": NOW + 600, **claims}.items()
        }
        for claims in (of_it, of_another)
    )

    answer = wait_until(
        lambda: (found := owner.stranger(signed(signer, **bad)).get("/v1/whoami")).status_code == 401 and found, 5
    )

    assert "revoked" in answer.json["detail"]
    assert owner.stranger(signed(signer, **good)).get("/v1/whoami").status_code == 200


@pytest.mark.parametrize("sid", [7, ["a"], {"a": 1}])
def test_a_session_that_is_no_text_makes_no_token(owner: Client, signer: Signer, sid: Any) -> None:
    assert owner.stranger(signed(signer, sid=sid)).get("/v1/whoami").status_code == 401


def test_requests_see_other_tenants_refusals_through_one_window_only(database: Database, hold: Hold) -> None:
    hold("frozen", "globex")
    with use(tenant_id="acme"), unit_of_work(database=database) as session:
        assert session.execute(text("SELECT tenant_id FROM standings WHERE tenant_id <> 'acme'")).all() == []
        seen = session.execute(text("SELECT tenant_id, state FROM backroom_refusals('-infinity')")).all()
    assert ("globex", "frozen") in [tuple(row) for row in seen]
