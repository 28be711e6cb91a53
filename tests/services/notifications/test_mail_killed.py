"""Workers killed with SIGKILL while they send: nothing is lost, and at most the mail in flight is doubled.

`BACKROOM_MAIL_KILLS=20 pytest tests/services/notifications/test_mail_killed.py` kills as often as one has patience for.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from services.notifications import mail
from services.notifications.service import service
from shared.db import unit_of_work
from shared.sandbox import Sandbox
from shared.testing.service import ServiceUnderTest
from tests.services.notifications.post import ALERT

KILLS = int(os.environ.get("BACKROOM_MAIL_KILLS", "3"))
MAILS = 60 * KILLS


@pytest.mark.timeout(120 + 60 * KILLS)
def test_killed_while_it_sends(service_app: Callable[..., ServiceUnderTest], smtp: Sandbox) -> None:
    """One thread, so that one mail at a time is in flight; the server is slow, so that a kill often meets it."""
    notifications = service_app(service, "rabbitmq")
    smtp.faults.add("smtp_slow", method="SMTP", path="/end", seconds=0.02)
    with unit_of_work() as session:
        everybody = [mail.NewMail(mail.Address(f"p{n}@example.com"), ALERT, f"killed:{n}") for n in range(MAILS)]
        assert len(mail.queue_many(session, "alert", everybody, kind="alert")) == MAILS
    chance = random.Random(1)
    for _ in range(KILLS):
        before = smtp.smtp()["mails"]
        with notifications.worker_process(worker_threads=1) as worker:
            notifications.wait_until(lambda before=before: smtp.smtp()["mails"] > before, 90, "mails to be sent")
            time.sleep(chance.uniform(0, 0.5))
            worker.kill()
    with notifications.worker_process(worker_threads=1):
        notifications.drain(120)
    arrived = Counter(one["message_id"] for one in smtp.mails(limit=10 * MAILS))
    assert len(arrived) == MAILS, "none is lost"
    assert max(arrived.values()) <= 2
    assert sum(arrived.values()) - MAILS <= KILLS, "at most the one in flight, at each kill"
    assert notifications.query("SELECT DISTINCT status FROM mails") == [("sent",)]
    assert {job.state for job in notifications.jobs(queue="mail")} == {"succeeded"}
