"""The ambient facts of the unit of work: who asks, for which tenant, in which request, job or event.

One frozen `Context` in one context variable. Logs, traces, the outbox, row-level security and the
guard against outgoing calls all read it; nobody passes these facts along by hand. Reading it is
one look-up and entering a new context takes about a microsecond, since every job does both.

    with use(tenant_id="t-1", job_id="…", job_actor="purchase_label", attempt=2):
        current().tenant_id      # "t-1"

A new thread starts with the defaults of the process, not with the context of the thread that made
it; to carry a context over, run the callable in `contextvars.copy_context()`.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass, fields
from typing import Any, Final

__all__ = ["SYSTEM", "Context", "current", "set_process_defaults", "use"]

SYSTEM: Final = "system"
"""The reserved tenant of work that belongs to no tenant: sweeps, the relay, reconciliation."""


@dataclass(frozen=True)
class Context:
    """Facts of the current unit of work. All ids are text; what is not known is None.

    The class has no slots on purpose: a copy with changes is then one dictionary update (see `use`),
    five times as fast as `dataclasses.replace`.
    """

    service: str = ""
    """Name of the service, such as `shipping`; empty outside of any service."""

    tenant_id: str | None = None
    """The tenant for which we work, `SYSTEM` for work of no tenant; None before anybody said so."""

    principal: str | None = None
    """Who asked: `user:<id>`, `key:<id>`, `service:<name>`. Kept on jobs and events that follow."""

    role: str | None = None
    """Role of the principal within the tenant: owner, manager, sales or fulfillment."""

    request_id: str | None = None
    """Id of the HTTP request being served; in a job, of the request from which it came if any."""

    correlation_id: str | None = None
    """Shared by everything that follows from one cause, over services, jobs and events."""

    causation_id: str | None = None
    """Id of the direct cause: the request, job or event that led to this unit of work."""

    job_id: str | None = None
    job_actor: str | None = None
    queue: str | None = None

    attempt: int | None = None
    """Number of this attempt of the job, from 1."""

    dispatch: int | None = None
    """Number of the dispatch under which the job was claimed: whoever holds a lower one was superseded."""

    event_id: str | None = None
    """Id of the event being handled."""

    traceparent: str | None = None
    """W3C trace context received from outside, passed on as it is when tracing is off."""

    in_request: bool = False
    """True while an HTTP request is being served: no third party may be called then."""

    no_outgoing: str | None = None
    """Why no third party may be called although no request is being served, such as
    `a transactional job`: its claim, effect and completion are one commit, held open meanwhile."""


_FIELDS: Final = frozenset(field.name for field in fields(Context))
_new = object.__new__

_defaults = Context()
_current: ContextVar[Context] = ContextVar("backroom_context")


def current() -> Context:
    """Return the context of the current unit of work, or the defaults of the process outside of any."""
    return _current.get(_defaults)


def set_process_defaults(**changes: Any) -> Context:
    """Change what `current()` says outside of any unit of work, in all threads; return it.

    A process of one service calls it once at its start: `set_process_defaults(service="shipping")`.
    Raises TypeError for a name that is no field of `Context`.
    """
    global _defaults
    _defaults = _changed(_defaults, changes)
    return _defaults


def _changed(base: Context, changes: dict[str, Any]) -> Context:
    if not changes.keys() <= _FIELDS:
        raise TypeError(f"not a field of Context: {', '.join(sorted(changes.keys() - _FIELDS))}")
    copy = _new(Context)
    attributes = copy.__dict__  # not through setattr, which a frozen class refuses
    attributes.update(base.__dict__)
    attributes.update(changes)
    return copy


class use:
    """Context manager: within it, `current()` has these changes; yields the new `Context`.

    What is not named is inherited from the context around. Entering the same object again after
    leaving it is allowed, entering it twice at once is not.
    Raises TypeError at once for a name that is no field of `Context`.
    """

    __slots__ = ("_context", "_token")

    def __init__(self, **changes: Any) -> None:
        self._context = _changed(_current.get(_defaults), changes)
        self._token: Token[Context] | None = None

    def __enter__(self) -> Context:
        self._token = _current.set(self._context)
        return self._context

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _current.reset(self._token)
            self._token = None
