"""A world for tests of billing: workspaces over a real database, Paddle's stand-in over real HTTP, a moved clock."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, Row, event
from sqlalchemy.orm import Session

from services.workspaces.jobs import advance_cancellations
from services.workspaces.models import Member, Workspace
from services.workspaces.providers.paddle import make_client
from services.workspaces.settings import settings
from shared.context import SYSTEM, current, use
from shared.db import unit_of_work
from shared.jobs.actor import Dispatch
from shared.sandbox import Sandbox
from shared.testing.service import ServiceUnderTest
from shared.web.testing import Client

SECRET = "pdl_ntfset_test"
SELLER = "seller"
STEPS = ("winback_1", "winback_2", "freeze", "suspend", "archive")
DAYS = {"winback_1": 3, "winback_2": 7, "freeze": 14, "suspend": 30, "archive": 90}


@contextmanager
def paddle() -> Iterator[Sandbox]:
    """Paddle's stand-in, with our settings pointing to it."""
    with Sandbox.start(seed=1, limits=0) as sandbox, pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKSPACES_PADDLE_BASE_URL", sandbox.url)
        patch.setenv("WORKSPACES_PADDLE_API_KEY", sandbox.paddle_key(SELLER))
        patch.setenv("WORKSPACES_PADDLE_WEBHOOK_SECRET", SECRET)
        patch.setenv("WORKSPACES_PADDLE_TOTAL_SECONDS", "2")
        settings.cache_clear()
        make_client.cache_clear()
        yield sandbox
    settings.cache_clear()
    make_client.cache_clear()


def signed(body: bytes, at: float | None = None, secret: str = SECRET) -> dict[str, str]:
    """The header with which Paddle sends this body."""
    stamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {"Paddle-Signature": f"ts={stamp};h1={digest}"}


class Shop:
    """Workspaces, one of which is `acme`; what its customer does, and what the clock shows."""

    def __init__(self, service: ServiceUnderTest, sandbox: Sandbox) -> None:
        self.service, self.sandbox = service, sandbox
        self.web = service.app.web()
        signer = service.app.secrets.signer
        assert signer is not None
        self.client = Client(self.web, signer)
        self.delivered = 0

    def open(self, tenant: str = "acme", plan: str = "starter") -> None:
        """Make a workspace with its owner."""
        with use(tenant_id=tenant), unit_of_work() as session:
            session.add(Workspace(name=tenant.title(), plan=plan))
            session.add(Member(email=f"eve@{tenant}.example", name="Eve", role="owner", status="active"))

    # -- at Paddle ---------------------------------------------------------------------------------------------

    def subscribe(self, tenant: str | None = "acme", **more: Any) -> str:
        """Buy a subscription; return its id. The webhooks about it are delivered by `deliver`."""
        data = {} if tenant is None else {"custom_data": {"workspace": tenant}}
        more.setdefault("customer_id", "ctm_eve")
        return str(self.sandbox.paddle_check_out(SELLER, **data, **more)["id"])

    def change(self, subscription: str, **changes: Any) -> None:
        self.sandbox.paddle_change(SELLER, subscription, **changes)

    def told(self) -> list[dict[str, Any]]:
        """The webhooks that have not been taken from here yet, in order."""
        events = self.sandbox.paddle_events(SELLER)
        fresh = events[self.delivered :]
        self.delivered = len(events)
        return fresh

    def post(self, told: dict[str, Any] | bytes, **how: Any) -> int:
        """Send a webhook; return the status of the answer."""
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        headers = {"Content-Type": "application/json", **signed(body, **how)}
        return int(self.client.stranger().post("/v1/webhooks/paddle", body, headers=headers).status_code)

    def deliver(self) -> None:
        """Deliver all webhooks, and process them."""
        for one in self.told():
            assert self.post(one) == 200
        self.service.drain()

    # -- in time -----------------------------------------------------------------------------------------------

    def tick(self, as_of: datetime) -> None:
        """What the hourly schedule does, as if it were then."""
        self.service.run_job(advance_cancellations, tenant_id=SYSTEM, as_of=as_of)
        self.service.drain()

    # -- facts -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        return str(self.workspace().state)

    def workspace(self, tenant: str = "acme") -> Row[Any]:
        return self.service.query("SELECT * FROM workspaces WHERE tenant_id = :tenant", tenant=tenant)[0]

    def canceled_at(self) -> datetime:
        """Day 0 of the last cancellation."""
        moment = self.service.query("SELECT canceled_at FROM cancellations ORDER BY id DESC LIMIT 1")[0][0]
        assert isinstance(moment, datetime)
        return moment

    def day(self, number: float) -> datetime:
        return self.canceled_at() + timedelta(days=number)

    def steps(self) -> list[tuple[str, str]]:
        """(step, outcome) in the order in which they were written."""
        return [tuple(row) for row in self.service.query("SELECT step, outcome FROM cancellation_steps ORDER BY id")]

    def states(self, tenant: str = "acme") -> list[str]:
        """The states that were told, in order, the first being the one before."""
        rows = self.service.query(
            "SELECT data, sequence FROM outbox WHERE type LIKE '%workspace.state_changed.v1' AND tenant_id = :tenant "
            "ORDER BY id",
            tenant=tenant,
        )
        assert [row.data["previous"] for row in rows[1:]] == [row.data["state"] for row in rows[:-1]]
        assert sorted({row.sequence for row in rows}) == [row.sequence for row in rows]
        return [row.data["state"] for row in rows]

    def mails(self) -> list[str]:
        rows = self.service.query("SELECT data FROM outbox WHERE type LIKE '%workspace.winback_due.v1' ORDER BY id")
        return [row.data["step"] for row in rows]

    def subscription(self) -> dict[str, Any]:
        answer = self.client.get("/v1/subscription")
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        return dict(answer.json)

    def failures(self) -> list[str]:
        rows = self.service.query("SELECT data FROM outbox WHERE type LIKE '%.job.failed.v1' ORDER BY id")
        return [row.data["code"] for row in rows]


def now() -> datetime:
    return datetime.now(UTC)


def new_event_id() -> str:
    return f"evt_{uuid.uuid4().hex}"


class Crash(Exception):
    """The program ends here."""


@contextmanager
def crashing(sut: ServiceUnderTest, after: int) -> Iterator[list[int]]:
    """Crash once, at the given one of all statements and commits that a job makes (0: the first).

    A commit counts twice: just before, and just after it, when nobody has learnt of it yet. What is yielded falls
    below zero when it has crashed.
    """
    left = [after]

    def count(*_: Any) -> None:
        if current().job_id is not None:
            left[0] -= 1
            if left[0] == -1:
                raise Crash

    engines: list[Engine] = [sut.database.app, sut.database.system]
    for engine in engines:
        event.listen(engine, "after_cursor_execute", count)
    for moment in ("before_commit", "after_commit"):
        event.listen(Session, moment, count)
    try:
        yield left
    finally:
        for engine in engines:
            event.remove(engine, "after_cursor_execute", count)
        for moment in ("before_commit", "after_commit"):
            event.remove(Session, moment, count)


def run_and_crash(sut: ServiceUnderTest, job_id: uuid.UUID, after: int) -> bool:
    """Run a job, and crash it; return whether it got so far."""
    number = sut.hand_out(job_id)
    assert number is not None
    with crashing(sut, after) as left:
        # As one that came back: a transactional job then runs once, and not again alone after it has failed in company.
        sut.deliver(Dispatch([(job_id, number)], redelivered=True))
    return left[0] < 0
