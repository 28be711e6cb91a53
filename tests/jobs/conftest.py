"""What tests of jobs share: the sample service, and scripts for its scripted jobs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from shared.jobs.verdict import Verdict
from shared.runtime.service import Service
from shared.testing.service import ServiceUnderTest, Templates
from tests.sample import jobs
from tests.sample.service import service


@pytest.fixture(scope="module")
def _shared(_templates: Templates) -> Iterator[ServiceUnderTest]:
    with _templates.fresh(service) as url:
        shared = ServiceUnderTest(service, url)
        yield shared
        shared.close()


@pytest.fixture
def sample(_shared: ServiceUnderTest) -> Iterator[ServiceUnderTest]:
    """The sample service over an emptied database, for tests that start nothing of it."""
    _shared.clear()
    with _shared.current():
        yield _shared


@pytest.fixture
def fresh_sample(service_app: Callable[..., ServiceUnderTest]) -> ServiceUnderTest:
    """The sample service over a database of its own, with the embedded broker; to be started by the test."""
    return service_app(service)


Fresh = Callable[[Service], AbstractContextManager[str]]


@pytest.fixture
def fresh_database(_templates: Templates) -> Fresh:
    """Make a new migrated database of a service, as a context manager that yields its URL."""
    return _templates.fresh


@pytest.fixture
def rabbit_sample(service_app: Callable[..., ServiceUnderTest]) -> ServiceUnderTest:
    """The sample service over RabbitMQ; nothing of it is started."""
    return service_app(service, "rabbitmq")


@pytest.fixture
def script() -> Iterator[Callable[..., str]]:
    """Write what a scripted job does, and what its failed hook does: `key = script(lambda: …, hook=…)`."""
    keys: list[str] = []

    def write(does: Callable[[], Any], hook: Callable[[Verdict], None] | None = None) -> str:
        key = uuid.uuid4().hex
        keys.append(key)
        jobs.SCRIPTS[key] = does
        if hook is not None:
            jobs.HOOKS[key] = hook
        return key

    yield write
    for key in keys:
        jobs.SCRIPTS.pop(key, None)
        jobs.HOOKS.pop(key, None)


def raising(error: BaseException | Callable[[], BaseException]) -> Callable[[], Any]:
    """Return a function that raises it."""

    def raise_it() -> None:
        raise error if isinstance(error, BaseException) else error()

    return raise_it


def effects(sample: ServiceUnderTest) -> list[str]:
    """Return the keys of all effects, in order; one that happened twice is there twice."""
    return [key for (key,) in sample.query("SELECT key FROM done ORDER BY id")]
