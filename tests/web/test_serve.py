"""The server within the process keeps connections, stands odd clients, and stops gracefully; so does gunicorn."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from shared.db import Database
from shared.testing.server import free_port
from shared.web import Signer
from shared.web.serve import Server, gunicorn_options

from .jobs import Jobs

ROOT = Path(__file__).parents[2]


def say(server: Server, *parts: bytes) -> bytes:
    """Send raw bytes; return all that comes until the server closes, or resets what it no longer wants to read."""
    answer = b""
    with socket.create_connection((server.host, server.port), timeout=10) as connection, suppress(ConnectionError):
        try:
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET):
                raise
        while data := connection.recv(65536):
            answer += data
    return answer


def test_connections_are_kept(server: Server, signer: Signer) -> None:
    headers = {"Authorization": f"Bearer {signer.issue('acme', 'user:ada', 'owner')}"}
    with requests.Session() as session:
        ports = set()
        for number in range(5):
            answer = session.post(
                f"{server.url}/v1/things", json={"name": f"Box {number}"}, headers=headers, stream=True
            )
            ports.add(answer.raw._connection.sock.getsockname()[1])
            assert answer.json()["name"] == f"Box {number}"
    assert len(ports) == 1


def test_unread_bodies_do_not_spoil_the_connection(server: Server) -> None:
    body = b'{"name": "Box"}'
    refused = b"POST /v1/things HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    answer = say(server, refused, refused, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.count(b"HTTP/1.1 401 ") == 2
    assert answer.count(b"HTTP/1.1 200 ") == 1


def test_chunked_bodies(server: Server) -> None:
    head = b"POST /v1/hooks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = say(
        server, head, b"5\r\nhello\r\n", b"6\r\n world\r\n0\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert b'{"size":11}' in answer
    assert answer.count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/hooks HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/hooks HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/hooks HTTP/1.1\r\nContent-Length: five\r\n\r\n",
        b"POST /v1/hooks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnot a length\r\n",
        b"nonsense\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_odd_requests_close_the_connection(server: Server, head: bytes) -> None:
    answer = say(server, head, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"ok\n" not in answer
    assert b"HTTP/1.1 2" not in answer
    assert requests.get(f"{server.url}/livez", timeout=5).status_code == 200


def test_old_clients(server: Server) -> None:
    answer = say(server, b"GET /livez HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"ok\n")
    assert b"Connection: close" in answer


def test_only_so_many_at_a_time(server: Server, signer: Signer) -> None:
    headers = {"Authorization": f"Bearer {signer.issue('acme', 'user:ada', 'owner')}"}
    started = time.monotonic()
    slow = [
        threading.Thread(target=requests.post, args=(f"{server.url}/v1/unruly/slow-code",), kwargs={"headers": headers})
        for _ in range(9)
    ]
    for each in slow:
        each.start()
    for each in slow:
        each.join()
    assert time.monotonic() - started > 4, "with eight places the ninth waits for its turn"


def test_stopping_waits_for_those_under_way(server: Server, signer: Signer) -> None:
    headers = {"Authorization": f"Bearer {signer.issue('acme', 'user:ada', 'owner')}"}
    answers = []

    def slow() -> None:
        answers.append(requests.post(f"{server.url}/v1/unruly/slow-code", headers=headers, timeout=10))

    thread = threading.Thread(target=slow)
    thread.start()
    time.sleep(0.5)
    server.stop()
    thread.join()
    assert answers[0].json()["code"] == "rule_too_long"
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/livez", timeout=2)


def test_gunicorn(database: Database, signer: Signer, jobs: Jobs, tmp_path: Path) -> None:
    """The real server: streams do not hold up its end."""
    port = free_port()
    options = gunicorn_options(bind=f"127.0.0.1:{port}", threads=4)
    assert options["worker_class"] == "gthread"
    program = tmp_path / "program.py"
    program.write_text(
        f"""
from gunicorn.app.base import BaseApplication
from shared.db import Database
from shared.web import WebSettings, create_app, jobs_api
from shared.web.serve import gunicorn_options

class Program(BaseApplication):
    def load_config(self):
        for name, value in gunicorn_options(bind="127.0.0.1:{port}", threads=4).items():
            self.cfg.set(name, value)

    def load(self):
        settings = WebSettings(cursor_secret=b"x", jwks={json.dumps(signer.jwks())})
        return create_app(jobs_api.api("sample", {{}}), Database({database.url!r}), settings)

Program().run()
"""
    )
    process = subprocess.Popen([sys.executable, str(program)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                assert requests.get(f"{url}/readyz", timeout=2).status_code == 200
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        headers = {"Authorization": f"Bearer {signer.issue('acme', 'user:ada', 'owner')}"}
        job_id = jobs.add()
        assert requests.get(f"{url}/v1/jobs/{job_id}", headers=headers, timeout=5).json()["id"] == job_id
        stream = requests.get(f"{url}/v1/jobs/{job_id}/events", headers=headers, timeout=10, stream=True)
        lines = stream.iter_lines(chunk_size=1)
        assert next(lines) == b"retry: 3000"
        jobs.change(job_id, state="running")
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        rest = b"\n".join(lines)
        assert b'"state":"scheduled"' in rest
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - started < 8
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
