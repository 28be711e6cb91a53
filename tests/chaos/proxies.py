"""The proxies in a process of their own, so that traffic does not compete with the harness for one interpreter.

    python -m tests.chaos.proxies broker=amqp://… database=postgresql://…

Prints one JSON object with the URLs to use in place of the targets, then obeys lines on stdin: `drop broker`,
`pause database`, `resume database`. Ends with its stdin.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

from shared.testing.proxy import TcpProxy

__all__ = ["Proxies"]


class Proxies:
    """The process, from the outside."""

    def __init__(self, targets: dict[str, str], directory: Path) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxies", *(f"{name}={url}" for name, url in targets.items())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=directory,
        )
        self.urls: dict[str, str] = json.loads(self._answer())

    def drop(self, name: str) -> int:
        """Cut every connection; return how many."""
        return self._order("drop", name)

    def pause(self, name: str) -> None:
        """Let nothing through, and close nothing."""
        self._order("pause", name)

    def resume(self, name: str) -> None:
        self._order("resume", name)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _order(self, order: str, name: str) -> int:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{order} {name}\n")
            self._process.stdin.flush()
            return int(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the proxies are gone")
        return line


def main() -> None:
    proxies = dict(argument.split("=", 1) for argument in sys.argv[1:])
    running = {name: TcpProxy(url) for name, url in proxies.items()}
    print(json.dumps({name: proxy.url for name, proxy in running.items()}), flush=True)
    for line in sys.stdin:
        order, name = line.split()
        proxy = running[name]
        done = {"drop": proxy.drop_all, "pause": proxy.pause, "resume": proxy.resume}[order]()
        print(done or 0, flush=True)


if __name__ == "__main__":
    main()
