"""Pictures that samples asked for by URL: fetched, looked at, stored, attached.

What cannot be had is a result, and no failed job: the image says why, and its import's report counts it. What may
pass (an outage, a limit) is written into the image with the time of the next try, and the job ends well; then
`retry_images` hands it out again, twelve tries in all. Only what goes wrong on our side uses the job's own retries,
and if it lasts, it counts as a try, too: no image is tried for ever.

An image is settled in one commit with its job and its event. Whatever the fetch brought is thrown away when the
sample went meanwhile, or somebody else was faster.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.imports.jobs.image_files import clean_up_images, keep
from services.imports.models import Image
from services.imports.pictures import DecoderTrouble, NotAPicture, Picture, prepare
from services.imports.settings import settings
from shared.db import unit_of_work
from shared.events import publish
from shared.events.contracts.imports import ImageAttached, ImageFailed
from shared.jobs import Retry, Skip, Snooze, Verdict, actor, completion, cron
from shared.jobs.places import place_at
from shared.jobs.reconcile import Found, queue_again
from shared.outbound import ProviderError, RateLimited, Refused
from shared.outbound.addresses import parse
from shared.outbound.fetch import Policy, fetch

__all__ = ["clean_up_images", "fetch_image", "policy", "retry_images"]

BETWEEN: Final = timedelta(minutes=5)
"""Between two tries; a host that asks for more gets more."""

_MOST: Final = 200
"""Images that one tick hands out."""
_AHEAD: Final = timedelta(minutes=1)
"""A tick also hands out what falls due shortly after it, which would have to wait for the next one otherwise."""

# For each image in turn the index of live jobs is asked, until there are enough; so the states are written out, and
# the question is one that no planner turns into a join of all images with all jobs, of which a large import has many.
_DUE: Final = """
SELECT tenant_id, id, url FROM images
WHERE state = 'pending' AND next_attempt_at < :by AND (
    SELECT true FROM jobs
    WHERE jobs.actor = 'fetch_image' AND jobs.tenant_id = images.tenant_id
      AND jobs.unique_key = 'image_id=' || images.id::text AND jobs.state IN ('scheduled', 'queued', 'running')
    LIMIT 1
) IS NULL
ORDER BY next_attempt_at LIMIT :most
"""


class _NotNow(Exception):
    """Another try may do better, not before so many seconds."""

    def __init__(self, code: str, seconds: float = 0.0) -> None:
        super().__init__(code)
        self.code = code
        self.seconds = seconds


@actor(queue_name="images", unique="image_id", subject="Picture {url:.100}")
def fetch_image(image_id: UUID, url: str) -> None:
    """Get the picture of one image."""
    image = _wanted(image_id)
    with tempfile.TemporaryFile(prefix="backroom-image-") as file:
        try:
            picture = _picture(image, file)
        except NotAPicture as error:
            return _failed(image_id, error.code)
        except _NotNow as error:
            return _put_off(image_id, error)
    result = {"state": "gone"}
    with completion(result) as session:
        fresh = _pending(session, image_id)
        if fresh is not None:
            _attach(session, fresh, picture)
            result["state"] = fresh.state


@fetch_image.failed
def _ended(verdict: Verdict, image_id: UUID, url: str) -> None:
    """The job came to nothing through our own fault, or was cancelled; the image must not be tried for ever."""
    with unit_of_work() as session:
        image = _pending(session, image_id)
        if image is None:
            return
        if verdict.state == "cancelled":
            _settle_as_failed(session, image, "cancelled")
        else:
            _count_a_try(session, image, _NotNow("trouble"))


@actor(
    queue_name="default",
    unique=(),
    subject="Try pictures again",
    periodic=cron("*/5 * * * *"),
)
def retry_images() -> dict[str, int]:
    """Have those pictures fetched that are due and of which no job is under way, the longest due first."""
    with unit_of_work(system=True) as session:
        return {"images": queue_again(fetch_image, _due(session))}


def policy() -> Policy:
    """What may be fetched: the public internet, and what the operator of this machine vouches for."""
    return Policy.trusting(settings().image_trusted_hosts)


def _wanted(image_id: UUID) -> Image:
    with unit_of_work() as session:
        image = session.get(Image, image_id)
    if image is None:
        raise Skip("image_gone")
    if image.state != "pending":
        raise Skip("image_settled")
    if image.next_attempt_at > datetime.now(UTC):
        raise Snooze("picture_not_due", until=image.next_attempt_at)
    return image


def _picture(image: Image, file: BinaryIO) -> Picture:
    """Fetch, judge and store. Raises NotAPicture for good, _NotNow for now, and what is our own fault."""
    limits = settings()
    try:
        # In its only spelling: nobody gets a third place by writing the host in another way.
        host = parse(image.url).host
        with place_at(host, most=limits.image_per_host, due=image.next_attempt_at):
            fetch(
                image.url,
                max_bytes=limits.image_max_bytes,
                total=limits.image_total_seconds,
                connect=limits.image_connect_seconds,
                into=file,
                policy=policy(),
            )
    except Refused as error:
        raise NotAPicture("image_too_large" if error.code == "too_large" else error.code, error.detail) from error
    except RateLimited as error:
        raise _NotNow(error.code, error.retry_after) from error
    except ProviderError as error:
        raise _NotNow(error.code) from error
    try:
        prepared = prepare(file, max_pixels=limits.image_max_pixels)
    except DecoderTrouble as error:
        raise Retry("picture_not_looked_at", str(error)) from error
    keep(file, prepared)
    return prepared.picture


def _pending(session: Session, image_id: UUID) -> Image | None:
    """Lock the image; None where it is settled, or gone with its sample."""
    image = session.get(Image, image_id, with_for_update=True, populate_existing=True)
    return image if image is not None and image.state == "pending" else None


def _attach(session: Session, image: Image, picture: Picture) -> None:
    image.state, image.code, image.settled_at = "attached", None, datetime.now(UTC)
    image.attempts += 1
    image.sha256, image.media_type, image.size = picture.sha256, picture.media_type, picture.size
    image.width, image.height = picture.width, picture.height
    publish(
        session,
        ImageAttached(
            image_id=image.id,
            sample_id=image.sample_id,
            media_type=picture.media_type,
            width=picture.width,
            height=picture.height,
        ),
        subject=image.id,
        sequence=image.attempts,
    )


def _failed(image_id: UUID, code: str) -> None:
    result = {"state": "gone", "code": code}
    with completion(result) as session:
        image = _pending(session, image_id)
        if image is not None:
            image.attempts += 1
            _settle_as_failed(session, image, code)
            result["state"] = image.state


def _put_off(image_id: UUID, why: _NotNow) -> None:
    result = {"state": "gone", "code": why.code}
    with completion(result) as session:
        image = _pending(session, image_id)
        if image is not None:
            _count_a_try(session, image, why)
            result["state"] = image.state


def _count_a_try(session: Session, image: Image, why: _NotNow) -> None:
    image.attempts += 1
    if image.attempts >= settings().image_attempts:
        session.execute(text("UPDATE images SET reason = :reason WHERE id = :id"), {"reason": why.code, "id": image.id})
        _settle_as_failed(session, image, "image_gave_up")
    else:
        image.code = why.code
        image.next_attempt_at = datetime.now(UTC) + max(BETWEEN, timedelta(seconds=why.seconds))


def _settle_as_failed(session: Session, image: Image, code: str) -> None:
    image.state, image.code, image.settled_at = "failed", code, datetime.now(UTC)
    publish(
        session,
        ImageFailed(image_id=image.id, sample_id=image.sample_id, url=image.url, code=code),
        subject=image.id,
        sequence=image.attempts,
    )


def _due(session: Session) -> list[Found]:
    rows = session.execute(text(_DUE), {"by": datetime.now(UTC) + _AHEAD, "most": _MOST})
    return [(row.tenant_id, {"image_id": row.id, "url": row.url}) for row in rows]
