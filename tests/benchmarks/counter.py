"""The counter that `accept` measures: one insert and commit, and the same with a job, under three WSGI servers.

python -m tests.benchmarks.counter SERVER PORT          SERVER: gunicorn, granian or waitress
"""

from __future__ import annotations

import sys
from typing import Any

from flask import Flask
from pydantic import BaseModel
from sqlalchemy import create_engine, text

from shared.db import signals, unit_of_work
from shared.runtime.app import App, build
from shared.runtime.settings import Settings, load
from shared.telemetry import configure_telemetry
from shared.web import Answer, Api, WebSettings, accepted, create_app
from shared.web.jobs_view import JobView
from shared.web.keys import Keys
from shared.web.serve import gunicorn_options
from tests.sample.jobs import lease, record
from tests.sample.service import service

THREADS = 16

api = Api("counter", description="What a request costs.")


class Wish(BaseModel):
    key: str


@api.post("/v1/bare", status=201)
def bare(body: Wish) -> Wish:
    """One insert and commit."""
    record(body.key)
    return body


@api.post("/v1/accept", status=202)
def accept(body: Wish) -> Answer[JobView]:
    """The same insert, a job, and commit."""
    with unit_of_work():
        record(body.key)
        return accepted(lease.send(key=body.key))


def make_app() -> Flask:
    """The counter as a service would be: with everything that a request passes through."""
    settings = load(Settings)
    app: App = build(service, settings)
    app.database.use_as_default()
    configure_telemetry(service.name, level=settings.log_level, version="0", env="bench")
    web = create_app(
        [api],
        app.database,
        WebSettings(cursor_secret=app.secrets.cursor_key, jwks=Keys(*app.secrets.jwks), threads=THREADS),
    )
    signals.start(web.extensions["backroom"].database)
    _add_naked(web, app.database.url)
    return web


def _add_naked(web: Flask, url: str) -> None:
    """A WSGI function without Flask, authentication or log line: what the server and the database can do."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), pool_size=THREADS, max_overflow=0)
    inner = web.wsgi_app

    def route(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/naked":
            return inner(environ, start_response)
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO done (tenant_id, key, attempt) VALUES ('acme', 'k', 1)"))
        start_response("201 Created", [("Content-Type", "application/json"), ("Content-Length", "2")])
        return [b"{}"]

    web.wsgi_app = route  # type: ignore[method-assign]


def _gunicorn(port: int) -> None:
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self) -> None:
            for key, value in gunicorn_options(bind=f"127.0.0.1:{port}", threads=THREADS).items():
                self.cfg.set(key, value)

        def load(self) -> Any:
            return make_app()

    Application().run()


def _granian(port: int) -> None:
    from granian import Granian

    Granian(
        "tests.benchmarks.counter:make_app",
        factory=True,
        address="127.0.0.1",
        port=port,
        interface="wsgi",
        workers=1,
        blocking_threads=THREADS,
        log_enabled=False,
    ).serve()


def _waitress(port: int) -> None:
    import waitress

    waitress.serve(make_app(), host="127.0.0.1", port=port, threads=THREADS)


if __name__ == "__main__":
    {"gunicorn": _gunicorn, "granian": _granian, "waitress": _waitress}[sys.argv[1]](int(sys.argv[2]))
