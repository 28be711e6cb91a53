"""Fixtures for tests of notifications."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from services.notifications.providers.smtp import mailer
from services.notifications.service import service
from services.notifications.settings import settings
from shared.sandbox import Sandbox
from shared.testing.service import ServiceUnderTest, Templates
from tests.services.notifications.office import Office
from tests.services.notifications.post import Post


@pytest.fixture
def notifications(service_app: Callable[..., ServiceUnderTest]) -> ServiceUnderTest:
    """Notifications over a fresh database."""
    return service_app(service)


@pytest.fixture
def smtp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A mail server, which the settings name."""
    with Sandbox.start(seed=1) as sandbox:
        monkeypatch.setenv("NOTIFICATIONS_SMTP_URL", sandbox.smtp_url)
        monkeypatch.setenv("NOTIFICATIONS_SMTP_SECONDS", "1")
        settings.cache_clear()
        mailer.cache_clear()
        yield sandbox
        mailer().close()
    settings.cache_clear()
    mailer.cache_clear()


@pytest.fixture(scope="module")
def _shared(_templates: Templates) -> Iterator[ServiceUnderTest]:
    with _templates.fresh(service) as url:
        shared = ServiceUnderTest(service, url)
        yield shared
        shared.close()


@pytest.fixture
def post(_shared: ServiceUnderTest, smtp: Sandbox) -> Iterator[Post]:
    """Notifications that send their mails, over an emptied database, for tests that start nothing of it."""
    _shared.clear()
    with _shared.current():
        at_work = Post(_shared, smtp)
        yield at_work
        at_work.close()


@pytest.fixture
def fresh_post(notifications: ServiceUnderTest, smtp: Sandbox) -> Post:
    """The same over a database of its own."""
    return Post(notifications, smtp)


@pytest.fixture
def office(_shared: ServiceUnderTest) -> Iterator[Office]:
    """A workspace with people in every role, over an emptied database, for tests that start nothing."""
    _shared.clear()
    with _shared.current():
        made = Office(_shared)
        yield made
        made.close()


@pytest.fixture
def fresh_office(notifications: ServiceUnderTest) -> Iterator[Office]:
    """The same over a database of its own."""
    made = Office(notifications)
    yield made
    made.close()


@pytest.fixture(scope="module")
def _third_parties() -> Iterator[Sandbox]:
    with Sandbox.start(seed=1, limits=0) as running:
        yield running


@pytest.fixture
def sandbox(_third_parties: Sandbox) -> Sandbox:
    """Third parties in good order, with nothing in their books."""
    _third_parties.reset()
    return _third_parties
