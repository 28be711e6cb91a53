"""The whole service against a real PostgreSQL and the sandbox over real HTTP; jobs run in this process."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

import pytest
from sqlalchemy import text

from services.shipping.providers import shippo as provider
from services.shipping.service import service
from services.shipping.settings import settings
from shared.db.migrate import upgrade
from shared.jobs.broker import EmbeddedHub
from shared.runtime.app import build
from shared.runtime.secrets import Secrets
from shared.runtime.settings import Settings
from shared.sandbox import Sandbox
from shared.testing.servers import PostgresServer
from tests.services.shipping.world import World, running

_QUICK: Mapping[str, str] = {
    "SHIPPING_SHIPPO_OWN_LIMITS": "false",
    "SHIPPING_SHIPPO_READ_SECONDS": "0.8",
    "SHIPPING_SHIPPO_TOTAL_SECONDS": "1.0",
    "SHIPPING_SETTLE_SECONDS": "2.1",
    "SHIPPING_POLL_SECONDS": "[0.3, 0.6, 3600]",
    "SHIPPING_REFUND_POLL_SECONDS": "[0.1, 0.2, 3600]",
}


@pytest.fixture(scope="module")
def service_world(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One running service per module; each test gets a tenant of its own in it."""
    data = tmp_path_factory.mktemp("shipping")
    with pytest.MonkeyPatch.context() as patch, Sandbox.start(seed=1, limits=0, settle_seconds=3600) as sandbox:
        patch.setenv("SHIPPING_SHIPPO_BASE_URL", sandbox.url)
        for name, value in _QUICK.items():
            patch.setenv(name, value)
        settings.cache_clear()
        provider.make_client.cache_clear()
        with postgres.fresh_database("shipping") as url:
            upgrade(url, service.migrations())
            # 10 s, 1 min and 10 min become 0.05, 0.3 and 3 seconds.
            chosen = Settings(data_dir=data, retry_scale=0.005, worker_threads=8)
            secrets = Secrets.from_settings(chosen)
            app = build(service, chosen, hub=EmbeddedHub(), database_url=url, secrets=secrets)
            token = app.database.bind()
            with running(app):
                assert secrets.signer is not None
                web = app.web()
                yield World(app, web, secrets.signer, sandbox)
                web.extensions["backroom"].close()
            app.database.unbind(token)
            app.database.dispose()
        settings.cache_clear()


@pytest.fixture
def bare(service_world: World) -> Iterator[World]:
    """A tenant that has not connected Shippo."""
    service_world.tenant = f"t{uuid.uuid4().hex[:12]}"
    service_world.sandbox.reset()
    # What an earlier test made of the provider as a whole: it may have been down.
    with service_world.app.database.system.begin() as connection:
        connection.execute(text("DELETE FROM circuits"))
        connection.execute(text("DELETE FROM rate_limits"))
    yield service_world
    # What is still under way must not run into the faults of the next test.
    service_world.sandbox.faults.clear()
    service_world.sandbox.release()
    service_world.idle()


@pytest.fixture
def world(bare: World) -> World:
    """A tenant with a Shippo account of its own."""
    bare.connect()
    return bare
