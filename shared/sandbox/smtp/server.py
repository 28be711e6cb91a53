"""The SMTP side: aiosmtpd on an event loop in a thread of its own, and the faults of each step.

A step is a call that fault rules see, with the method SMTP:

    /hello            EHLO: the connection has just begun
    /mail             MAIL FROM
    /rcpt/<address>   RCPT TO
    /data             DATA: before the mail
    /end/<address>    the whole mail has come; it is in the mailbox already when a fault drops or hangs here
"""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from shared.sandbox.faults import SMTP_KINDS, Call, Fault

from .mailbox import Mailbox

if TYPE_CHECKING:
    from shared.sandbox.core import Core

_SIZE = 10 * 1024 * 1024


class Gone(Exception):
    """The fault has closed the connection; there is nothing to answer."""


class _Conversation(SMTP):
    """One connection."""

    def __init__(self, server: "MailServer", **options: Any):
        self.owner = server
        super().__init__(server, **options)

    def connection_made(self, transport: Any) -> None:
        if not hasattr(self, "number"):  # It is made a second time when TLS begins.
            self.number = self.owner.mailbox.opened()
            self.owner.transports.add(transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.owner.mailbox.closed()
        self.owner.transports.discard(self.transport)
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str) -> None:
        """DATA, unless a fault strikes before the mail."""
        try:
            said = await self.owner.suffer("/data", self)
        except Gone:
            return
        if said is not None:
            await self.push(said)
        else:
            await super().smtp_DATA(arg)


class MailServer:
    """Listens between `start` and `stop`. Its methods `handle_…` are aiosmtpd's hooks."""

    def __init__(self, core: "Core", mailbox: Mailbox):
        self.mailbox = mailbox
        self.size = _SIZE
        self.transports: set[Any] = set()
        self.port = 0
        self._core = core
        self._login: tuple[str, str] | None = core.options.smtp_login
        self._tls: ssl.SSLContext | None = core.options.smtp_tls
        self._hanging: set[asyncio.Event] = set()
        self._server: asyncio.Server | None = None

    def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one. Raises OSError."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox-smtp", daemon=True)
        self._thread.start()
        listen = self._loop.create_server(self._converse, host, port, backlog=512)
        try:
            self._server = asyncio.run_coroutine_threadsafe(listen, self._loop).result(10)
        except BaseException:
            self._end()
            raise
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop listening and cut every connection, as a killed process would."""
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)
            self._server = None
            self._end()

    def release(self) -> int:
        """Let every hanging step go on; how many there were."""
        count = len(self._hanging)
        if count:
            self._loop.call_soon_threadsafe(self._release)
        return count

    async def suffer(
        self, path: str, conversation: "_Conversation", take: Callable[[], None] | None = None
    ) -> str | None:
        """Play the fault of this step, if any; return what to answer instead. Raises Gone when nobody is to answer.

        `take` puts the mail into the mailbox, for faults that strike after it was taken.
        """
        fault = self._core.faults.pick(Call("SMTP", path, outcomes=frozenset(SMTP_KINDS)))
        started, at, outcome = time.monotonic(), self._core.clock.iso(), "no answer"
        self._core.calls.begin()
        try:
            said = None if fault is None else await self._play(fault, conversation, take)
            outcome = "ok" if said is None else said[:3]
            return said
        finally:
            self._core.calls.end(
                time=at,
                method="SMTP",
                path=path,
                route=f"SMTP /{path.split('/')[1]}",
                account=None,
                metadata=None,
                outcome=outcome,
                fault=fault.kind if fault else None,
                seconds=round(time.monotonic() - started, 4),
            )

    async def _play(self, fault: Fault, conversation: "_Conversation", take: Callable[[], None] | None) -> str | None:
        transport = cast(asyncio.Transport, conversation.transport)
        if fault.kind == "smtp_reply":
            if int(fault.params["code"]) == 421:
                # It says that it hangs up, and does, once the answer is out.
                self._loop.call_soon(transport.close)
            return f"{int(fault.params['code'])} {fault.params['text']}"
        if fault.kind == "smtp_slow":
            await self._pause(float(fault.params["seconds"]))
            return None
        if take is not None:
            take()
        if fault.kind == "smtp_hang":
            await self._pause(float(fault.params["seconds"]))
        transport.abort()
        raise Gone

    async def _pause(self, seconds: float) -> None:
        released = asyncio.Event()
        self._hanging.add(released)
        try:
            await asyncio.wait_for(released.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            self._hanging.discard(released)

    # -- aiosmtpd's hooks ------------------------------------------------------------------------------------------

    async def handle_EHLO(
        self, server: _Conversation, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        said = await self._answer("/hello", server)
        return responses if said is None else [said]

    async def handle_MAIL(
        self, server: _Conversation, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        said = await self._answer("/mail", server)
        if said is not None:
            return said
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: _Conversation, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        said = await self._answer(f"/rcpt/{address}", server)
        if said is not None:
            return said
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: _Conversation, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""

        def take() -> None:
            now = self._core.clock.iso()
            self.mailbox.take(now, envelope.mail_from or "", list(envelope.rcpt_tos), content, server.number)

        said = await self._answer(f"/end/{envelope.rcpt_tos[0]}", server, take)
        if said is not None:
            return said
        take()
        return "250 OK, taken"

    async def _answer(self, path: str, server: _Conversation, take: Callable[[], None] | None = None) -> str | None:
        try:
            return await self.suffer(path, server, take)
        except Gone:
            return "421 gone"  # to nobody: the connection is cut

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        given = (data.login.decode(), data.password.decode())
        if given != self._login:
            return AuthResult(success=False, handled=False)
        self.mailbox.logged_in()
        return AuthResult(success=True)

    def _converse(self) -> _Conversation:
        return _Conversation(
            self,
            hostname="sandbox.invalid",
            ident="Sandbox",
            data_size_limit=self.size,
            loop=self._loop,
            tls_context=self._tls,
            auth_required=self._login is not None,
            auth_require_tls=self._tls is not None,
            authenticator=self._authenticate if self._login is not None else None,
        )

    # -- life ------------------------------------------------------------------------------------------------------

    def _release(self) -> None:
        for event in self._hanging:
            event.set()

    async def _cut(self) -> None:
        assert self._server is not None
        self._server.close()
        self._release()
        for transport in list(self.transports):
            transport.abort()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
