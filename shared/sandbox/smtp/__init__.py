"""A stand-in for any mail server: takes mails over SMTP, goes wrong on request, and lets them be read over HTTP.

The mailbox is for whoever develops: nobody has to say who he is.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from shared.sandbox.provider import Provider
from shared.sandbox.web import HttpError, Request, Response, Route, reply

from .mailbox import Letter, Mailbox
from .server import MailServer

if TYPE_CHECKING:
    from shared.sandbox.core import Core

PREFIX = "/mail"


class Smtp(Provider):
    """One mailbox for all addresses."""

    name: ClassVar[str] = "smtp"

    def __init__(self, core: "Core"):
        super().__init__(core)
        self.mailbox = Mailbox()
        self.server = MailServer(core, self.mailbox)

    def routes(self) -> list[Route]:
        return [
            Route("GET", PREFIX, self.list, public=True),
            Route("GET", f"{PREFIX}/link", self.link, public=True),
            Route("GET", f"{PREFIX}/{{number}}", self.read, public=True),
            Route("GET", f"{PREFIX}/{{number}}/html", self.show, public=True),
        ]

    def controls(self) -> list[Route]:
        return [Route("GET", "/smtp", self.count), Route("PUT", "/smtp", self.set_size)]

    def reset(self) -> None:
        self.mailbox.reset()

    def release(self) -> int:
        return self.server.release()

    def start(self, host: str) -> None:
        self.server.start(host, self.core.options.smtp_port)

    def stop(self) -> None:
        self.server.stop()

    # -- control ---------------------------------------------------------------------------------------------------

    def count(self, request: Request) -> Response:
        """{connections, open, most_open, logins, mails}."""
        return reply(self.mailbox.counts())

    def set_size(self, request: Request) -> Response:
        """{"size": bytes}: larger mails are refused on connections that begin from now on."""
        size = request.json().get("size")
        if not isinstance(size, int) or size < 1:
            raise HttpError(400, {"detail": "size is a number of bytes"})
        self.server.size = size
        return Response(204)

    # -- the mailbox -----------------------------------------------------------------------------------------------

    def list(self, request: Request) -> Response:
        """Mails, the newest first; `?to=` those to one address, `?limit=` (100) how many."""
        limit = request.query.get("limit", "100")
        if not limit.isdecimal():
            raise HttpError(400, {"detail": "limit is a number"})
        found = self.mailbox.find(request.query.get("to"))
        return reply({"total": len(found), "items": [letter.summary() for letter in found[: int(limit)]]})

    def read(self, request: Request, number: str) -> Response:
        """One mail, `latest` for the newest (of `?to=`): headers, text, HTML and links."""
        return reply(self._find(request, number).as_json())

    def show(self, request: Request, number: str) -> Response:
        """The HTML of one mail, as a mail program shows it: without scripts."""
        headers = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"}
        html = self._find(request, number).body("html")
        return Response(200, html.encode(), "text/html; charset=utf-8", headers)

    def link(self, request: Request) -> Response:
        """{"link"}: the first link of the newest mail to `?to=`: how to sign in."""
        found: dict[str, Any] = {}
        for letter in self.mailbox.find(request.query.get("to")):
            if links := letter.links():
                found = {"link": links[0], "mail": letter.id}
                break
        if not found:
            raise HttpError(404, {"detail": "no mail with a link"})
        return reply(found)

    def _find(self, request: Request, number: str) -> Letter:
        if number == "latest":
            found = next(iter(self.mailbox.find(request.query.get("to"))), None)
        else:
            found = self.mailbox.get(int(number)) if number.isdecimal() else None
        if found is None:
            raise HttpError(404, {"detail": "no such mail"})
        return found


__all__ = ["Smtp"]
