"""Embedded, the sandbox is the mail server: what is mailed can be read there, and links can be followed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.notifications.providers.smtp import mailer
from services.notifications.service import service
from services.notifications.settings import settings
from shared.context import use
from shared.events.contracts.workspaces import LinkIssued
from shared.jobs.handlers import receive
from shared.jobs.wire import Delivery
from shared.outbound import vault
from shared.runtime.embedded.group import Group
from shared.runtime.settings import Settings
from shared.testing.events import cloud_event
from shared.testing.postgres import PostgresServer


def test_a_link_arrives_in_the_sandbox(postgres: PostgresServer, tmp_path: Path) -> None:
    settings.cache_clear()
    mailer.cache_clear()
    with postgres.fresh_database("notifications") as url:
        template = url + ("&" if "?" in url else "?") + "application_name={service}"
        chosen = Settings(database_url=template, data_dir=tmp_path, port=18700, log_level="ERROR")
        with Group(chosen, services=[service], sandbox={"port": 0}) as group:
            app = group.members["notifications"].app
            link = LinkIssued.example().model_copy(
                update={
                    "url_sealed": vault.seal("acme", "link.url", "https://acme.example/sign-in?token=abc"),
                    "expires_at": datetime.now(UTC) + timedelta(minutes=15),
                }
            )
            token = app.database.bind()
            with use(service="notifications"):
                receive(app.handlers, Delivery(cloud_event(link)))
            app.database.unbind(token)
            sandbox = group.sandbox
            assert sandbox is not None
            sandbox.wait(lambda: sandbox.mails(to="eve@example.com"), 30)
            assert sandbox.mail_link("eve@example.com") == "https://acme.example/sign-in?token=abc"
    settings.cache_clear()
    mailer.cache_clear()
