"""From declarations to a WSGI app: routing, context, tracing, metrics, the log line, problems, probes.

    app = create_app([api], database, WebSettings(jwks=…, cursor_secret=…))

Requests get database connections of their own pool, on which each statement is cut off after the Rule's two
seconds; work in the back room, which may take longer and may share the process in embedded mode, keeps its
own. No unit of work is opened for a handler: it opens its own, so that it is plain what is one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import flask
from flask import Flask
from prometheus_client.exposition import choose_encoder
from werkzeug.routing import IntegerConverter

from shared.context import use
from shared.db import Database
from shared.outbound.guard import install_guard
from shared.telemetry.metrics import REGISTRY
from shared.telemetry.traces import inject, request_span
from shared.web import problems, rule
from shared.web.api import Api
from shared.web.auth import Authenticator, TokenVerifier
from shared.web.dispatch import view_of
from shared.web.errors import problem_of
from shared.web.exchange import ENVIRON_KEY, Exchange, exchange
from shared.web.health import Check, Health
from shared.web.keys import Keys
from shared.web.openapi import document
from shared.web.prefer import Waiters
from shared.web.sse import Hub
from shared.web.standing import Gate

__all__ = ["Runtime", "WebSettings", "create_app", "runtime"]

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def _version() -> str:
    try:
        return version("backroom")
    except PackageNotFoundError:
        return "0"


@dataclass(frozen=True)
class WebSettings:
    """What the web kit wants to be told."""

    cursor_secret: bytes
    """Signs the cursors of lists; the same in all processes of a service."""

    jwks: Keys | dict[str, Any] = field(default_factory=lambda: {"keys": []})
    """Public keys of whoever issues tokens; `Keys` are read again in the background while the app serves."""

    threads: int = 16
    """Requests that one process serves at a time; the size of its pool of connections."""

    title: str = "Backroom"
    version: str = field(default_factory=_version)

    max_streams: int = 64
    """Event streams open at a time per process; each holds a thread."""

    max_waiters: int = 8
    """Requests with `Prefer: wait` that wait at a time per process; each holds a thread."""


class Runtime:
    """What belongs to one app: found under `app.extensions["backroom"]` and by `runtime()`."""

    def __init__(
        self,
        apis: Sequence[Api],
        database: Database,
        settings: WebSettings,
        health: Health,
        keys: Keys,
        gate: Gate,
    ) -> None:
        self.service = apis[0].name
        self.database = database
        self.settings = settings
        self.operations = [operation for api in apis for operation in api.operations]
        self.health = health
        self.keys = keys
        self.explain = next((api.explain for api in apis if api.explain is not None), None)
        self.gate = gate
        self.hub = Hub(database, max_streams=settings.max_streams)
        self.waiters = Waiters(settings.max_waiters)

    def drain(self) -> None:
        """Be not ready from now on, and end what would keep the server from stopping."""
        self.health.drain()
        self.keys.stop()
        self.hub.stop()
        self.gate.stop()

    def close(self) -> None:
        """Release what the app holds. The app cannot serve afterwards."""
        self.drain()
        self.database.dispose()


def runtime() -> Runtime:
    """The runtime of the app that serves the current request."""
    return flask.current_app.extensions["backroom"]


def create_app(
    apis: Api | Iterable[Api],
    database: Database,
    settings: WebSettings,
    *,
    authenticator: Authenticator | None = None,
    migrations: Check | None = None,
    checks: Mapping[str, Check] | None = None,
) -> Flask:
    """Return the Flask app of a service.

    The first api's name is the service's. `authenticator` replaces the verifier of tokens under
    `settings.jwks`. `migrations` tells whether the database stands at the heads that this code knows;
    `checks` are further conditions of readiness.
    Raises ValueError when two operations share a method and path.
    """
    apis = [apis] if isinstance(apis, Api) else list(apis)
    keys = settings.jwks if isinstance(settings.jwks, Keys) else Keys(settings.jwks)
    authenticate = authenticator or TokenVerifier(keys)
    own = Database(database.url, pool_size=settings.threads, statement_timeout=rule.MAX_SECONDS)
    gate = Gate(own)
    health = Health(own, migrations=migrations, checks={"refusals": gate.ready, **(checks or {})})

    app = Flask(apis[0].name, static_folder=None)
    here = app.extensions["backroom"] = Runtime(apis, own, settings, health, keys, gate)
    keys.start()
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.url_map.merge_slashes = False  # a redirect would be an answer that nobody declared
    app.url_map.converters["int"] = _Int64
    app.register_error_handler(Exception, _answer_problem)
    app.after_request(_complete)

    seen: set[tuple[str, str]] = set()
    for operation in here.operations:
        if (operation.method, operation.path) in seen:
            raise ValueError(f"{operation.method} {operation.path} is declared twice")
        seen.add((operation.method, operation.path))
        app.add_url_rule(
            operation.path,
            endpoint=operation.name,
            view_func=view_of(operation, authenticate, gate),
            methods=[operation.method],
            provide_automatic_options=False,
        )
    _add_own_routes(app, apis, health)
    rule.install()
    install_guard()
    app.wsgi_app = _Pipeline(app.wsgi_app, here)  # type: ignore[method-assign]
    return app


class _Int64(IntegerConverter):
    """An integer of the path that PostgreSQL can hold; a larger one names nothing, hence 404."""

    def __init__(self, map: Any, max: int = (1 << 63) - 1, **options: Any) -> None:
        super().__init__(map, max=max, **options)


class _Pipeline:
    """The WSGI layer around Flask: so that what Flask itself answers has an id, a span and a log line too."""

    def __init__(self, inner: Any, runtime: Runtime) -> None:
        self._inner = inner
        self._runtime = runtime

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        facts = Exchange(environ)
        environ[ENVIRON_KEY] = facts
        service, database = self._runtime.service, self._runtime.database
        bound = database.bind()
        try:
            with (
                use(
                    service=service,
                    tenant_id=None,
                    principal=None,
                    role=None,
                    request_id=facts.request_id,
                    correlation_id=facts.request_id,
                    causation_id=None,
                    in_request=True,
                ),
                request_span(facts.method, traceparent=environ.get("HTTP_TRACEPARENT")) as span,
            ):
                answer = self._inner(environ, start_response)
                span.status(facts.status)
                if facts.route is not None:
                    span.route(facts.route)
                facts.finish()
                return answer
        finally:
            database.unbind(bound)


def _answer_problem(error: Exception) -> flask.Response:
    problem = problem_of(error)
    exchange().problem = problem.code()
    return problem.response()


def _complete(response: flask.Response) -> flask.Response:
    facts = exchange()
    facts.status = response.status_code
    if flask.request.url_rule is not None:
        facts.route = flask.request.url_rule.rule
    headers = response.headers
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    headers["X-Request-Id"] = facts.request_id
    traceparent = inject()
    if traceparent is not None:
        headers["traceparent"] = traceparent
    return response


def _add_own_routes(app: Flask, apis: list[Api], health: Health) -> None:
    made: list[str] = []

    def add(path: str, view: Any) -> None:
        app.add_url_rule(path, endpoint=path, view_func=view, provide_automatic_options=False)

    def openapi() -> flask.Response:
        if not made:
            settings: WebSettings = app.extensions["backroom"].settings
            made.append(json.dumps(document(apis, title=settings.title, version=settings.version)))
        return flask.Response(made[0], content_type="application/json")

    def metrics() -> flask.Response:
        encode, content_type = choose_encoder(flask.request.headers.get("Accept", ""))
        return flask.Response(encode(REGISTRY), content_type=content_type)

    def all_problems() -> flask.Response:
        return flask.jsonify({"items": [_explained(kind) for kind in problems.registered()]})

    def one_problem(slug: str) -> flask.Response:
        kind = problems.find(slug)
        if kind is None:
            raise problems.NotFound()
        return flask.jsonify(_explained(kind))

    add("/livez", health.live)
    add("/readyz", health.ready)
    add("/metrics", metrics)
    add("/openapi.json", openapi)
    add("/problems", all_problems)
    add("/problems/<slug>", one_problem)


def _explained(kind: type[problems.Problem]) -> dict[str, Any]:
    return {
        "type": kind.type_uri(),
        "title": kind.title,
        "status": kind.status,
        "code": kind.code(),
        "retryable": kind.retryable,
        "explanation": kind.explanation(),
    }
