"""Operators send jobs by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner

from services.workspaces.service import service
from shared.runtime.cli.jobs import jobs
from shared.testing.service import ServiceUnderTest


@pytest.fixture
def sent(service_app: Callable[..., ServiceUnderTest], monkeypatch: pytest.MonkeyPatch) -> ServiceUnderTest:
    workspaces = service_app(service)
    for name, value in workspaces.environment().items():
        if name.startswith("BACKROOM_"):
            monkeypatch.setenv(name, value)
    return workspaces


def send(sent: ServiceUnderTest, *arguments: str) -> tuple[int, str]:
    answer = sent.outside(lambda: CliRunner().invoke(jobs, ["send", "--service", "workspaces", *arguments]))
    return answer.exit_code, answer.output


def test_a_job_is_sent_with_its_arguments(sent: ServiceUnderTest) -> None:
    code, said = send(sent, "advance_cancellations", "as_of=2026-03-15T00:00:00Z")
    assert code == 0, said
    job = sent.job(said.strip())
    assert (job.tenant_id, job.arguments, job.principal) == ("system", {"as_of": "2026-03-15T00:00:00Z"}, "operator")
    code, said = send(sent, "--tenant", "acme", "restore_workspace")
    assert sent.job(said.strip()).tenant_id == "acme"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["no_such_job"], "restore_workspace"),
        (["restore_workspace", "x=1"], "unexpected keyword argument"),
        (["restore_workspace", "x"], "is not NAME=VALUE"),
    ],
)
def test_what_cannot_be_sent_is_said(sent: ServiceUnderTest, arguments: list[str], reason: str) -> None:
    code, said = send(sent, *arguments)
    assert code == 1
    assert reason in said
    assert sent.jobs() == []
