"""The mail server, over connections that are kept: what happened to one mail, in our words.

    taken (2xx after the mail)                                returns
    no connection, no login, 421, 4xx before the recipient    Unavailable      mail_server_away
    silence or a broken connection before the mail's end      Unavailable      mail_server_away
    4xx to the mail                                           Unavailable      mail_deferred
    4xx to the recipient                                      ProviderError    mail_deferred: the server is there
    5xx about the recipient                                   Refused          mail_recipient_refused
    5xx about anything else (sender, policy, size)            Refused          mail_refused
    the mail went out whole, and no answer came               UnknownOutcome   mail_outcome_unknown

A login that is refused is nobody's fault but the operator's, so that mails wait for him rather than fail.
A process keeps as many connections as it sends mails at a time. One that turns out to be dead at its first command
is replaced at once, since nothing was sent over it.
"""

from __future__ import annotations

import contextlib
import os
import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from services.notifications.mail.server import Server, server
from services.notifications.settings import settings
from shared.outbound.calling import calling
from shared.outbound.circuit import breaker
from shared.outbound.errors import ProviderError, Refused, Unavailable, UnknownOutcome

__all__ = ["Mailer", "mailer"]

_ABOUT_RECIPIENT: Final = re.compile(r"5\.[12]\.\d+|5\.7\.17")
"""Enhanced status codes (RFC 3463) of an address and its mailbox: unknown, moved, disabled, full, of another owner."""

_NOT_ABOUT_RECIPIENT: Final = ("5.1.7", "5.1.8", "5.1.9")
"""Those of the sender's address, and one of a message that cannot be passed on."""

_PATIENCE_AT_END: Final = 4
"""So many times as long as for any other answer we wait for the one to a mail, which servers look at before they take
it: to give up too early doubles it (RFC 1047)."""

_ENHANCED: Final = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})\b")


@dataclass(slots=True)
class _Connection:
    smtp: smtplib.SMTP
    mails: int = 0
    used: float = 0.0


class Mailer:
    """Sends over a pool of connections to one server. Safe to share between threads, and over a fork."""

    def __init__(self, to: Server, *, timeout: float, most_mails: int, idle: float) -> None:
        """`timeout` bounds a connection and each answer, in seconds; `most_mails` and `idle` a connection's life."""
        self._server = to
        self._timeout = timeout
        self._most_mails = most_mails
        self._idle = idle
        self._kept: list[_Connection] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def send(self, sender: str, recipient: str, message: bytes) -> str:
        """Hand one mail over; return what the server said. Raises what the module's table says, and CircuitOpen."""
        with calling("smtp", "send", breaker=breaker), self._connection(sender) as connection:
            return _hand_over(connection.smtp, recipient, message, self._timeout)

    def close(self) -> None:
        """Say goodbye on all connections that are not in use."""
        with self._lock:
            kept, self._kept = self._kept, []
        for connection in kept:
            _quit(connection)

    @contextlib.contextmanager
    def _connection(self, sender: str) -> Iterator[_Connection]:
        """A connection on which the server has taken the sender; kept afterwards unless anything went wrong on it."""
        connection = self._begun(sender)
        try:
            yield connection
        except _Answered as answered:
            if answered.code == 421 or not _cleared(connection):
                connection.smtp.close()
            else:
                self._keep(connection)
            raise answered.error from None
        except BaseException:
            # Whatever it was, a time limit of ours included: nobody knows what would come next on it.
            connection.smtp.close()
            raise
        connection.mails += 1
        self._keep(connection)

    def _begun(self, sender: str) -> _Connection:
        """Return a connection after MAIL FROM: one that was kept, or a new one."""
        while (kept := self._take()) is not None:
            try:
                code, text = kept.smtp.mail(sender)
            except (OSError, smtplib.SMTPException):
                code, text = 421, b""
            if code == 250:
                return kept
            if code != 421:
                self._refused_sender(kept, code, text)
            kept.smtp.close()
        try:
            connection = self._connect()
        except (OSError, smtplib.SMTPException) as error:
            raise _away(error) from error
        try:
            code, text = connection.smtp.mail(sender)
        except (OSError, smtplib.SMTPException) as error:
            connection.smtp.close()
            raise _away(error) from error
        if code != 250:
            self._refused_sender(connection, code, text)
        return connection

    def _refused_sender(self, connection: _Connection, code: int, text: bytes) -> None:
        connection.smtp.close()
        raise _answered(code, text, "MAIL").error

    def _take(self) -> _Connection | None:
        stale: list[_Connection] = []
        found = None
        with self._lock:
            if self._pid != os.getpid():
                # They are our parent's: it goes on speaking on them.
                self._kept, self._pid = [], os.getpid()
            now = time.monotonic()
            while self._kept and found is None:
                connection = self._kept.pop()
                if now - connection.used < self._idle:
                    found = connection
                else:
                    stale.append(connection)
        for connection in stale:
            _quit(connection)
        return found

    def _keep(self, connection: _Connection) -> None:
        connection.used = time.monotonic()
        if connection.mails >= self._most_mails:
            _quit(connection)
            return
        with self._lock:
            self._kept.append(connection)

    def _connect(self) -> _Connection:
        to = self._server
        context = ssl.create_default_context() if to.tls != "never" else None
        # Named, or smtplib would ask the name service for our own name.
        options: dict[str, Any] = {"timeout": self._timeout, "local_hostname": socket.gethostname()}
        if to.tls == "always":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(to.host, to.port, context=context, **options)
        else:
            smtp = smtplib.SMTP(to.host, to.port, **options)
        try:
            smtp.ehlo_or_helo_if_needed()
            if to.tls == "start":
                smtp.starttls(context=context)
                smtp.ehlo_or_helo_if_needed()
            if to.user:
                smtp.login(to.user, to.password)
        except BaseException:
            smtp.close()
            raise
        return _Connection(smtp)


@lru_cache(maxsize=1)
def mailer() -> Mailer:
    """Return this process's mailer, as the settings have it. `mailer.cache_clear()` forgets it, for tests."""
    chosen = settings()
    return Mailer(
        server(chosen.smtp_url.get_secret_value()),
        timeout=chosen.smtp_seconds,
        most_mails=chosen.smtp_mails_per_connection,
        idle=chosen.smtp_idle_seconds,
    )


class _Answered(Exception):
    """The server said no to one mail: the connection is good, `error` says it in our words."""

    def __init__(self, code: int, error: ProviderError) -> None:
        super().__init__(code)
        self.code = code
        self.error = error


def _hand_over(smtp: smtplib.SMTP, recipient: str, message: bytes, patience: float) -> str:
    """RCPT, DATA, the mail, and what comes of it."""
    whole = False
    try:
        code, text = smtp.rcpt(recipient)
        if code not in (250, 251):
            raise _answered(code, text, "RCPT")
        code, text = smtp.docmd("DATA")
        if code != 354:
            raise _answered(code, text, "DATA")
        smtp.send(smtplib._quote_periods(message) + b".\r\n")  # type: ignore[attr-defined]
        whole = True
        smtp.sock.settimeout(patience * _PATIENCE_AT_END)  # type: ignore[union-attr]
        code, text = smtp.getreply()
        smtp.sock.settimeout(patience)  # type: ignore[union-attr]
    except (OSError, smtplib.SMTPException) as error:
        if whole:
            detail = f"sent whole, then {_words(error)}"
            raise UnknownOutcome(detail, provider="smtp", code="mail_outcome_unknown", unanswered=True) from error
        raise _away(error) from error
    if not 200 <= code < 600:
        raise UnknownOutcome(f"{code} {_decoded(text)}", provider="smtp", code="mail_outcome_unknown", unanswered=True)
    if code >= 300:
        raise _answered(code, text, "mail")
    return _decoded(text)


def _answered(code: int, text: bytes, stage: str) -> _Answered:
    """Return what an answer other than yes means."""
    words = f"{stage}: {code} {_decoded(text)}"
    if code == 421 or (code < 500 and stage == "MAIL"):
        return _Answered(code, Unavailable(words, provider="smtp", code="mail_server_away"))
    if code < 500:
        # To wait for one recipient is no outage; a server that can take no mail at all is.
        kind = ProviderError if stage == "RCPT" else Unavailable
        return _Answered(code, kind(words, provider="smtp", code="mail_deferred"))
    if _is_about_recipient(code, _decoded(text), stage):
        return _Answered(code, Refused(words, provider="smtp", code="mail_recipient_refused"))
    return _Answered(code, Refused(words, provider="smtp", code="mail_refused"))


def _is_about_recipient(code: int, text: str, stage: str) -> bool:
    """Whether a refusal would be the same for every mail to this address.

    The enhanced code says so; without one, an answer to RCPT of a code that is for addresses does.
    """
    enhanced = _ENHANCED.match(text)
    if enhanced is not None:
        found = enhanced[1]
        return stage != "MAIL" and found not in _NOT_ABOUT_RECIPIENT and bool(_ABOUT_RECIPIENT.fullmatch(found))
    return stage == "RCPT" and code in (550, 551, 553)


def _cleared(connection: _Connection) -> bool:
    """Have the server forget the mail that it refused; whether it did."""
    try:
        return connection.smtp.rset()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def _quit(connection: _Connection) -> None:
    with contextlib.suppress(OSError, smtplib.SMTPException):
        connection.smtp.sock.settimeout(1)  # type: ignore[union-attr]
        connection.smtp.quit()
    connection.smtp.close()


def _away(error: Exception) -> Unavailable:
    return Unavailable(_words(error), provider="smtp", code="mail_server_away")


def _words(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        return f"{error.smtp_code} {_decoded(text) if isinstance(text, bytes) else text}"
    return f"{type(error).__name__}: {error}"


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace").strip()
