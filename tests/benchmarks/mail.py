"""Mail: what 10,000 queued mails of one tenant do to another's sign-in mail, connections, and rendering beside sending.

The large tenant has 10,000 digests waiting. The other one has a sign-in mail queued now and then, alone first (the
digests are not due yet), then beside them, and what is measured is the time from its commit until the mail server has
it. The server is the sandbox in a process of its own and answers each mail after 50 ms, which is quick for one.
Worker, relay, broker and database are as in production, with the 8 threads that are the default.

Rendering is measured by itself, in one thread: subject, text and HTML from their templates, and all of it as bytes;
against handing the same bytes to the same server without its 50 ms, over a kept connection on this very machine, where
sending costs the least that it can. The same message by `email.message` is there for comparison.
"""

from __future__ import annotations

import contextlib
import email.message
import email.policy
import os
import re
import smtplib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg

from services.notifications import mail
from services.notifications.mail import templates
from services.notifications.mail.message import Message
from services.notifications.service import service
from shared.context import use
from shared.db import new_id, unit_of_work
from shared.sandbox import SandboxClient
from tests.benchmarks.bench import ROOT, Place, Result, ms, percentile, place, wait, worker

__all__ = ["main"]

_SECONDS = 0.05
_DIGEST = {"day": "2026-03-01", "sections": [{"title": "Shipped", "lines": [f"Order {n}" for n in range(10)]}]}
_LINK = {"url": "https://small.example/sign-in?token=x", "expires_at": "2026-03-01T12:15:00Z"}
_GIVEN = {"workspace": "Acme", "recipient": "Eve", "is_member": True, "console_url": "https://c.example"}


def main(long: bool) -> Result:
    backlog, links, enough = (10_000, 100, 2_000) if long else (200, 3, 50)
    result = Result("Mail")
    with _sandbox() as sandbox:
        _rendering(result, sandbox, 500 if long else 20)
        sandbox.reset()
        sandbox.faults.add("smtp_slow", method="SMTP", path="/end", seconds=_SECONDS)
        os.environ["NOTIFICATIONS_SMTP_URL"] = sandbox.smtp_url
        with place(service, threads=8) as here:
            _fill(here, backlog)
            with worker(here):
                _sign_in(here, sandbox, "warm", 3)
                alone = _sign_in(here, sandbox, "alone", links)
                began, before = time.monotonic(), sandbox.smtp()["mails"]
                here.execute("UPDATE jobs SET run_at = now() WHERE tenant_id = 'large'")
                wait(lambda: sandbox.smtp()["mails"] > before + 20, 60)
                beside = _sign_in(here, sandbox, "beside", links)
                left = here.query("SELECT count(*) FROM mails WHERE tenant_id = 'large' AND status = 'queued'")[0][0]
                wait(lambda: sandbox.smtp()["mails"] >= before + links + enough, 300)
                pace = (sandbox.smtp()["mails"] - before) / (time.monotonic() - began)
            counts = sandbox.smtp()
    result.add("sign-in mail alone, p50 / p95", _both(alone))
    result.add(f"beside {backlog:,} mails, p50 / p95", _both(beside))
    for percent in (50, 95):
        ratio = percentile(beside, percent) / percentile(alone, percent)
        result.add(f"p{percent} beside the large tenant, against alone", f"{ratio:.2f}x", "below 2x", ratio < 2)
    per_connection = counts["mails"] / counts["connections"]
    result.add("mails per connection", f"{per_connection:,.0f}", "at least 100", per_connection >= 100)
    result.add("mails a second, beside", f"{pace:,.0f}")
    result.note = (
        f"{links} sign-in mails in each state; {left:,} of the large tenant's mails still waited after the last of "
        f"those beside them. {counts['mails']:,} mails over {counts['connections']} connections until it was stopped."
    )
    return result


def _both(waits: list[float]) -> str:
    return f"{ms(percentile(waits, 50))} / {ms(percentile(waits, 95))}"


@contextlib.contextmanager
def _sandbox() -> Iterator[SandboxClient]:
    running = subprocess.Popen(
        [sys.executable, "-m", "shared.sandbox", "--port", "0", "--limits", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        found = re.search(r"http://\S+", running.stdout.readline())
        assert found is not None, "the sandbox says where it is"
        yield SandboxClient(found[0])
    finally:
        running.kill()
        running.wait()


def _fill(here: Place, count: int) -> None:
    """Queue the large tenant's digests, none of which is due yet."""
    with use(tenant_id="large"):
        for start in range(0, count, 5_000):
            many = [
                mail.NewMail(mail.Address(f"p{n}@example.com"), _DIGEST, f"digest:{n}")
                for n in range(start, min(start + 5_000, count))
            ]
            with unit_of_work() as session:
                mail.queue_many(session, "digest", many, kind="bulk")
    here.execute("UPDATE jobs SET run_at = now() + interval '1 day' WHERE tenant_id = 'large'")
    with psycopg.connect(here.database_url, autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE jobs, mails")


def _sign_in(here: Place, sandbox: SandboxClient, prefix: str, count: int) -> list[float]:
    """Queue sign-in mails of the small tenant, five a second; return how long each took to arrive."""
    committed: dict[str, float] = {}
    begin = time.monotonic()
    with use(tenant_id="small"):
        for number in range(count):
            time.sleep(max(0.0, begin + number / 5 - time.monotonic()))
            to = f"{prefix}-{number}@small.example"
            with unit_of_work() as session:
                mail.queue(session, "sign_in", mail.Address(to), _LINK, dedupe_key=f"link:{to}", kind="sign_in")
            committed[to] = time.time()
    wait(lambda: here.query("SELECT count(*) FROM mails WHERE tenant_id = 'small' AND status <> 'sent'")[0][0] == 0)
    arrived = {
        one["to"][0]: datetime.fromisoformat(one["time"]).timestamp()
        for one in sandbox.mails(limit=100_000)
        if one["to"][0] in committed
    }
    return [arrived[to] - at for to, at in committed.items()]


def _rendering(result: Result, sandbox: SandboxClient, count: int) -> None:
    values = {**_GIVEN, **_DIGEST, "unsubscribe_url": "https://a.example/v1/unsubscribe?token=x"}

    def ours() -> bytes:
        rendered = templates.render("digest", values)
        return Message(
            id=new_id(),
            sender="no-reply@backroom.example",
            sender_name="Backroom",
            recipient="eve@example.com",
            recipient_name="Eve Example",
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            date=datetime.now(UTC),
            headers={"List-Unsubscribe": "<https://a.example/v1/unsubscribe?token=x>"},
        ).as_bytes()

    def naive() -> bytes:
        rendered = templates.render("digest", values)
        message = email.message.EmailMessage(policy=email.policy.SMTP)
        message["From"] = "Backroom <no-reply@backroom.example>"
        message["To"] = "Eve Example <eve@example.com>"
        message["Subject"] = rendered.subject
        message["Message-ID"] = f"<{new_id()}@backroom.example>"
        message["List-Unsubscribe"] = "<https://a.example/v1/unsubscribe?token=x>"
        message.set_content(rendered.text)
        message.add_alternative(rendered.html, subtype="html")
        return message.as_bytes()

    content = ours()
    host, _, port = sandbox.smtp_url.removeprefix("smtp://").partition(":")
    with smtplib.SMTP(host, int(port), local_hostname="bench") as smtp:
        sending = _median(lambda: smtp.sendmail("me@example.com", ["eve@example.com"], content), count)
    rendering, naively = _median(ours, count), _median(naive, count)
    result.add("writing a mail: templates and bytes", f"{rendering * 1e6:,.0f} µs")
    result.add("the same by email.message", f"{naively * 1e6:,.0f} µs")
    result.add("sending it, on this machine and at once", f"{sending * 1e6:,.0f} µs")
    share = rendering / sending
    result.add("writing, against sending", f"{share:.2f}x", "below 1x", share < 1)


def _median(call: Any, count: int) -> float:
    took = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took)
