"""The embedded PostgreSQL keeps its data and comes back, whatever was killed, wherever its files must be."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from shared.runtime.embedded import postgres as module
from shared.runtime.embedded.binaries import Binaries, find_binaries
from shared.runtime.embedded.postgres import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    PostgresNotFound,
    start_postgres,
)
from shared.runtime.embedded.unprivileged import account_for, subprocess_arguments

#: Starts a server, writes a row, says so, and waits to be killed.
OWNER = """
import signal, sys
from pathlib import Path
import psycopg
from shared.runtime.embedded.postgres import start_postgres
server = start_postgres(Path(sys.argv[1]))
with psycopg.connect(server.url) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    connection.execute("INSERT INTO kept VALUES (1)")
print(server.pid, flush=True)
signal.pause()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may pass through, as a data directory outside private homes is."""
    directory = Path(tempfile.mkdtemp(prefix="backroom-place-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def private_home(place: Path) -> Path:
    """A home that only its owner may enter."""
    home = place / "home"
    home.mkdir(mode=0o700)
    return home


@pytest.fixture
def system_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where root puts what the server cannot reach in a private home."""
    directory = place / "system"
    monkeypatch.setattr(module, "SYSTEM_DIRECTORIES", (directory,))
    return directory


def count(server: EmbeddedPostgres) -> int:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row
    return int(row[0])


def fill(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")


def start_owner(data_dir: Path) -> tuple[subprocess.Popen[str], int]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(data_dir)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    return owner, int(owner.stdout.readline())


def test_it_is_durable_and_answers_on_a_private_socket_only(place: Path) -> None:
    with start_postgres(place / "data") as server, psycopg.connect(server.url) as connection:
        row = connection.execute(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit'), "
            "current_setting('full_page_writes'), current_setting('listen_addresses')"
        ).fetchone()
        assert row == ("on", "on", "on", "")
        socket_dir = Path(connection.info.host)
        assert socket_dir.stat().st_mode & 0o077 == 0
    assert not socket_dir.exists()


def test_the_url_survives_stop_kill_and_restart(place: Path) -> None:
    with start_postgres(place / "data") as server:
        url = server.url
        fill(server)
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        server.start()
        assert count(server) == 1
        server.restart()
        assert (server.url, count(server)) == (url, 1)


def test_after_a_kill_of_its_owner_the_left_over_server_is_replaced(place: Path) -> None:
    owner, first = start_owner(place / "data")
    owner.kill()
    owner.wait()
    with start_postgres(place / "data") as server:
        assert server.pid != first
        assert count(server) == 1


def test_after_a_kill_of_both_the_stale_pid_file_is_no_obstacle(place: Path) -> None:
    owner, first = start_owner(place / "data")
    owner.kill()
    owner.wait()
    os.kill(first, signal.SIGKILL)
    with start_postgres(place / "data") as server:
        assert count(server) == 1


def test_a_pid_file_whose_number_belongs_to_another_program_now_is_no_obstacle(place: Path) -> None:
    with start_postgres(place / "data") as server:
        fill(server)
        server.kill()
        # As the server's own user: of others PostgreSQL takes no notice.
        account = account_for(["postgres"])
        with subprocess.Popen(["sleep", "60"], **subprocess_arguments(account)) as other:
            try:
                pid_file = place / "data" / "cluster" / "postmaster.pid"
                lines = pid_file.read_text().splitlines()
                pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
                server.start()
                assert count(server) == 1
                assert other.poll() is None
            finally:
                other.kill()


def test_a_living_owner_is_named_and_left_alone(place: Path) -> None:
    owner, first = start_owner(place / "data")
    try:
        with pytest.raises(EmbeddedPostgresError, match=f"in use by process {owner.pid}"):
            start_postgres(place / "data")
        os.kill(first, 0)
    finally:
        owner.kill()
        owner.wait()
    with start_postgres(place / "data"), pytest.raises(EmbeddedPostgresError, match="by this process"):
        start_postgres(place / "data")


def test_a_private_home_stays_private_and_its_data_is_kept(private_home: Path, system_directory: Path) -> None:
    data_dir = private_home / "data"
    for expected in (1, 2):
        with start_postgres(data_dir) as server, psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
            connection.execute("INSERT INTO kept VALUES (1)")
            connection.commit()
            assert count(server) == expected
    assert private_home.stat().st_mode & 0o777 == 0o700


def test_who_removes_the_data_directory_begins_anew(private_home: Path, system_directory: Path) -> None:
    data_dir = private_home / "data"
    with start_postgres(data_dir) as server:
        fill(server)
    shutil.rmtree(data_dir)
    with start_postgres(data_dir) as server:
        fill(server)
        assert count(server) == 1


def test_the_wheel_serves_when_nothing_is_installed_even_from_a_private_home(
    private_home: Path, system_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = next(binaries for binaries in find_binaries() if binaries.wheel)
    package = wheel.directory.parent.parent
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, private_home / source.name)
    inside = Binaries(private_home / package.name / "pginstall" / "bin", wheel.version, wheel=True)
    monkeypatch.setattr(module, "find_binaries", lambda: iter([inside]))
    with start_postgres(private_home / "data") as server:
        fill(server)
        server.restart()
        assert count(server) == 1
    assert private_home.stat().st_mode & 0o777 == 0o700


def test_a_long_path_does_not_break_the_socket(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = place / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with start_postgres(long / "data") as server, psycopg.connect(server.url) as connection:
        socket_dir = Path(connection.info.host)
    assert not socket_dir.exists()


def test_a_killed_initialization_leaves_nothing_that_looks_like_data(place: Path) -> None:
    half = place / "data" / "cluster.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("15\n")
    with start_postgres(place / "data") as server:
        psycopg.connect(server.url).close()


def test_without_any_programs_the_message_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_binaries", lambda: iter([]))
    with pytest.raises(PostgresNotFound, match=r"pip install 'backroom\[embedded\]'"):
        start_postgres(place / "data")


def test_data_of_another_release_is_refused_not_harmed(place: Path) -> None:
    cluster = place / "data" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match="written by PostgreSQL 9"):
        start_postgres(place / "data")
    assert (cluster / "PG_VERSION").exists()


def test_a_server_that_does_not_start_shows_its_log(place: Path) -> None:
    server = EmbeddedPostgres(place / "data", {"shared_buffers": "nonsense"})
    with pytest.raises(EmbeddedPostgresError, match="shared_buffers"):
        server.start()
    assert not list((place / "data").glob("socket*"))
