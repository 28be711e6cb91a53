"""What docs/webhooks.md tells receivers is true: its code verifies what we send, and its tables say what there is."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from services.notifications.jobs.webhooks import RETRY
from services.notifications.settings import Settings
from services.notifications.webhooks.catalog import PUBLISHED
from shared.web.standard_webhooks import new_secret, signed_headers

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
BODY = b'{"type":"order.created","data":{}}'


@pytest.fixture
def code() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in CODE:
        exec(block, names)  # noqa: S102 - it is ours
    return names


def test_its_code_takes_what_is_genuine_and_nothing_else(code: dict[str, Any]) -> None:
    secret, other, now = new_secret(), new_secret(), datetime.now(UTC)
    headers = signed_headers([other, secret], "1", BODY, now)
    assert code["is_genuine"](secret, headers, BODY)
    assert code["read"](secret, headers, BODY)["type"] == "order.created"
    old = signed_headers([secret], "1", BODY, now - timedelta(minutes=6))
    foreign = signed_headers([other], "1", BODY, now)
    for bad, body in [(old, BODY), (foreign, BODY), ({**headers, "webhook-id": "2"}, BODY), (headers, BODY + b" ")]:
        assert not code["is_genuine"](secret, bad, body)
        with pytest.raises(WebhookVerificationError):
            code["read"](secret, bad, body)


def test_it_lists_what_there_is() -> None:
    table = PAGE.split("| Type | When |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z_.]+)`", table)) == set(PUBLISHED)


def test_it_says_when_we_try_again() -> None:
    assert "5 seconds, 5 and 30 minutes, 2, 5, 10, 14, 20 and 24 hours: ten of them" in PAGE
    hours = [hours * 3600 for hours in (2, 5, 10, 14, 20, 24)]
    assert (5, 5 * 60, 30 * 60, *hours) == RETRY
    limits = Settings()
    assert f"within {limits.webhook_total_seconds:g} seconds" in PAGE
    assert f"For {limits.webhook_rotation_hours:g} hours each message" in PAGE
    assert (limits.webhook_failing_days, limits.webhook_days) == (5, 30)
    assert "for five days is switched off" in PAGE
    assert "for 30 days" in PAGE
