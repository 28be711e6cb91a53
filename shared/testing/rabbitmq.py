"""RabbitMQ for tests: found, or started as a private node. The door to it is `shared.testing.servers`."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import pika
import pika.exceptions

from shared.runtime.embedded.unprivileged import Account, account_for, subprocess_arguments
from shared.runtime.embedded.waiting import wait_until
from shared.testing.server import ServerMissing, apt_install, free_port, remember_process, run_directory

BROKER_URL_VARIABLE = "BACKROOM_TEST_BROKER_URL"

LOCAL_URL = "amqp://guest:guest@127.0.0.1:5672/%2F"

#: Where systems put the programs of RabbitMQ. Debian's come first, because what it puts on the PATH are
#: wrappers that serve the system's own node only.
INSTALL_PATTERNS = (
    "usr/lib/rabbitmq/bin",
    "usr/lib/rabbitmq/lib/*/sbin",
    "opt/rabbitmq/sbin",
    "opt/homebrew/sbin",
    "usr/local/sbin",
)

EPMD_PATTERNS = ("usr/lib/erlang/erts-*/bin/epmd", "usr/local/lib/erlang/erts-*/bin/epmd")

#: An Erlang system boots in seconds; this much patience is for a machine that is busy with other tests.
START_TIMEOUT = 120.0
STOP_TIMEOUT = 60.0

#: An AMQP 0-9-1 client speaks first, and the server's answer is a frame of type "method".
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"


class RabbitServer:
    """A broker in which we may create virtual hosts. `url` is the one that it was given with."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def url(self) -> str:
        """The AMQP URL."""
        return self._url

    @property
    def is_private(self) -> bool:
        """Whether nobody but this run uses the broker."""
        return False

    def url_of(self, vhost: str) -> str:
        """The same broker's URL with another virtual host."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{quote(vhost, safe='')}"))

    @contextmanager
    def fresh_vhost(self, name: str = "test") -> Iterator[str]:
        """The URL of a new, empty virtual host that no other run uses; deleted at the end with all it holds.

        Raises ServerMissing when the broker lets us create none.
        """
        vhost = f"backroom-{name}-{secrets.token_hex(6)}"
        self._create_vhost(vhost)
        try:
            yield self.url_of(vhost)
        finally:
            self._delete_vhost(vhost)

    def problem(self) -> str | None:
        """Why the tests cannot use this broker, or None when they can; found out by using it."""
        try:
            with self.fresh_vhost("probe") as url:
                pika.BlockingConnection(pika.URLParameters(url)).close()
        except (ServerMissing, OSError, pika.exceptions.AMQPError) as error:
            return str(error) or repr(error)
        return None

    def close(self) -> None:
        """Nothing to give up in a broker that others started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _create_vhost(self, vhost: str) -> None:
        user = unquote(urlsplit(self.url).username or "guest")
        try:
            self._api("PUT", f"vhosts/{vhost}", {})
            self._api("PUT", f"permissions/{vhost}/{quote(user)}", dict.fromkeys(PERMISSIONS, ".*"))
        except OSError as api_error:
            try:
                self._control("add_vhost", vhost)
                self._control("set_permissions", "-p", vhost, user, *(".*" for _ in PERMISSIONS))
            except (OSError, subprocess.CalledProcessError) as error:
                said = getattr(error, "stderr", None) or error
                raise ServerMissing(
                    "No virtual host can be created for the tests: the management interface says "
                    f"{str(api_error)!r}, rabbitmqctl says {str(said).strip()[-500:]!r}."
                ) from error

    def _delete_vhost(self, vhost: str) -> None:
        try:
            self._api("DELETE", f"vhosts/{vhost}")
        except OSError:
            # A broker that is gone has no virtual host to delete.
            with suppress(OSError, subprocess.CalledProcessError):
                self._control("delete_vhost", vhost)

    def _api(self, method: str, path: str, body: object = None) -> None:
        """Call the broker's management interface; raises OSError when it cannot or will not."""
        parts = urlsplit(self.url)
        request = urllib.request.Request(
            f"http://{parts.hostname}:15672/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        credentials = f"{unquote(parts.username or 'guest')}:{unquote(parts.password or 'guest')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(credentials.encode()).decode()}")
        # Never through a proxy: the broker is a test's neighbor.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10):
            pass

    def _control(self, *arguments: str) -> None:
        program = shutil.which("rabbitmqctl") or shutil.which("rabbitmqctl", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise FileNotFoundError("rabbitmqctl is not installed")
        subprocess.run([program, "-q", *arguments], check=True, capture_output=True, text=True, timeout=60)


PERMISSIONS = ("configure", "write", "read")


@dataclass(frozen=True)
class _Node:
    """What belongs to one private node and stays the same over its restarts."""

    programs: Path
    directory: Path
    account: Account | None
    port: int
    environment: Mapping[str, str]
    epmd: subprocess.Popen[bytes] | None

    @property
    def output(self) -> Path:
        return self.directory / "output.log"


class PrivateRabbit(RabbitServer):
    """A RabbitMQ of this run's own, on free loopback ports, with an empty data directory that goes with it.

    `url` stays the same over `stop`, `kill`, `restart` and `start`. Settings are given as in rabbitmq.conf.
    It has its own port mapper and cookie, so it neither meets nor disturbs another node on the machine.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        super().__init__("")
        self._settings = dict(settings or {})
        self._stack = ExitStack()
        self._node: _Node | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The AMQP URL of the virtual host `/`."""
        return f"amqp://guest:guest@127.0.0.1:{self._known.port}/%2F"

    @property
    def is_private(self) -> bool:
        """Always True."""
        return True

    def start(self) -> None:
        """Start the node and return when it answers.

        Raises ServerMissing when there are no programs of RabbitMQ, or they do not start.
        """
        if self._process is not None:
            return
        node = self._node = self._node or self._prepare()
        with node.output.open("wb") as output:
            process = self._process = subprocess.Popen(
                [node.programs / "rabbitmq-server"],
                cwd=node.directory,
                env=dict(node.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A process group of its own, so that kill() reaches the Erlang system behind the script.
                start_new_session=True,
                **subprocess_arguments(node.account),
            )
        remember_process(node.directory, process.pid)
        wait_until(lambda: process.poll() is not None or _speaks_amqp(node.port), START_TIMEOUT, 0.1)
        if process.poll() is not None or not _speaks_amqp(node.port):
            self.kill()
            said = node.output.read_text(errors="replace").strip()[-3000:]
            raise ServerMissing(f"The private RabbitMQ did not start. It says:\n{said}")

    def stop(self) -> None:
        """Stop the node in order; `start` finds durable queues and persistent messages again."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL the node; `start` recovers from it.

        Let two seconds pass after declaring a quorum queue: RabbitMQ notes new ones on disk with a delay, and one
        that it did not note exists after the kill and answers nothing.
        """
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End the node and remove its data."""
        # Nobody needs the data any more, so the quick way will do.
        self.kill()
        self._node = None
        self._stack.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    @property
    def _known(self) -> _Node:
        if self._node is None:
            raise ServerMissing("This private RabbitMQ was not started.")
        return self._node

    def _prepare(self) -> _Node:
        programs = _find_programs()
        if programs is None and apt_install("rabbitmq-server"):
            programs = _find_programs()
        if programs is None:
            raise ServerMissing(
                "There is no RabbitMQ on this machine. Install it with the system's package manager (Debian, "
                "Ubuntu: apt-get install rabbitmq-server; macOS: brew install rabbitmq), or set "
                f"{BROKER_URL_VARIABLE} to the URL of one."
            )
        account = account_for(["rabbitmq"])
        directory = self._stack.enter_context(run_directory("rabbit", account))
        port, distribution_port, epmd_port = free_port(), free_port(), free_port()
        settings = {
            "listeners.tcp.1": f"127.0.0.1:{port}",
            # The default of 50 MB blocks every publisher on a machine that is merely short of space.
            "disk_free_limit.absolute": "1MB",
            **self._settings,
        }
        (directory / "rabbitmq.conf").write_text("".join(f"{k} = {v}\n" for k, v in settings.items()))
        (directory / "enabled_plugins").write_text("[].\n")
        (directory / "rabbitmq-env.conf").touch()
        for name in ("data", "log", "home"):
            (directory / name).mkdir(mode=0o700)
            if account:
                account.own(directory / name)
        # Variables of the surroundings are meant for another node.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_"))}
        environment = {
            **kept,
            # The cookie lies in the home directory: a private one gives a cookie of our own.
            "HOME": str(directory / "home"),
            "RABBITMQ_NODENAME": "backroom@localhost",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "data" / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        epmd = self._start_epmd(directory, account, environment)
        return _Node(programs, directory, account, port, environment, epmd)

    def _start_epmd(
        self, directory: Path, account: Account | None, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes] | None:
        """A port mapper that ends with us; Erlang would start one that stays for ever."""
        program = shutil.which("epmd") or next(
            (str(path) for pattern in EPMD_PATTERNS for path in Path("/").glob(pattern)), None
        )
        if program is None:
            return None
        epmd = subprocess.Popen(
            [program],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **subprocess_arguments(account),
        )

        def end() -> None:
            epmd.kill()
            epmd.wait()

        self._stack.callback(end)
        remember_process(directory, epmd.pid)
        return epmd

    def _api(self, method: str, path: str, body: object = None) -> None:
        raise ConnectionRefusedError("a private node runs without the management plugin")

    def control(self, *arguments: str) -> str:
        """Have rabbitmqctl do something on this node; return what it says.

        Raises subprocess.CalledProcessError when it fails, subprocess.TimeoutExpired after a minute.
        """
        node = self._known
        done = subprocess.run(
            [node.programs / "rabbitmqctl", "-q", *arguments],
            cwd=node.directory,
            env=dict(node.environment),
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            **subprocess_arguments(node.account),
        )
        return done.stdout

    def _control(self, *arguments: str) -> None:
        self.control(*arguments)


def _find_programs() -> Path | None:
    candidates = [path for pattern in INSTALL_PATTERNS for path in sorted(Path("/").glob(pattern))]
    if on_path := shutil.which("rabbitmq-server"):
        candidates.append(Path(on_path).resolve().parent)
    for directory in candidates:
        if all((directory / name).exists() for name in ("rabbitmq-server", "rabbitmqctl", "rabbitmq-env")):
            return directory
    return None


def _speaks_amqp(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
            probe.sendall(PROTOCOL_HEADER)
            return probe.recv(1) == METHOD_FRAME
    except OSError:
        return False
