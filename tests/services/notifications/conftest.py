"""Fixtures for tests of notifications."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.notifications.service import service
from shared.testing.service import ServiceUnderTest


@pytest.fixture
def notifications(service_app: Callable[..., ServiceUnderTest]) -> ServiceUnderTest:
    """Notifications over a fresh database."""
    return service_app(service)
