"""A running service against its own OpenAPI document, by schemathesis: no 500, and no answer that is not in it.

service_does_what_it_says(url, token, tmp_path)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["service_does_what_it_says"]

# A repeated creation is answered by replay though the thing may be gone since, and a valid request may come
# under a key that stands for another one: both are meant, and both trip these checks.
_EXCLUDED: Final = "positive_data_acceptance,ensure_resource_availability"
_ENDLESS: Final = ("/v1/events", "/v1/jobs/{job_id}/events", "/v1/notices/stream")
"""Streams, which go on for as long as somebody listens."""


def service_does_what_it_says(url: str, token: str, directory: Path, *, examples: int = 15) -> None:
    """Call every operation with what the document allows and with what it does not.

    `BACKROOM_SCHEMATHESIS_EXAMPLES` asks for more than `examples` of each. Raises AssertionError with what was found.
    """
    endless = [option for path in _ENDLESS for option in ("--exclude-path", path)]
    done = subprocess.run(
        [
            sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
            "run", f"{url}/openapi.json",
            "--header", f"Authorization: Bearer {token}",
            "--max-examples", os.environ.get("BACKROOM_SCHEMATHESIS_EXAMPLES", str(examples)),
            *endless,
            "--exclude-checks", _EXCLUDED,
            "--request-timeout", "10",
            "--seed", "1",
            "--no-color",
        ],
        cwd=directory, capture_output=True, text=True, check=False, timeout=580,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(done.stdout[-20_000:] + done.stderr[-2_000:])
