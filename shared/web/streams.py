"""Answering a request with a stream of events, and going on where the client left off.

@api.get("/v1/notices/stream", **STREAM)
def follow(identity: Identity) -> flask.Response:
    watch = NoticeWatch(identity.tenant_id, …, since=last_event_id())
    return stream(watch, identity, begin=lambda: watch.offer(…))
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import flask

from shared.web import sse
from shared.web.app import runtime
from shared.web.auth import Identity
from shared.web.sse import Watch

__all__ = ["STREAM", "last_event_id", "stream"]

STREAM: Final[dict[str, Any]] = {
    "answer_type": "text/event-stream",
    "request_headers": {"Last-Event-ID": "The last `id` received, to go on from there."},
}
"""Options of an operation that answers with a stream."""


def last_event_id() -> int:
    """Return the id from which the client goes on, 0 without one."""
    given = flask.request.headers.get("Last-Event-ID", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) <= 18 else 0


def stream(watch: Watch, identity: Identity, begin: Callable[[], None]) -> flask.Response:
    """Answer with the stream of this watch. `begin` offers it what is to be told first, while it watches already.

    Raises Unavailable beyond the limit of open streams.
    """
    here = runtime()
    hub = here.hub
    hub.watch(watch)
    try:
        begin()
    except BaseException:
        hub.forget(watch)
        raise
    life = sse.MAX_LIFE if identity.expires_at is None else max(identity.expires_at - time.time(), 1.0)
    # Both gunicorn and our own server put the connection there.
    client = flask.request.environ.get("gunicorn.socket")
    admitted = partial(here.gate.still_admits, identity)
    opened = hub.open_stream(watch, life=life, client=client, admitted=admitted)
    response = flask.Response(iter(opened), content_type="text/event-stream")
    response.call_on_close(opened.close)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold back what is meant for now
    return response
