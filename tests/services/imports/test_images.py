"""Pictures of samples: fetched politely, looked at safely, stored once, attached or failed with a reason."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image as pillow

from services.imports.jobs.images import fetch_image
from services.imports.pictures import original_key, thumbnail_key
from services.imports.service import service
from services.imports.settings import settings
from shared import blobs
from shared.testing.service import ServiceUnderTest
from tests.outbound.raw_server import Server, answer


def png(colour: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    out = io.BytesIO()
    pillow.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def imports(
    service_app: Callable[..., ServiceUnderTest], server: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServiceUnderTest]:
    monkeypatch.setenv("IMPORTS_IMAGE_TRUSTED_HOSTS", f'["127.0.0.1:{server.port}"]')
    settings.cache_clear()
    yield service_app(service)
    settings.cache_clear()


def wanted(app: ServiceUnderTest, url: str) -> dict[str, Any]:
    sample, image = uuid.uuid4(), uuid.uuid4()
    app.execute(
        "INSERT INTO samples (id, tenant_id, title, title_key) VALUES (:id, :tenant, :title, :title)",
        id=sample,
        tenant=app.tenant_id,
        title=str(sample),
    )
    app.execute(
        "INSERT INTO images (id, tenant_id, sample_id, position, url, host) VALUES (:id, :tenant, :sample, 1, :url, '')",
        id=image,
        tenant=app.tenant_id,
        sample=sample,
        url=url,
    )
    return {"image_id": image, "url": url}


def test_a_picture_is_fetched_stored_and_attached(imports: ServiceUnderTest, server: Server) -> None:
    content = png()
    server.handler = answer(content)
    image = wanted(imports, f"{server.url}/a.png")
    job = imports.run_job(fetch_image, **image)
    assert (job.state, job.result["state"]) == ("succeeded", "attached"), job
    row = imports.query("SELECT * FROM images")[0]
    assert (row.state, row.media_type, row.width, row.height, row.size) == (
        "attached",
        "image/png",
        40,
        30,
        len(content),
    )
    assert b"".join(blobs.store().get(original_key("acme", row.sha256))) == content
    assert next(iter(blobs.store().get(thumbnail_key("acme", row.sha256)))).startswith(b"RIFF")
    (event,) = imports.published("backroom.imports.image.attached.v1")
    assert event.data["image_id"] == str(row.id)
