"""Whoever signs in at workspaces is known to every service of the group, and so are tokens of the data directory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from sqlalchemy import text

from services.shipping.service import service as shipping
from services.workspaces.links import URL
from services.workspaces.service import service as workspaces
from services.workspaces.settings import settings as workspaces_settings
from shared.outbound import vault
from shared.runtime.embedded.group import Group
from shared.runtime.settings import Settings
from shared.testing.servers import PostgresServer
from shared.testing.service import wait_until

ISSUED = "SELECT tenant_id, data FROM outbox WHERE type = 'backroom.workspaces.link.issued.v1' ORDER BY id DESC"


@pytest.fixture
def group(postgres: PostgresServer, tmp_path: Path) -> Iterator[Group]:
    """Both services in this process, each with a database of its own."""
    with (
        postgres.fresh_database("identity_shipping") as first,
        postgres.fresh_database("identity_workspaces") as second,
        pytest.MonkeyPatch.context() as patch,
    ):
        urls = {"shipping": first, "workspaces": second}
        patch.setattr(Settings, "database", lambda _, service: urls[service])
        patch.setattr(Settings, "migration_database", lambda _, service: urls[service])
        chosen = Settings(data_dir=tmp_path, database_url=f"{first}?{{service}}", port=18640, worker_threads=2)
        workspaces_settings.cache_clear()
        with Group(chosen, services=[shipping, workspaces], sandbox={"port": 0, "limits": 0}) as running:
            yield running
    workspaces_settings.cache_clear()


def test_who_signs_in_is_known_to_every_service(group: Group) -> None:
    http = requests.Session()
    urls = {name: member.url for name, member in group.members.items()}
    people = {"name": "Acme", "email": "ada@acme.com", "owner_name": "Ada"}
    assert http.post(f"{urls['workspaces']}/v1/workspaces", json=people).status_code == 201
    with group.members["workspaces"].app.database.system.connect() as connection:
        issued = connection.execute(text(ISSUED)).first()
    assert issued is not None
    fragment = re.search(r"#token=([^&]+)", vault.open_(issued.tenant_id, URL, issued.data["url_sealed"]))
    assert fragment is not None
    link = {"token": fragment[1], "workspace": issued.tenant_id}
    # The key of the very first workspace is made by a job.
    admitted = wait_until(
        lambda: (answer := http.post(f"{urls['workspaces']}/v1/sessions", json=link)).status_code == 201 and answer
    )
    token = admitted.json()["access_token"]
    everywhere = {"shipping": "/v1/orders", "workspaces": "/v1/me"}

    def codes(bearer: str) -> list[int]:
        headers = {"Authorization": f"Bearer {bearer}"}
        return [http.get(urls[name] + path, headers=headers).status_code for name, path in everywhere.items()]

    # A service that has not heard of the key yet refuses, and looks for it.
    wait_until(lambda: codes(token) == [200, 200], 30, "both services to know the key")
    assert codes(group.token("acme", "user:ada", "owner")) == [200, 200], "as `backroom token` makes them"
    assert codes(token[:-4] + "AAAA") == [401, 401]
