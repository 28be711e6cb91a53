"""Picking what to hand out next: fair between tenants, by priority, within a small window.

RabbitMQ holds only about as much as the workers can start at once; the backlog stays in the table, where
it can be seen, reordered, paused and cancelled, and where a tenant with a hundred thousand rows stands in
its own line. Within a priority, places go to the tenant with the least in flight and lately: whoever asks for
little gets it at once, and those who ask for more than there is get the same each.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Any

import psycopg

from shared.jobs.models import SCHEDULED

__all__ = ["HELD", "Gates", "Picked", "QueueLimits", "in_flight", "lines", "next_due", "pick_queue"]

WEIGHT = 25
"""What a leased job weighs in a window; a transactional one weighs 1, since that many share a message."""

HELD = "state IN ('suspended', 'archived') AND archived_at IS NULL"
"""Of rows of `standings`: that work towards the outside waits. What waited until its workspace is archived does not
go then, but is cancelled."""

_LINES = """
WITH RECURSIVE line AS (
    (SELECT queue, priority, tenant_id FROM jobs WHERE state = 'scheduled'
     ORDER BY queue, priority, tenant_id LIMIT 1)
    UNION ALL
    SELECT following.queue, following.priority, following.tenant_id
    FROM line, LATERAL (
        SELECT queue, priority, tenant_id FROM jobs
        WHERE state = 'scheduled'
          AND (queue, priority, tenant_id) > (line.queue, line.priority, line.tenant_id)
        ORDER BY queue, priority, tenant_id LIMIT 1
    ) AS following
)
SELECT queue, priority, tenant_id FROM line
"""

# The time of the statement, not of the clock: only what is stable within a statement bounds a walk over an index, and
# without a bound a line is walked to its end, a hundred thousand rows that are due next week included.
_FRONT = """
SELECT job.id, job.tenant_id, job.actor, line.priority
FROM unnest(%(priorities)s::smallint[], %(tenants)s::text[]) AS line(priority, tenant_id),
LATERAL (
    SELECT id, tenant_id, actor, run_at FROM jobs
    WHERE state = 'scheduled' AND queue = %(queue)s AND priority = line.priority AND tenant_id = line.tenant_id
      AND run_at <= statement_timestamp() AND actor = ANY(%(actors)s)
    ORDER BY run_at, id LIMIT %(most)s
) AS job
"""

# Of a workspace that is suspended only some jobs may go. They are looked for among the first of its line: what waits
# there in vain may be long, and must not be walked to its end in each round.
_FRONT_OF_HELD = """
SELECT job.id, job.tenant_id, job.actor, line.priority
FROM unnest(%(priorities)s::smallint[], %(tenants)s::text[]) AS line(priority, tenant_id),
LATERAL (
    SELECT id, tenant_id, actor FROM (
        SELECT id, tenant_id, actor FROM jobs
        WHERE state = 'scheduled' AND queue = %(queue)s AND priority = line.priority AND tenant_id = line.tenant_id
          AND run_at <= statement_timestamp()
        ORDER BY run_at, id LIMIT 100
    ) AS front
    WHERE actor = ANY(%(actors)s) LIMIT %(most)s
) AS job
"""

_NEXT_DUE = """
SELECT min(job.run_at)
FROM unnest(%(queues)s::text[], %(priorities)s::smallint[], %(tenants)s::text[]) AS line(queue, priority, tenant_id),
LATERAL (
    SELECT run_at FROM jobs
    WHERE state = 'scheduled' AND queue = line.queue AND priority = line.priority AND tenant_id = line.tenant_id
      AND run_at > statement_timestamp()
    ORDER BY run_at LIMIT 1
) AS job
"""

_IN_FLIGHT = """
SELECT queue, tenant_id, actor, count(*) FROM jobs WHERE state IN ('queued', 'running') GROUP BY 1, 2, 3
"""

_HAND_OUT = f"""
UPDATE jobs SET state = 'queued', dispatch = dispatch + 1, queued_at = clock_timestamp(), waiting_for = NULL,
                updated_at = clock_timestamp()
WHERE id = ANY(%s) AND {SCHEDULED}
RETURNING id, dispatch,
          lost + (outcome IS NOT DISTINCT FROM 'crashed')::int + (dispatch - runs - deferrals > 2)::int
"""  # noqa: S608 - a constant

Line = tuple[int, str]
Rows = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Picked:
    """A job that is handed out: state `queued`, under a new dispatch number."""

    id: uuid.UUID
    tenant_id: str
    actor: str
    dispatch: int
    lost: int
    """Above zero for jobs that are to be run with care, since they may kill their worker: those that were handed
    out and never claimed, that crashed last, or of whose last dispatches nothing is known."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much of one queue may be in flight."""

    window: int
    """In weight, see WEIGHT."""
    per_tenant: int | None = None
    """Jobs of one tenant, where a provider or a promise limits them."""


@dataclass(slots=True)
class Gates:
    """What keeps jobs of a queue back: tenants that must wait, those of whom one probe may go, suspended ones."""

    shut: bool = False
    tenants: set[str] = field(default_factory=set)
    probe: bool = False
    probing: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    """Tenants whose workspace is suspended: of them only the actors go on that `go_on` names."""
    go_on: frozenset[str] = frozenset()
    look: bool = True
    """Whether to look for those now. There may be many that wait, so that not every round does."""


def lines(connection: Rows) -> dict[str, list[Line]]:
    """Return which (priority, tenant) lines exist, by queue; a walk over the index, not over the rows."""
    found: dict[str, list[Line]] = defaultdict(list)
    for queue, priority, tenant in connection.execute(_LINES):
        found[queue].append((priority, tenant))
    return found


def in_flight(connection: Rows) -> dict[str, dict[str, dict[str, int]]]:
    """Return how many jobs are queued or running, by queue, tenant and actor."""
    found: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for queue, tenant, actor, count in connection.execute(_IN_FLIGHT):
        found[queue][tenant][actor] = count
    return found


def next_due(connection: Rows, existing: Mapping[str, Sequence[Line]]) -> datetime | None:
    """Return when the next job of these lines becomes due, None if there is none in the future."""
    flat = [(queue, *line) for queue, of_queue in existing.items() for line in of_queue]
    if not flat:
        return None
    row = connection.execute(
        _NEXT_DUE,
        {
            "queues": [line[0] for line in flat],
            "priorities": [line[1] for line in flat],
            "tenants": [line[2] for line in flat],
        },
    ).fetchone()
    return row[0] if row else None


def pick_queue(
    connection: Rows,
    queue: str,
    existing: Sequence[Line],
    limits: QueueLimits,
    gates: Gates,
    flying: Mapping[str, Mapping[str, int]],
    weights: Mapping[str, int],
    lately: Mapping[str, float] | None = None,
) -> list[Picked]:
    """Hand out what may go from one queue, in one transaction of the caller; return it in order.

    `flying` is what is in flight by tenant and actor, `weights` the weight of each actor that live workers know,
    `lately` the weight that was handed out to each tenant in the last seconds.
    """
    if gates.shut or not weights:
        return []
    used = sum(count * weights.get(actor, WEIGHT) for actors in flying.values() for actor, count in actors.items())
    free = limits.window - used
    go_on = gates.go_on.intersection(weights)
    held = set() if len(go_on) == len(weights) else gates.held
    shut = gates.tenants if go_on and gates.look else gates.tenants | held
    existing = [line for line in existing if line[1] not in shut]
    if free < (helping := limits.window // 4):
        # Few large helpings cost less than many small ones, and two jobs per thread bridge the gap. But a tenant of
        # whom nothing is in flight does not wait for one, unless there are more of them than one would serve.
        existing = [line for line in existing if line[1] not in flying]
        if free < max(weights.values()) or len(existing) * max(weights.values()) > helping:
            return []
    if not existing:
        return []
    lightest = min(weights.values())
    most = max(2, -(-(free // lightest) // len(existing)) + 1)
    rows: list[Any] = []
    for front, actors, of_held in ((_FRONT, weights, False), (_FRONT_OF_HELD, go_on, True)):
        if fronts := [line for line in existing if (line[1] in held) is of_held]:
            rows += connection.execute(
                front,
                {
                    "queue": queue,
                    "priorities": [line[0] for line in fronts],
                    "tenants": [line[1] for line in fronts],
                    "actors": list(actors),
                    "most": most,
                },
            )
    chosen = _choose(rows, limits, gates, flying, weights, lately or {}, free)
    if not chosen:
        return []
    handed = {row[0]: (row[1], row[2]) for row in connection.execute(_HAND_OUT, ([c[0] for c in chosen],))}
    return [Picked(job, tenant, actor, *handed[job]) for job, tenant, actor in chosen if job in handed]


def _choose(
    rows: Iterable[Any],
    limits: QueueLimits,
    gates: Gates,
    flying: Mapping[str, Mapping[str, int]],
    weights: Mapping[str, int],
    lately: Mapping[str, float],
    free: int,
) -> list[tuple[uuid.UUID, str, str]]:
    waiting: dict[int, dict[str, list[tuple[uuid.UUID, str]]]] = defaultdict(lambda: defaultdict(list))
    for job, tenant, actor, priority in rows:
        waiting[priority][tenant].append((job, actor))
    counts = {tenant: sum(actors.values()) for tenant, actors in flying.items()}
    load: dict[str, float] = dict(lately)
    for tenant, actors in flying.items():
        load[tenant] = load.get(tenant, 0.0) + sum(
            count * weights.get(actor, WEIGHT) for actor, count in actors.items()
        )
    if gates.probe:
        # The provider may be back: one job of whoever is first finds out.
        free, limits = min(free, 1), QueueLimits(limits.window, 1)
        if counts:
            return []
    chosen: list[tuple[uuid.UUID, str, str]] = []
    for priority in sorted(waiting):
        turns = [(load.get(tenant, 0), tenant) for tenant in waiting[priority]]
        heapify(turns)
        while turns and free > 0:
            weight_so_far, tenant = heappop(turns)
            allowed = 1 if tenant in gates.probing else limits.per_tenant
            if allowed is not None and counts.get(tenant, 0) >= allowed:
                continue
            job, actor = waiting[priority][tenant].pop(0)
            weight = weights[actor]
            chosen.append((job, tenant, actor))
            free -= weight
            counts[tenant] = counts.get(tenant, 0) + 1
            load[tenant] = weight_so_far + weight
            if waiting[priority][tenant]:
                heappush(turns, (load[tenant], tenant))
    return chosen
