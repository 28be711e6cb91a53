"""Declaring jobs: plain Dramatiq actors, with the options of durable jobs.

    @actor(queue_name="labels", unique="label_id", subject="Label for order {number}")
    def purchase_label(label_id: UUID, number: str) -> dict: ...

    purchase_label.send(label_id=label.id, number=order.number)   # joins the open unit of work

A worker calls an actor with a `Dispatch` (the jobs that a message announces); the runner then claims
them and runs the function for each. Anybody else who calls an actor calls the function itself.
"""

from __future__ import annotations

import copy
import enum
import hashlib
import inspect
import json
import types
import typing
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, ParamSpec, TypeVar, overload

import dramatiq
from dramatiq.logging import get_logger
from periodiq import CronSpec
from pydantic import TypeAdapter

__all__ = ["DEFAULT_RETRY", "Actor", "Dispatch", "Priority", "Registry", "actor"]

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_RETRY: Sequence[float] = (10, 60, 600)
"""Seconds to wait after the first, second and third failure; one run and three retries, then failed."""


class Priority(enum.IntEnum):
    """Within a queue, all that is due of a lower number goes first."""

    URGENT = 0
    HIGH = 1
    NORMAL = 2
    BULK = 3


@dataclass(slots=True)
class Dispatch:
    """What a message carries: ids of jobs, each with the dispatch number that entitles to claim it."""

    jobs: list[tuple[uuid.UUID, int]]
    redelivered: bool = False
    """A worker had this message before and did not finish: run its jobs one by one, claims committed."""
    requeue: bool = False
    """Set by the runner when it could not even claim (the database is away): hand the message back."""
    tenant_id: str | None = None
    """Whose jobs they are, where they are all of one tenant."""


@dataclass(frozen=True, slots=True)
class Options:
    transactional: bool = False
    """The job touches its own database alone: claim, effect and completion are one commit."""
    unique: str | tuple[str, ...] | None = None
    """At most one live job per value of these arguments, `()` for one at all; sending it again answers with it."""
    subject: str | None = None
    """What the job is about, in the words of the trade; filled from the arguments."""
    retry: Sequence[float] = field(default_factory=lambda: DEFAULT_RETRY)
    time_limit: float = 600
    """Seconds that one run may take; must stay below RabbitMQ's acknowledgement timeout of 30 minutes."""
    periodic: CronSpec | None = None
    catch_up: str = "once"
    """What becomes of ticks missed while no scheduler ran: `skip`, `once` or `all`."""
    event_type: str | None = None
    """Set on handlers of events: the type that they handle."""
    standing: str = "usual"
    """`any`: it goes on while its workspace is suspended, as transactional jobs do; others wait then."""


class Actor(dramatiq.Actor[P, R], Generic[P, R]):
    """A Dramatiq actor whose messages are durable jobs. Bound to a broker when its service is built."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        actor_name: str,
        queue_name: str,
        priority: int,
        options: Options,
    ) -> None:
        # Not Dramatiq's constructor: that one demands a broker at import time.
        self.logger = get_logger(fn.__module__ or "_", actor_name)
        self.fn = fn
        self.actor_name = actor_name
        self.queue_name = queue_name
        self.priority = priority
        self.job = options
        self.options: dict[str, Any] = {"time_limit": int(options.time_limit * 1000)}
        if options.periodic is not None:
            self.options["periodic"] = options.periodic
        self._broker: dramatiq.Broker | None = None
        self.on_failed: Callable[..., None] | None = None
        self._signature = inspect.signature(fn)
        if inspect.iscoroutinefunction(fn):
            raise TypeError(f"{actor_name}: jobs are plain functions; a coroutine would never be awaited")
        for parameter in self._signature.parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"{actor_name}: arguments travel by name, which {parameter} has none of")
        self._converters = _converters(fn)
        self._unique = (options.unique,) if isinstance(options.unique, str) else options.unique
        missing = set(self._unique or ()) - set(self._signature.parameters)
        if missing:
            raise ValueError(f"{actor_name}: unique names no argument of the function: {', '.join(sorted(missing))}")
        if not 0 < options.time_limit <= 1500:
            raise ValueError(f"{actor_name}: time_limit must be above 0 and at most 1500 seconds")
        if options.catch_up not in ("skip", "once", "all"):
            raise ValueError(f"{actor_name}: catch_up must be skip, once or all")
        if options.standing not in ("usual", "any"):
            raise ValueError(f"{actor_name}: standing must be usual or any")

    @property
    def broker(self) -> dramatiq.Broker:
        """The broker of the service; raises RuntimeError before the service is built."""
        if self._broker is None:
            raise RuntimeError(f"{self.actor_name} belongs to a service that is not built (shared.runtime.build)")
        return self._broker

    @broker.setter
    def broker(self, broker: dramatiq.Broker) -> None:
        self._broker = broker

    def bind(self, broker: dramatiq.Broker) -> None:
        """Make the actor known to the broker of its service; what is sent from now on is checked by that one.

        Several services of one process have the library's actors in common. Each broker gets one of its own, so that
        whoever consumes a message runs its jobs, and not the service that was built last.
        """
        self._broker = broker
        broker.declare_actor(copy.copy(self))

    def message_with_options(
        self, *, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> dramatiq.Message[R]:
        """Build a message; its arguments are checked against the function and all become named.

        Raises TypeError for arguments that the function does not take.
        """
        bound = self._signature.bind(*args, **(kwargs or {}))
        arguments = {name: _plain(value) for name, value in bound.arguments.items()}
        return super().message_with_options(kwargs=arguments, **options)

    @property
    def goes_on_suspended(self) -> bool:
        """Whether such a job is handed out while its workspace is suspended."""
        return self.job.transactional or self.job.standing == "any"

    def can_run_bare(self) -> bool:
        """Whether the function takes no argument that has no default, as a scheduled one must."""
        return all(
            parameter.default is not inspect.Parameter.empty for parameter in self._signature.parameters.values()
        )

    def unique_key(self, arguments: dict[str, Any]) -> str | None:
        """Return the key of which at most one job may be live, or None."""
        if self._unique is None:
            return None
        values = [(name, arguments.get(name, self._default(name))) for name in self._unique]
        if len(values) > 1:
            # Quoted, so that no value can look like the beginning of the next.
            values = [(name, json.dumps(value, ensure_ascii=False)) for name, value in values]
        key = "&".join(f"{name}={value}" for name, value in values) or "only"
        # An index takes less than 2,704 bytes of it.
        return key if len(key) <= 500 else f"{key[:400]}…{hashlib.sha256(key.encode()).hexdigest()}"

    def _default(self, name: str) -> Any:
        default = self._signature.parameters[name].default
        return None if default is inspect.Parameter.empty else _plain(default)

    def subject(self, arguments: dict[str, Any]) -> str | None:
        """Return what the job is about, in a person's words, or None where the actor does not say."""
        if self.job.subject is None:
            return None
        try:
            return self.job.subject.format(**arguments)
        except (KeyError, IndexError):
            return self.job.subject

    def failed(self, hook: Callable[..., None]) -> Callable[..., None]:
        """Decorate what puts the domain right when such a job ends as failed or cancelled.

        It is called with the verdict (`state`, `code`, `fields`) and the job's arguments, inside the
        transaction in which the job ends.
        """
        self.on_failed = hook
        return hook

    def converted(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return arguments, as they come out of the job's row, in the types that the function declares."""
        if not self._converters:
            return arguments
        return {
            name: self._converters[name](value) if name in self._converters and value is not None else value
            for name, value in arguments.items()
        }

    def call(self, arguments: dict[str, Any]) -> R:
        """Call the function with arguments as they come out of the job's row."""
        return self.fn(**self.converted(arguments))  # type: ignore[call-arg]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], Dispatch):
            return self.broker.runner.run(self, args[0])  # type: ignore[attr-defined]
        return self.fn(*args, **kwargs)


def _plain(value: Any) -> Any:
    """Return the value as it can stand in JSON."""
    if isinstance(value, (uuid.UUID, datetime, date)):
        return str(value) if isinstance(value, uuid.UUID) else value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    return value


_CONVERTERS: dict[Any, Callable[[Any], Any]] = {
    uuid.UUID: uuid.UUID,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
}

_AS_THEY_ARE = (str, int, float, bool, dict, list, type(None), Any)
"""Types whose values come out of JSON as they went in."""


def _converters(fn: Callable[..., Any]) -> dict[str, Callable[[Any], Any]]:
    """Return what turns the JSON of an argument into its declared type, for those that need it."""
    hints = typing.get_type_hints(fn)
    hints.pop("return", None)
    found: dict[str, Callable[[Any], Any]] = {}
    for name, hint in hints.items():
        options = _options(hint)
        if len(options) == 1 and options[0] in _CONVERTERS:
            found[name] = _CONVERTERS[options[0]]
        elif not all(_stays(option) for option in options):
            found[name] = TypeAdapter(hint).validate_python
    return found


def _options(hint: Any) -> list[Any]:
    """Return the members of a union except None; of anything else, itself."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return [hint]
    return [option for option in typing.get_args(hint) if option is not type(None)]


def _stays(hint: Any) -> bool:
    """Whether values of this type come out of JSON as they went in, however deep."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return all(_stays(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) in (list, dict):
        return all(_stays(option) for option in typing.get_args(hint))
    return hint in _AS_THEY_ARE or isinstance(hint, typing.TypeVar)


class Registry:
    """The actors that a module declares, in order; a service is built from the registries of its modules."""

    def __init__(self) -> None:
        self.by_module: dict[str, list[Actor[Any, Any]]] = {}

    def add(self, declared: Actor[Any, Any]) -> None:
        self.by_module.setdefault(declared.fn.__module__, []).append(declared)

    def of(self, *modules: str) -> list[Actor[Any, Any]]:
        """Return the actors of these modules and of the modules below them."""
        return [
            declared
            for name, actors in self.by_module.items()
            if any(name == module or name.startswith(module + ".") for module in modules)
            for declared in actors
        ]


registry = Registry()


@overload
def actor(fn: Callable[P, R]) -> Actor[P, R]: ...


@overload
def actor(
    *,
    queue_name: str = ...,
    actor_name: str | None = ...,
    priority: Priority = ...,
    transactional: bool = ...,
    unique: str | tuple[str, ...] | None = ...,
    subject: str | None = ...,
    retry: Sequence[float] = ...,
    time_limit: float = ...,
    periodic: CronSpec | None = ...,
    catch_up: str = ...,
    event_type: str | None = ...,
    standing: str = ...,
) -> Callable[[Callable[P, R]], Actor[P, R]]: ...


def actor(
    fn: Callable[P, R] | None = None,
    *,
    queue_name: str = "default",
    actor_name: str | None = None,
    priority: Priority = Priority.NORMAL,
    **options: Any,
) -> Any:
    """Declare a job: the function that does it, and how it is to be run. See `Options` for each option.

    A job is *leased* unless it is declared `transactional=True`: its claim is committed, it may call the
    outside, and it says itself when effect and completion are one commit (`completion()`). A
    transactional job may touch its own database only, which is enforced.
    """

    def decorate(function: Callable[P, R]) -> Actor[P, R]:
        declared: Actor[P, R] = Actor(
            function,
            actor_name=actor_name or function.__name__,
            queue_name=queue_name,
            priority=int(priority),
            options=Options(**options),
        )
        registry.add(declared)
        return declared

    return decorate(fn) if fn is not None else decorate
