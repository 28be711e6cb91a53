"""The whole service against a real PostgreSQL: requests through the app, jobs in the thread of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from services.imports.service import service
from services.imports.settings import settings
from shared.testing.service import ServiceUnderTest
from tests.services.imports.desk import Desk


@pytest.fixture
def desk(service_app: Callable[..., ServiceUnderTest], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Somebody who imports. Batches are small, so that small files have several."""
    monkeypatch.setenv("IMPORTS_BATCH_ROWS", "7")
    settings.cache_clear()
    under_test = service_app(service)
    web = under_test.app.web()
    signer = under_test.app.secrets.signer
    assert signer is not None
    yield Desk(under_test, web, signer)
    web.extensions["backroom"].close()
    settings.cache_clear()
