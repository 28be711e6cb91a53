"""Breaking an import rule fails the build: each rule is broken here on purpose, in a copy of the tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RULE = "The Rule: no request handler can reach an external API"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages, with a service `planted` whose job reaches a provider, as it should."""
    for name in ("shared", "services"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".importlinter", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    plant(tmp_path, "services/planted/__init__.py", "")
    plant(tmp_path, "services/planted/providers/__init__.py", "")
    plant(tmp_path, "services/planted/providers/carrier.py", "import requests")
    plant(tmp_path, "services/planted/purchase.py", "from services.planted.providers import carrier")
    plant(tmp_path, "services/planted/jobs.py", "from services.planted import purchase")
    plant(tmp_path, "services/planted/api.py", "from services.planted import jobs")
    return tmp_path


def plant(tree: Path, path: str, line: str) -> None:
    """Add a line to the file, which is made if need be."""
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as handle:
        handle.write(f"{line}\n")


def lint_imports(tree: Path) -> tuple[int, str]:
    """The exit code of the linter, and what it says, in one line: it wraps long names."""
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    answer = subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--no-logo"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.returncode, " ".join((answer.stdout + answer.stderr).split())


def test_a_handler_may_send_a_job_that_calls_a_provider(tree: Path) -> None:
    code, said = lint_imports(tree)
    assert code == 0, said


@pytest.mark.parametrize(
    ("path", "line", "contract"),
    [
        ("services/shipping/api.py", "import requests", RULE),
        ("services/planted/api.py", "import socket", RULE),
        ("services/planted/api.py", "from services.planted.providers import carrier", RULE),
        ("services/planted/api.py", "from shared.outbound import client", RULE),
        ("services/planted/api.py", "from services.planted import purchase", RULE),
        ("services/planted/api.py", "def late():\n    import smtplib", RULE),
        ("services/planted/webhooks.py", "import httpx", RULE),
        ("services/planted/domain.py", "import services.other.domain", "Services are independent"),
        ("services/planted/domain.py", "import shared.testing.servers", "What helps tests is for tests"),
        ("shared/context.py", "import services.planted.api", "shared never imports a service"),
        ("shared/db/__init__.py", "import shared.jobs", "The layers of shared"),
        ("shared/web/app.py", "import shared.testing.servers", "The layers of shared"),
        ("shared/stray/__init__.py", "", "The layers of shared"),
        ("shared/sandbox/core.py", "import shared.context", "The sandbox knows nothing of Backroom"),
    ],
)
def test_breaking_a_rule_fails_the_build_and_names_it(tree: Path, path: str, line: str, contract: str) -> None:
    plant(tree, "services/other/__init__.py", "")
    plant(tree, "services/other/domain.py", "")
    plant(tree, f"{Path(path).parent}/__init__.py", "")
    plant(tree, path, line)
    code, said = lint_imports(tree)
    assert code == 1, said
    assert contract in said.partition("Broken contracts")[2], said


@pytest.mark.parametrize("line", ["import http.client", "from urllib.request import urlopen", "import socket"])
def test_the_style_check_knows_the_clients_of_the_standard_library(tree: Path, line: str) -> None:
    """The import linter sees of them no more than `http` and `urllib`, which have harmless sides, too."""
    plant(tree, "services/planted/helper.py", line)
    plant(tree, "services/planted/providers/carrier.py", line)
    answer = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--select=TID251", "services/planted"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert "helper.py" in answer.stdout
    assert "carrier.py" not in answer.stdout
