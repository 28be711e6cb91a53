"""Fixtures for tests of workspaces."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.workspaces.service import service
from shared.testing.service import ServiceUnderTest


@pytest.fixture
def workspaces(service_app: Callable[..., ServiceUnderTest]) -> ServiceUnderTest:
    """Workspaces over a fresh database."""
    return service_app(service)
