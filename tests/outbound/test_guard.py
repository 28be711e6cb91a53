"""Every way in which a handler could call out raises; what a handler needs does not.

The hook cannot be taken out of a process again, but outside of requests it does nothing.
"""

from __future__ import annotations

import asyncio
import ftplib
import imaplib
import multiprocessing
import os
import poplib
import smtplib
import socket
import subprocess
import sys
import threading
import timeit
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import requests
import urllib3
from sqlalchemy import text

from shared.context import use
from shared.db.database import Database, unit_of_work
from shared.outbound.guard import RuleViolation, _hook, allowed, check, install_guard
from tests.outbound.raw_server import Server

WAYS: dict[str, Callable[[str, int], Any]] = {
    "requests": lambda host, port: requests.get(f"http://{host}:{port}", timeout=1),
    "urllib3": lambda host, port: urllib3.PoolManager().request("GET", f"http://{host}:{port}", retries=False),
    "urllib": lambda host, port: urllib.request.urlopen(f"http://{host}:{port}", timeout=1),
    "http_name": lambda host, port: requests.get("http://example.invalid", timeout=1),
    "socket": lambda host, port: socket.create_connection((host, port), timeout=1),
    "connect_ex": lambda host, port: socket.socket().connect_ex((host, port)),
    "udp": lambda host, port: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", (host, port)),
    "getaddrinfo": lambda host, port: socket.getaddrinfo("example.invalid", 80),
    "gethostbyname": lambda host, port: socket.gethostbyname("example.invalid"),
    "gethostbyaddr": lambda host, port: socket.gethostbyaddr("127.0.0.1"),
    "smtplib": lambda host, port: smtplib.SMTP(host, port, timeout=1),
    "ftplib": lambda host, port: ftplib.FTP(host, timeout=1),  # noqa: S321
    "imaplib": lambda host, port: imaplib.IMAP4(host, port, timeout=1),
    "poplib": lambda host, port: poplib.POP3(host, port, timeout=1),
    "subprocess": lambda host, port: subprocess.run(["true"], check=True),
    "os_system": lambda host, port: os.system("true"),  # noqa: S605
    "posix_spawn": lambda host, port: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}),
    "fork": lambda host, port: os.fork() or os._exit(0),
    "process": lambda host, port: multiprocessing.get_context("fork").Process(target=print).start(),
    "thread": lambda host, port: threading.Thread(target=print).start(),
    "timer": lambda host, port: threading.Timer(0, print).start(),
    "pool": lambda host, port: ThreadPoolExecutor(1).submit(print),
    "asyncio": lambda host, port: asyncio.run(asyncio.open_connection(host, port)),
}


@pytest.fixture(autouse=True, scope="module")
def _guarded() -> None:
    install_guard()
    install_guard()


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("where", [{"in_request": True}, {"no_outgoing": "a transactional job"}])
def test_every_way_out_is_closed(server: Server, how: str, where: dict[str, Any]) -> None:
    with use(**where), pytest.raises(RuleViolation):
        WAYS[how]("127.0.0.1", server.port)
    assert server.connections == 0


def test_outside_of_requests_nothing_is_closed(server: Server) -> None:
    assert requests.get(server.url, timeout=5).status_code == 200
    subprocess.run(["true"], check=True)
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def test_the_database_stays_open(tenant: str, database: Database) -> None:
    fresh = Database(database.url)  # no connection yet: one is made inside of the request
    with use(in_request=True), unit_of_work(database=fresh) as session:
        assert session.execute(text("SELECT 1")).scalar() == 1
    with use(in_request=True), psycopg.connect(database.url) as connection:
        connection.execute("SELECT 1")
    fresh.dispose()


def test_the_database_may_have_a_name(database: Database) -> None:
    with use(in_request=True), pytest.raises(psycopg.OperationalError):
        psycopg.connect("postgresql://localhost:1/none", connect_timeout=2)
    with use(in_request=True), pytest.raises(RuleViolation):
        socket.getaddrinfo("localhost", 1)


def test_a_local_socket_is_no_third_party(tmp_path: Any) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        with use(in_request=True), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"a line", path)
            sender.connect(path)
        assert listener.recv(10) == b"a line"


def test_the_message_says_what_and_why(server: Server) -> None:
    with use(in_request=True), pytest.raises(RuleViolation) as caught:
        requests.get(f"{server.url}/?token=sesame", timeout=1)
    assert str(caught.value).startswith("socket.getaddrinfo 127.0.0.1: not while an HTTP request is being served")
    with use(no_outgoing="a transactional job"), pytest.raises(RuleViolation) as caught:
        subprocess.run(["curl", "-u", "me:sesame"], check=False)
    assert str(caught.value).startswith("subprocess.Popen curl: not while in a transactional job")


def test_a_refused_thread_leaves_no_trace() -> None:
    before = threading.active_count()
    with use(in_request=True), pytest.raises(RuleViolation, match="starting the thread stray"):
        threading.Thread(target=print, name="stray").start()
    assert threading.active_count() == before


def test_what_serves_the_process_may_start_in_a_request() -> None:
    done = threading.Event()
    with use(in_request=True):
        with allowed("the one listener of this process"):
            threading.Thread(target=done.set).start()
        with pytest.raises(RuleViolation):
            check("a call")
        with pytest.raises(ValueError, match="say why"), allowed(""):
            pass
    assert done.wait(5)


def test_it_costs_nothing_outside_of_requests() -> None:
    rounds = 20_000
    for name in ("object.__getattr__", "socket.connect"):
        best = min(timeit.repeat(lambda name=name: _hook(name, ()), number=rounds, repeat=5))
        assert best / rounds < 1e-6, name
