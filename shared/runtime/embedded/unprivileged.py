"""Run server programs as an ordinary user when Backroom itself was started by root.

PostgreSQL refuses to run as root, and a root shell is what most containers give. An `Account` says as whom
the server runs instead, and what that user can reach: a directory below somebody's private home is out of
its reach, and loosening the permissions of that home is not ours to do.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Account:
    """A user that root lends to a server program."""

    name: str
    uid: int
    gid: int

    def subprocess_arguments(self) -> dict[str, Any]:
        """Arguments for `subprocess.Popen` that make the child run as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_enter(self, directory: Path) -> bool:
        """Whether this user may pass through the directory; asked of the system, so that ACLs count too."""
        probe = subprocess.run(
            ["/bin/sh", "-c", 'test -x "$1"', "sh", str(directory)],
            cwd="/",
            check=False,
            **self.subprocess_arguments(),
        )
        return probe.returncode == 0

    def own(self, path: Path) -> None:
        """Hand the file or directory over to this user."""
        os.chown(path, self.uid, self.gid)


def account_for(names: Iterable[str]) -> Account | None:
    """The first of these users that exists, or None when this process is not root's and needs none.

    Raises LookupError when root has nobody to lend: even `nobody` is missing.
    """
    if os.geteuid() != 0:
        return None
    for name in (*names, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise LookupError("this system has no unprivileged user that a server could run as, not even nobody")


def subprocess_arguments(account: Account | None) -> dict[str, Any]:
    """What `Account.subprocess_arguments` gives, and nothing at all without an account."""
    return account.subprocess_arguments() if account else {}
