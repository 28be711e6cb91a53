"""Test servers: found in the promised order, kept apart from other runs, and killed only when private."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pika
import pika.exceptions
import psycopg
import pytest

from shared.runtime.embedded import postgres as embedded
from shared.runtime.embedded.waiting import wait_until
from shared.testing import postgres as postgres_module
from shared.testing import rabbitmq as rabbitmq_module
from shared.testing import server as server_module
from shared.testing import servers
from shared.testing.server import free_port, run_directory
from shared.testing.servers import (
    PostgresServer,
    PrivatePostgres,
    PrivateRabbit,
    RabbitServer,
    ServerMissing,
    postgres_server,
    rabbitmq_server,
    skip_or_fail,
)

DATABASE_URL = "BACKROOM_TEST_DATABASE_URL"
BROKER_URL = "BACKROOM_TEST_BROKER_URL"


@pytest.fixture(scope="module")
def private_rabbit() -> Iterator[PrivateRabbit]:
    with rabbitmq_server(private=True) as server:
        yield server


def databases(server: PostgresServer) -> set[str]:
    with psycopg.connect(server.url) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}


def name_of(url: str) -> str:
    return urlsplit(url).path[1:]


def can_connect(url: str) -> bool:
    try:
        pika.BlockingConnection(pika.URLParameters(url)).close()
    except (pika.exceptions.AMQPError, OSError):
        return False
    return True


def can_query(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def publish(url: str, body: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", "orders", body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def fetch(url: str) -> bytes | None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        _, _, body = connection.channel().basic_get("orders", auto_ack=True)
        return body


def test_a_fresh_database_is_empty_and_dropped_in_spite_of_open_connections(postgres: PostgresServer) -> None:
    with postgres.fresh_database("Orders & more") as url:
        connection = psycopg.connect(url)
        connection.execute("CREATE TABLE orders (id int)")
        assert name_of(url) in databases(postgres)
    assert name_of(url) not in databases(postgres)
    connection.close()


def test_a_fresh_database_may_be_a_copy_of_another(postgres: PostgresServer) -> None:
    with postgres.fresh_database("template") as template:
        with psycopg.connect(template) as connection:
            connection.execute("CREATE TABLE orders AS SELECT 7 AS id")
        with postgres.fresh_database("copy", template=template) as url, psycopg.connect(url) as connection:
            assert connection.execute("SELECT id FROM orders").fetchone() == (7,)


def test_databases_of_a_killed_run_are_dropped_and_those_of_a_living_one_kept() -> None:
    with ExitStack() as stack:
        private = stack.enter_context(postgres_server(private=True))
        killed, living, later = (PostgresServer(private.url) for _ in range(3))
        for server in (killed, living, later):
            stack.callback(server.close)
        left = name_of(killed.fresh_database("left").__enter__())
        # A killed process takes its connection along, and with it the claim on its databases.
        killed.close()
        kept = name_of(stack.enter_context(living.fresh_database("kept")))
        stack.enter_context(later.fresh_database("new"))
        assert left not in databases(private)
        assert kept in databases(private)


def test_a_private_postgres_comes_back_at_the_same_url_with_its_data() -> None:
    with postgres_server(private=True) as server, server.fresh_database("orders") as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE orders AS SELECT 7 AS id")
        for interrupt in (server.kill, server.stop):
            interrupt()
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(url)
            server.start()
            with psycopg.connect(url) as connection:
                assert connection.execute("SELECT id FROM orders").fetchone() == (7,)


def test_a_fresh_vhost_is_usable_and_deleted(rabbitmq: RabbitServer) -> None:
    with rabbitmq.fresh_vhost("orders") as url:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            connection.channel().queue_declare("orders", durable=True, arguments={"x-queue-type": "quorum"})
        assert url != rabbitmq.url
    assert not can_connect(url)


def test_a_private_rabbit_comes_back_at_the_same_url_with_its_messages(private_rabbit: PrivateRabbit) -> None:
    with private_rabbit.fresh_vhost() as url:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            connection.channel().queue_declare("orders", durable=True)
        publish(url, b"before the restart")
        private_rabbit.restart()
        assert fetch(url) == b"before the restart"
        # Only now is the queue itself on the disk: RabbitMQ writes down what it declared when it gets round to it.
        publish(url, b"before the kill")
        private_rabbit.kill()
        assert not can_connect(url)
        private_rabbit.start()
        assert fetch(url) == b"before the kill"


def test_a_private_rabbit_is_nobody_elses(private_rabbit: PrivateRabbit, rabbitmq: RabbitServer) -> None:
    assert private_rabbit.is_private
    assert private_rabbit.url != rabbitmq.url
    port = urlsplit(private_rabbit.url).port
    assert urlsplit(private_rabbit.url).hostname == "127.0.0.1"
    assert port is not None
    assert 20_000 <= port <= 32_000


def test_a_given_url_comes_first(
    monkeypatch: pytest.MonkeyPatch, private_rabbit: PrivateRabbit, postgres: PostgresServer
) -> None:
    monkeypatch.setenv(DATABASE_URL, f"{postgres.url}?application_name=given")
    with postgres_server() as server:
        assert server.url.endswith("application_name=given")
    # What creates virtual hosts serves the system's own node, so this one shows that its answer is checked.
    monkeypatch.setenv(BROKER_URL, private_rabbit.url)
    with pytest.raises(ServerMissing, match=BROKER_URL):
        rabbitmq_server()


def test_a_given_url_that_does_not_answer_is_a_mistake_not_a_reason_to_look_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DATABASE_URL, f"postgresql://127.0.0.1:{free_port()}/postgres")
    monkeypatch.setenv(BROKER_URL, f"amqp://127.0.0.1:{free_port()}")
    with pytest.raises(ServerMissing, match=DATABASE_URL):
        postgres_server()
    with pytest.raises(ServerMissing, match=BROKER_URL):
        rabbitmq_server()


def test_without_a_local_server_a_private_one_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATABASE_URL, raising=False)
    monkeypatch.setattr(servers, "LOCAL_DATABASE_URLS", (f"postgresql://127.0.0.1:{free_port()}/postgres",))
    with postgres_server() as server:
        assert isinstance(server, PrivatePostgres)
        psycopg.connect(server.url).close()


def test_without_programs_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(package: str) -> bool:
        asked.append(package)
        return False

    monkeypatch.setattr(embedded, "find_binaries", lambda: iter([]))
    monkeypatch.setattr(rabbitmq_module, "_find_programs", lambda: None)
    for module in (postgres_module, rabbitmq_module):
        monkeypatch.setattr(module, "apt_install", refuse)
    with pytest.raises(ServerMissing, match=DATABASE_URL):
        postgres_server(private=True)
    with pytest.raises(ServerMissing, match=BROKER_URL):
        rabbitmq_server(private=True)
    assert asked == ["postgresql", "rabbitmq-server"]


def test_packages_are_installed_by_root_on_debian_only(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(server_module.subprocess, "run", run)
    monkeypatch.setattr(server_module.os, "geteuid", lambda: 1000)
    assert not server_module.apt_install("postgresql")
    monkeypatch.setattr(server_module.os, "geteuid", lambda: 0)
    monkeypatch.setattr(server_module.shutil, "which", lambda _: None)
    assert not server_module.apt_install("postgresql")
    assert not ran
    monkeypatch.setattr(server_module.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert server_module.apt_install("postgresql")
    assert [command[1] for command in ran] == ["update", "install"]


def test_a_missing_server_is_a_skip_on_a_laptop_and_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="nothing there"):
        skip_or_fail(ServerMissing("nothing there"))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nothing there"):
        skip_or_fail(ServerMissing("nothing there"))


@pytest.mark.parametrize("kind", ["postgres_server", "rabbitmq_server"])
def test_servers_of_a_killed_run_are_ended_by_the_next_one(kind: str) -> None:
    program = (
        "import signal, sys\n"
        f"from shared.testing.servers import {kind}\n"
        f"server = {kind}(private=True)\n"
        "print(server.url, flush=True)\n"
        "signal.pause()\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert run.stdout
    url = run.stdout.readline().strip()
    answers = can_connect if kind == "rabbitmq_server" else can_query
    run.kill()
    run.wait()
    assert answers(url)
    with run_directory("next"):
        assert wait_until(lambda: not answers(url), 30)
