"""What a circuit that opens or closes means for jobs: one event, which is the alert, and the relay's attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.context import SYSTEM, current, use
from shared.db.signals import wake_relay
from shared.events import publish
from shared.events.contracts.jobs import CircuitClosed, CircuitOpened, of_service
from shared.jobs.relay import QueueSettings
from shared.outbound.circuit import breaker
from shared.outbound.transactions import ANY_TENANT

__all__ = ["watch_circuits"]

_queues: dict[str, list[QueueSettings]] = {}

_WAITING = """
SELECT count(*) FROM (
    SELECT 1 FROM jobs
    WHERE state = 'scheduled' AND queue = ANY(:queues) AND (:tenant = '*' OR tenant_id = :tenant)
    LIMIT 100000
) AS waiting
"""

_RETRY_AT = "SELECT opened_at, retry_at FROM circuits WHERE provider = :provider AND tenant_id = :tenant"


def watch_circuits(service: str, queues: Sequence[QueueSettings], *, scale: float = 1.0) -> None:
    """Announce, in this process, the openings and closings of circuits of the providers of these queues.

    `scale` shortens the waits of circuits as it does those between retries.
    """
    _queues[service] = list(queues)
    breaker.settings = replace(breaker.settings, scale=scale)
    breaker.on_open = _opened
    breaker.on_close = _closed
    breaker.count_waiting = _waiting


def _waiting(session: Session, *, provider: str, tenant_id: str) -> int:
    names = [queue.name for queue in _queues.get(current().service, []) if queue.provider == provider]
    return int(session.execute(text(_WAITING), {"queues": names, "tenant": tenant_id}).scalar_one())


def _opened(session: Session, *, provider: str, tenant_id: str, last_error: str, waiting: int) -> None:
    row = session.execute(text(_RETRY_AT), {"provider": provider, "tenant": tenant_id}).one()
    event = of_service(CircuitOpened, current().service)(
        provider=provider, error=last_error, waiting=waiting, opened_at=row.opened_at, retry_at=row.retry_at
    )
    _publish(session, event, provider, tenant_id)


def _closed(session: Session, *, provider: str, tenant_id: str, opened_at: datetime | None) -> None:
    event = of_service(CircuitClosed, current().service)(
        provider=provider, opened_at=opened_at, closed_at=datetime.now(UTC)
    )
    _publish(session, event, provider, tenant_id)
    wake_relay()


def _publish(session: Session, event: Any, provider: str, tenant_id: str) -> None:
    with use(tenant_id=SYSTEM if tenant_id == ANY_TENANT else tenant_id):
        publish(session, event, subject=provider)
