"""Pictures of samples: fetched politely, looked at safely, stored once, attached or failed with a reason."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Row

from services.imports.jobs import images
from services.imports.jobs.image_files import clean_up_images, keep
from services.imports.jobs.images import fetch_image, retry_images
from services.imports.jobs.images_again import retry_import_images
from services.imports.pictures import TEXTS, DecoderTrouble, original_key, thumbnail_key
from services.imports.service import service
from services.imports.settings import settings
from shared import blobs
from shared.context import SYSTEM
from shared.jobs import Snooze
from shared.jobs.places import place_at
from shared.outbound.fetch import Policy
from shared.sandbox import Sandbox
from shared.sandbox.images.pictures import picture
from shared.testing.service import ServiceUnderTest, Templates
from tests.outbound.raw_server import Server, answer
from tests.outbound.shop import PUBLIC_ADDRESS
from tests.outbound.spellings import FORBIDDEN_NAMES, FORBIDDEN_V4, FORBIDDEN_V6, OTHER_URLS, SPELLINGS

ATTACHED = "backroom.imports.image.attached.v1"
FAILED = "backroom.imports.image.failed.v1"
NOW = datetime.now(UTC)


class World:
    """The service, a website with pictures, and samples that want them."""

    def __init__(self, app: ServiceUnderTest, sandbox: Sandbox, store: Path | None = None) -> None:
        self.app = app
        self.sandbox = sandbox
        self.store = store

    def wanted(self, url: str, *, tenant: str | None = None, raw: bool = False) -> uuid.UUID:
        """Write an image as an import would, for a sample of its own; a path is one of the website unless `raw`."""
        image, sample, tenant = uuid.uuid4(), uuid.uuid4(), tenant or self.app.tenant_id
        self.app.execute(
            "INSERT INTO samples (id, tenant_id, title, title_key) VALUES (:id, :tenant, :title, :title)",
            id=sample,
            tenant=tenant,
            title=str(sample),
        )
        self.app.execute(
            "INSERT INTO images (id, tenant_id, sample_id, position, url, host) "
            "VALUES (:id, :tenant, :sample, 1, :url, 'ignored.example')",
            id=image,
            tenant=tenant,
            sample=sample,
            url=f"{self.sandbox.url}/images{url}" if url.startswith("/") and not raw else url,
        )
        return image

    def image(self, image_id: uuid.UUID) -> Row[Any]:
        return self.app.query("SELECT * FROM images WHERE id = :id", id=image_id)[0]

    def fetch(self, image_id: uuid.UUID) -> Row[Any]:
        """Run the job of an image once; return the job."""
        row = self.image(image_id)
        return self.app.run_job(fetch_image, tenant_id=row.tenant_id, image_id=image_id, url=row.url)

    def fetched(self, url: str, *, raw: bool = False) -> Row[Any]:
        """Have the picture of a URL fetched; the job must end well, whatever comes of it. Return the image."""
        image_id = self.wanted(url, raw=raw)
        job = self.fetch(image_id)
        assert (job.state, job.runs) == ("succeeded", 1), job
        row = self.image(image_id)
        assert job.result["state"] == row.state
        return row

    def tick(self, minutes: float = 5.0) -> int:
        """Let that time pass for images, and tick; return how many are handed out. Jobs are run to their ends."""
        self.app.execute(
            "UPDATE images SET next_attempt_at = next_attempt_at - make_interval(secs => :seconds)",
            seconds=minutes * 60,
        )
        count = int(self.app.run_job(retry_images, tenant_id=SYSTEM).result["images"])
        self.app.drain()
        return count

    def stored(self) -> list[str]:
        """Keys of all files in the store."""
        assert self.store is not None
        return sorted(str(path.relative_to(self.store)) for path in self.store.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def _website() -> Iterator[Sandbox]:
    with Sandbox.start(seed=1, limits=0) as running:
        yield running


@pytest.fixture
def sandbox(_website: Sandbox) -> Sandbox:
    _website.reset()
    return _website


@pytest.fixture(scope="module")
def _shared(_templates: Templates) -> Iterator[ServiceUnderTest]:
    with _templates.fresh(service) as url:
        shared = ServiceUnderTest(service, url)
        yield shared
        shared.close()


@pytest.fixture
def quick(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings for an impatient test: the website may be fetched from, and has a second."""
    monkeypatch.setenv("IMPORTS_IMAGE_TRUSTED_HOSTS", f'["{sandbox.url.removeprefix("http://")}"]')
    monkeypatch.setenv("IMPORTS_IMAGE_TOTAL_SECONDS", "1")
    monkeypatch.setenv("IMPORTS_IMAGE_MAX_BYTES", "100000")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def world(_shared: ServiceUnderTest, sandbox: Sandbox, quick: None, tmp_path: Path) -> Iterator[World]:
    """Over an emptied database and an empty store, for tests that start nothing of the service."""
    _shared.clear()
    blobs.configure((tmp_path / "blobs").as_uri())
    with _shared.current():
        yield World(_shared, sandbox, tmp_path / "blobs")


@pytest.fixture
def canary() -> Iterator[Server]:
    """What must never be reached: every test that has it ends by looking."""
    server = Server()
    server.handler = answer(picture("canary.png"))
    yield server
    server.close()
    assert server.connections == 0


# -- what comes of it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp"])
def test_a_picture_is_fetched_stored_and_attached(world: World, ending: str) -> None:
    row = world.fetched(f"/chair.{ending}?v=3#top")
    content = picture(f"chair.{ending}")
    media_type = "image/jpeg" if ending == "jpg" else f"image/{ending}"
    assert (row.state, row.media_type, row.size, row.code, row.attempts) == (
        "attached", media_type, len(content), None, 1,
    )  # fmt: skip
    assert row.settled_at is not None
    assert b"".join(blobs.store().get(original_key("acme", row.sha256))) == content
    assert b"".join(blobs.store().get(thumbnail_key("acme", row.sha256))).startswith(b"RIFF")
    (event,) = world.app.published(ATTACHED)
    assert event.data == {
        "image_id": str(row.id),
        "sample_id": str(row.sample_id),
        "media_type": media_type,
        "width": row.width,
        "height": row.height,
    }


def test_a_picture_behind_redirects(world: World) -> None:
    assert world.fetched("/redirect/3/a.png").state == "attached"


def test_the_servers_word_about_what_it_sends_counts_for_nothing(world: World) -> None:
    assert world.fetched("/wrong-type/a.png").media_type == "image/png"
    assert world.fetched("/wrong-type/a.gif?type=image/png").media_type == "image/gif"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/status/404/a.png", "url_not_found"),
        ("/status/410/a.png", "url_not_found"),
        ("/status/401/a.png", "url_not_public"),
        ("/status/403/a.png", "url_not_public"),
        ("/status/400/a.png", "url_refused"),
        ("/html/a.png", "image_not_supported"),
        ("/empty/a.png", "image_not_supported"),
        ("/half/a.png", "image_broken"),
        ("/half/a.jpg", "image_broken"),
        ("/wrong-length/a.png?by=-50", "image_broken"),
        ("/large/a.png", "image_too_large"),
        ("/large/a.png?bytes=100001", "image_too_large"),
        ("/endless/a.png", "image_too_large"),
        ("/gzip/a.png", "encoding_refused"),
        ("/redirect/4/a.png", "too_many_redirects"),
        ("/loop/a.png", "too_many_redirects"),
    ],
)
def test_what_no_retry_mends_is_over_at_once(world: World, path: str, code: str) -> None:
    row = world.fetched(path)
    assert (row.state, row.code, row.attempts, row.sha256) == ("failed", code, 1, None)
    (event,) = world.app.published(FAILED)
    assert event.data == {"image_id": str(row.id), "sample_id": str(row.sample_id), "url": row.url, "code": code}
    assert code in TEXTS
    assert world.tick(600) == 0
    assert world.stored() == []


def test_a_picture_of_too_many_pixels(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPORTS_IMAGE_MAX_PIXELS", "3071")
    settings.cache_clear()
    row = world.fetched("/a.png")
    assert (row.state, row.code) == ("failed", "image_too_many_pixels")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/status/500/a.png", "provider_unavailable"),
        ("/status/503/a.png?retry_after=3", "provider_unavailable"),
        ("/status/408/a.png", "provider_unavailable"),
        ("/status/429/a.png", "provider_rate_limited"),
        ("/hang/a.png?seconds=30", "url_timeout"),
        ("/trickle/a.png?interval=0.2", "url_timeout"),
        ("/slow/a.png?seconds=5", "url_timeout"),
        ("/reset/a.png", "url_unreachable"),
        ("/truncated/a.png", "url_unreachable"),
        ("/wrong-length/a.png?by=10", "url_unreachable"),
    ],
)
def test_what_may_pass_is_tried_again_in_five_minutes(world: World, path: str, code: str) -> None:
    row = world.fetched(path)
    assert (row.state, row.code, row.attempts) == ("pending", code, 1)
    assert code in TEXTS
    (left,) = world.app.query("SELECT extract(epoch FROM next_attempt_at - now()) AS seconds FROM images")
    assert 280 < left.seconds <= 300
    assert world.app.published() == []
    assert world.tick(3) == 0, "not yet"


def test_a_website_that_asks_for_more_time_gets_it(world: World) -> None:
    world.fetched("/status/429/a.png?retry_after=600")
    (left,) = world.app.query("SELECT extract(epoch FROM next_attempt_at - now()) AS seconds FROM images")
    assert 580 < left.seconds <= 600


def test_a_flaky_picture_is_attached_after_some_ticks(world: World) -> None:
    row = world.fetched("/flaky/3/a.png")
    assert row.state == "pending"
    states = []
    for _ in range(3):
        assert world.tick() == 1
        states.append(world.image(row.id).state)
    assert states == ["pending", "pending", "attached"]
    assert world.image(row.id).attempts == 4
    assert (world.tick(), len(world.app.published(ATTACHED))) == (0, 1)


def test_after_twelve_tries_we_give_up(world: World) -> None:
    row = world.fetched("/status/503/a.png")
    ticks = 0
    while world.tick():
        ticks += 1
    found = world.image(row.id)
    assert (ticks, found.state, found.code, found.attempts) == (11, "failed", "image_gave_up", 12)
    assert found.reason == "provider_unavailable"
    assert world.sandbox.count("GET /images/status/{status}/{name}") == 12
    assert [event.data["code"] for event in world.app.published(FAILED)] == ["image_gave_up"]
    assert {job.state for job in world.app.jobs(actor="fetch_image")} == {"succeeded"}
    assert not [event for event in world.app.published() if "job.failed" in event.type]


def test_an_image_that_is_not_due_waits_until_it_is(world: World) -> None:
    row = world.fetched("/status/503/a.png")
    job = world.fetch(row.id)
    assert (job.state, job.waiting_for) == ("scheduled", "picture_not_due")
    assert abs((job.run_at - row.next_attempt_at).total_seconds()) < 1
    assert world.sandbox.images()["requests"] == 1


# -- the sweep -------------------------------------------------------------------------------------------------


def test_a_tick_hands_out_two_hundred_and_nothing_twice(world: World) -> None:
    sample = uuid.uuid4()
    world.app.execute(
        "INSERT INTO samples (id, tenant_id, title, title_key) VALUES (:id, 'globex', 'Chair', 'chair')", id=sample
    )
    world.app.execute(
        "INSERT INTO images (id, tenant_id, sample_id, position, url, host, next_attempt_at) "
        "SELECT gen_random_uuid(), 'globex', :sample, 1, 'http://a.example/' || n, 'a.example', "
        "now() - make_interval(secs => n) FROM generate_series(1, 250) AS n",
        sample=sample,
    )
    first = world.wanted("/a.png")
    counts = [world.app.run_job(retry_images, tenant_id=SYSTEM).result["images"] for _ in range(3)]
    assert counts == [200, 51, 0]
    jobs = world.app.jobs(actor="fetch_image")
    assert {job.tenant_id for job in jobs} == {"globex", "acme"}
    assert len({job.arguments["image_id"] for job in jobs}) == 251
    assert jobs[0].arguments["url"] == "http://a.example/250", "the longest due goes first"
    assert str(first) in {job.arguments["image_id"] for job in jobs[200:]}


def test_a_lost_job_is_made_good_by_the_sweep(world: World) -> None:
    """An image whose job is gone is pending and due, and that is all that the sweep asks for."""
    image = world.wanted("/a.png")
    assert world.tick(0) == 1
    assert world.image(image).state == "attached"


# -- stored once -----------------------------------------------------------------------------------------------


def test_the_same_bytes_are_stored_once_for_each_workspace(world: World) -> None:
    rows = [world.fetched("/a.png"), world.fetched("/a.png?again"), world.fetched("/redirect/1/a.png")]
    assert len({row.sha256 for row in rows}) == 1
    assert len(world.stored()) == 2
    other = world.wanted("/a.png", tenant="globex")
    world.fetch(other)
    assert world.image(other).sha256 == rows[0].sha256
    assert len(world.stored()) == 4
    world.fetched("/b.png")
    assert len(world.stored()) == 6


def test_files_that_no_image_names_go_after_a_day(world: World) -> None:
    kept, lost, shared = world.fetched("/a.png"), world.fetched("/b.png"), world.fetched("/a.png?2")
    assert len(world.stored()) == 4
    world.app.execute("DELETE FROM samples WHERE id = ANY(:ids)", ids=[lost.sample_id, shared.sample_id])
    assert world.app.run_job(clean_up_images, tenant_id=SYSTEM).result == {"files": 0}, "too young"
    world.app.execute("UPDATE image_files SET stored_at = stored_at - interval '25 hours'")
    assert world.app.run_job(clean_up_images, tenant_id=SYSTEM).result == {"files": 1}
    assert [Path(key).name for key in world.stored()] == [kept.sha256] * 2
    assert world.app.run_job(clean_up_images, tenant_id=SYSTEM).result == {"files": 0}
    again = world.fetched("/b.png")
    assert again.sha256 == lost.sha256
    assert len(world.stored()) == 4


def test_a_file_that_is_about_to_be_named_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an old one that no image names any more; between its storing and the commit the clean-up comes by."""
    old = world.fetched("/a.png")
    world.app.execute("DELETE FROM samples")
    world.app.execute("UPDATE image_files SET stored_at = stored_at - interval '25 hours'")

    def interrupted(*arguments: Any) -> None:
        keep(*arguments)
        sweep = world.app.outside(lambda: world.app.run_job(clean_up_images, tenant_id=SYSTEM))
        assert sweep.result == {"files": 0}

    monkeypatch.setattr(images, "keep", interrupted)
    assert world.fetched("/a.png").sha256 == old.sha256
    assert len(world.stored()) == 2


# -- meanwhile -------------------------------------------------------------------------------------------------


def meanwhile(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Have something happen between the fetch and the commit."""

    def changed(*arguments: Any) -> None:
        keep(*arguments)
        change()

    monkeypatch.setattr(images, "keep", changed)


def test_a_sample_that_was_deleted_meanwhile_gets_no_picture(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(monkeypatch, lambda: world.app.execute("DELETE FROM samples"))
    image = world.wanted("/a.png")
    job = world.fetch(image)
    assert (job.state, job.result) == ("succeeded", {"state": "gone"})
    assert world.app.query("SELECT * FROM images") == []
    assert world.app.published() == []


def test_an_image_that_was_settled_meanwhile_stays_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    image = world.wanted("/a.png")
    meanwhile(monkeypatch, lambda: world.app.execute("UPDATE images SET state = 'failed', code = 'cancelled'"))
    assert world.fetch(image).result == {"state": "gone"}
    assert (world.image(image).state, world.image(image).sha256) == ("failed", None)
    assert world.app.published() == []


def test_a_job_without_an_image_or_with_a_settled_one_does_nothing(world: World) -> None:
    job = world.app.run_job(fetch_image, image_id=uuid.uuid4(), url="http://a.example/")
    assert (job.state, job.result) == ("succeeded", {"skipped": "image_gone"})
    row = world.fetched("/a.png")
    assert world.fetch(row.id).result == {"skipped": "image_settled"}
    foreign = world.app.run_job(fetch_image, tenant_id="globex", image_id=row.id, url=row.url)
    assert foreign.result == {"skipped": "image_gone"}, "of another workspace"
    assert world.sandbox.images()["requests"] == 1


def test_what_is_our_own_fault_is_retried_as_a_job_and_counts_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trouble(*_: Any, **__: Any) -> None:
        raise DecoderTrouble("no memory")

    monkeypatch.setattr(images, "prepare", trouble)
    image = world.wanted("/a.png")
    job = world.fetch(image)
    assert (job.state, job.waiting_for, world.image(image).attempts) == ("scheduled", "retry", 0)
    world.app.drain()
    assert world.app.job(job.id).state == "failed"
    row = world.image(image)
    assert (row.state, row.attempts, row.code) == ("pending", 1, "trouble")
    monkeypatch.undo()
    settings.cache_clear()


def test_a_store_that_is_away_is_our_own_fault(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise OSError("the store is away")

    monkeypatch.setattr(images, "keep", away)
    image = world.wanted("/a.png")
    assert world.fetch(image).state == "scheduled"
    monkeypatch.setattr(images, "keep", keep)
    world.app.drain()
    assert world.image(image).state == "attached"


def test_a_cancelled_job_settles_its_image(world: World) -> None:
    image = world.wanted("/a.png")
    job = world.app.send(fetch_image, image_id=image, url="x")
    world.app.cancel(job)
    world.app.drain()
    assert (world.image(image).state, world.image(image).code) == ("failed", "cancelled")
    assert world.tick() == 0


def test_the_jobs_subject_is_short(world: World) -> None:
    image = world.wanted("/a.png")
    job = world.app.job(world.app.send(fetch_image, image_id=image, url="http://a.example/" + "x" * 4000))
    assert len(job.subject) < 130


# -- addresses -------------------------------------------------------------------------------------------------


def with_policy(monkeypatch: pytest.MonkeyPatch, canary: Server, **more: Any) -> None:
    """Open the canary's port, so that the address alone keeps from it."""
    chosen = replace(images.policy(), ports=(80, 443, canary.port), **more)
    monkeypatch.setattr(images, "policy", lambda: chosen)


def test_no_spelling_of_a_forbidden_address_reaches_the_canary(
    world: World, canary: Server, dialed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = list(dict.fromkeys(SPELLINGS))
    assert len(hosts) >= 200
    with_policy(monkeypatch, canary, resolve=lambda host, port: ["127.0.0.1"])
    fetched = [world.fetched(f"http://{host}:{canary.port}/a.png") for host in hosts]
    fetched += [world.fetched(url, raw=True) for url in OTHER_URLS]
    assert [row.url for row in fetched if (row.state, row.code) != ("failed", "url_not_allowed")] == []
    assert dialed == []
    assert world.stored() == []


@pytest.mark.parametrize("hosts", [FORBIDDEN_V4, FORBIDDEN_NAMES, [f"[{host}]" for host in FORBIDDEN_V6]])
def test_no_redirect_reaches_the_canary(
    world: World, canary: Server, monkeypatch: pytest.MonkeyPatch, hosts: list[str]
) -> None:
    with_policy(monkeypatch, canary, resolve=lambda host, port: ["127.0.0.1"])
    for host in hosts:
        target = quote(f"http://{host}:{canary.port}/a.png", safe="")
        row = world.fetched(f"/to/a.png?url={target}")
        assert (row.state, row.code) == ("failed", "url_not_allowed"), host


@pytest.mark.parametrize(
    "url",
    [
        "//127.0.0.1:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/_x",
        "http://user:pw@127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "ftp://127.0.0.1/",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_kind_of_redirect_does(
    world: World, canary: Server, monkeypatch: pytest.MonkeyPatch, url: str, status: int
) -> None:
    with_policy(monkeypatch, canary)
    row = world.fetched(f"/to/a.png?status={status}&url={quote(url.format(port=canary.port), safe='')}")
    assert (row.state, row.code) == ("failed", "url_not_allowed")


def test_a_name_that_changes_its_mind_reaches_nothing(
    world: World, canary: Server, dialed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Public when it is checked, loopback when it is asked again: it is asked once for each try."""
    answers = iter([[PUBLIC_ADDRESS], ["127.0.0.1"], ["127.0.0.1"]])
    with_policy(monkeypatch, canary, resolve=lambda host, port: next(answers))
    row = world.fetched(f"http://rebind.example:{canary.port}/a.png")
    assert (row.state, row.code) == ("pending", "url_unreachable")
    assert [address[:2] for address in dialed] == [(PUBLIC_ADDRESS, canary.port)]
    world.tick()
    assert (world.image(row.id).state, world.image(row.id).code) == ("failed", "url_not_allowed")
    assert len(dialed) == 1


@pytest.mark.parametrize("private", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "fd00:ec2::254",
                                     "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fe80::1%eth0"])  # fmt: skip
def test_a_name_with_one_private_address_reaches_nothing(
    world: World, canary: Server, dialed: list[Any], monkeypatch: pytest.MonkeyPatch, private: str
) -> None:
    with_policy(monkeypatch, canary, resolve=lambda host, port: [PUBLIC_ADDRESS, private])
    row = world.fetched(f"http://mixed.example:{canary.port}/a.png")
    assert (row.state, row.code) == ("failed", "url_not_allowed")
    assert dialed == []


def test_the_canary_sings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every address admitted the very same way leads to it."""
    server = Server()
    server.handler = answer(picture("canary.png"))
    with_policy(monkeypatch, server, admits=lambda address: True)
    assert world.fetched(f"http://0x7f.1:{server.port}/a.png").state == "attached"
    assert server.connections == 1
    server.close()


def test_only_the_operator_vouches_for_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMPORTS_IMAGE_TRUSTED_HOSTS", raising=False)
    settings.cache_clear()
    assert images.policy() == Policy()
    monkeypatch.setenv("IMPORTS_IMAGE_TRUSTED_HOSTS", '["sandbox:4010", "[::1]:4010"]')
    settings.cache_clear()
    assert images.policy().trusted == {("sandbox", 4010), ("::1", 4010)}
    settings.cache_clear()


# -- politeness ------------------------------------------------------------------------------------------------


def test_never_more_than_two_of_a_host_at_a_time(
    service_app: Callable[..., ServiceUnderTest], sandbox: Sandbox, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPORTS_IMAGE_TOTAL_SECONDS", "20")
    monkeypatch.setattr("shared.jobs.places._SHORTEST_WAIT", 0.2)
    settings.cache_clear()
    world = World(service_app(service, worker_threads=8), sandbox)
    wanted = []
    for number in range(16):
        tenant = ("acme", "globex")[number % 2]
        wanted.append(world.wanted(f"/slow/{number}.png?seconds=0.2", tenant=tenant))
        world.app.send(fetch_image, tenant_id=tenant, image_id=wanted[-1], url="x")
    world.app.start()
    world.app.drain(60)
    assert {world.image(image).state for image in wanted} == {"attached"}
    counted = sandbox.images()
    assert (counted["requests"], counted["most_open"]) == (16, 2)
    assert sum(job.deferrals for job in world.app.jobs(actor="fetch_image")) > 0
    assert {job.failures for job in world.app.jobs(actor="fetch_image")} == {0}


def test_a_host_is_one_however_it_is_written(world: World) -> None:
    entered, done = threading.Event(), threading.Event()

    def hold() -> None:
        world.app.outside(held)

    def held() -> None:
        with place_at("127.0.0.1", most=2, due=NOW), place_at("127.0.0.1", most=2, due=NOW):
            entered.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(20)
    port = world.sandbox.url.rpartition(":")[2]
    for host in ("127.0.0.1", "127.1", "0x7f000001", "①②⑦.0.0.1"):
        job = world.fetch(world.wanted(f"http://{host}:{port}/images/a.png"))
        assert (job.state, job.waiting_for, job.failures) == ("scheduled", "host_busy", 0)
    with place_at("other.example", most=2, due=NOW):
        done.set()
        thread.join()
    world.app.execute("UPDATE images SET next_attempt_at = now()")
    world.app.drain()
    assert {row.state for row in world.app.query("SELECT state FROM images")} == {"attached"}


def test_who_has_waited_long_comes_back_less_often(world: World) -> None:
    def waits(minutes: float) -> list[float]:
        found = []
        since = datetime.now(UTC) - timedelta(minutes=minutes)
        for _ in range(20):
            with pytest.raises(Snooze) as caught, place_at("a.example", most=0, due=since):
                pass
            found.append((caught.value.until - datetime.now(UTC)).total_seconds())
        return found

    assert all(0.9 < wait < 3.1 for wait in waits(0))
    assert all(29 < wait < 91 for wait in waits(4))
    assert max(waits(600)) < 451


def test_the_picture_of_a_killed_worker_is_fetched_by_the_next(
    service_app: Callable[..., ServiceUnderTest], sandbox: Sandbox, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its place at the host is free again, although nobody gave it back."""
    monkeypatch.setenv("IMPORTS_IMAGE_TOTAL_SECONDS", "120")
    monkeypatch.setenv("IMPORTS_IMAGE_PER_HOST", "1")
    settings.cache_clear()
    world = World(service_app(service, transport="rabbitmq"), sandbox)
    sandbox.faults.add("hang", path="/images/a.png", times=1, seconds=600)
    image = world.wanted("/a.png")
    job = world.app.send(fetch_image, image_id=image, url=world.image(image).url)
    with world.app.worker_process() as first:
        world.app.wait_until(lambda: sandbox.images()["open"] == 1, 60, "the picture to be asked for")
        first.kill()
    with world.app.worker_process():
        assert world.app.wait_for(job, deadline=60).state == "succeeded"
    assert world.image(image).state == "attached"
    assert len(world.app.published(ATTACHED)) == 1
    assert sandbox.images()["paths"]["/images/a.png"]["requests"] == 2


def test_pictures_of_an_import_are_tried_again_by_hand(world: World) -> None:
    """Whether they were given up or are only put off; those of other imports are left alone."""
    ours, other = uuid.uuid4(), uuid.uuid4()
    back, put_off, gone, foreign = (world.wanted(f"/flaky/1/{name}.png") for name in "abcd")
    world.app.execute("UPDATE images SET import_id = :id", id=ours)
    world.app.execute("UPDATE images SET import_id = :other WHERE id = :id", other=other, id=foreign)
    for image in (back, put_off, foreign):
        world.fetch(image)
    world.app.execute(
        "UPDATE images SET state = 'failed', code = 'image_gave_up', settled_at = now(), attempts = 12 "
        "WHERE id = ANY(:ids)",
        ids=[back, foreign],
    )
    world.app.execute("UPDATE images SET url = replace(url, 'flaky/1', 'status/404') WHERE id = :id", id=gone)
    world.fetch(gone)

    job = world.app.run_job(retry_import_images, import_id=ours, file_name="catalog.csv")
    assert (job.state, job.result) == ("succeeded", {"images": 3})
    world.app.drain()

    assert [world.image(image).state for image in (back, put_off, gone, foreign)] == [
        "attached",
        "attached",
        "failed",
        "failed",
    ]
    told = [event.sequence for event in world.app.published(ATTACHED) if event.subject == str(back)]
    assert told == [13], "newer than what was told before"
