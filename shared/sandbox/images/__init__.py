"""A stand-in for any website that has pictures, in good order and in every other.

`/images/<name>.png` (`.jpg`, `.gif`, `.webp`) is a picture. Below `/images/<what goes wrong>/` the same names are
had in a way that goes wrong; see the routes, or README.md. Nobody has to say who he is.
"""

import gzip
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from shared.sandbox.delivery import Exchange
from shared.sandbox.provider import Provider
from shared.sandbox.web import HttpError, Request, Response, Route, reply

from .counts import Counts
from .pictures import MEDIA_TYPES, picture

if TYPE_CHECKING:
    from shared.sandbox.core import Core

PREFIX = "/images"
_HTML = b"<!doctype html><html><head><title>Not here</title></head><body>Please sign in.</body></html>"
_ZEROS = bytes(65536)


class Images(Provider):
    """Every name exists."""

    name: ClassVar[str] = "images"

    def __init__(self, core: "Core"):
        super().__init__(core)
        self.counts = Counts()

    def routes(self) -> list[Route]:
        operations: list[tuple[str, Callable[..., Response]]] = [
            ("/{name}", self.good),
            ("/status/{status}/{name}", self.status),
            ("/flaky/{times}/{name}", self.flaky),
            ("/slow/{name}", self.slow),
            ("/hang/{name}", self.hang),
            ("/trickle/{name}", self.trickle),
            ("/reset/{name}", self.reset_halfway),
            ("/truncated/{name}", self.truncated),
            ("/half/{name}", self.half),
            ("/wrong-length/{name}", self.wrong_length),
            ("/wrong-type/{name}", self.wrong_type),
            ("/html/{name}", self.html),
            ("/empty/{name}", self.empty),
            ("/large/{name}", self.large),
            ("/endless/{name}", self.endless),
            ("/gzip/{name}", self.gzipped),
            ("/redirect/{times}/{name}", self.redirect),
            ("/loop/{name}", self.loop),
            ("/to/{name}", self.redirect_to),
        ]
        return [Route("GET", f"{PREFIX}{path}", handler, public=True) for path, handler in operations]

    def controls(self) -> list[Route]:
        return [Route("GET", PREFIX, self.count)]

    def serving(self, request: Request) -> AbstractContextManager[None]:
        return self.counts.request(request.path)

    def reset(self) -> None:
        self.counts.reset()

    # -- control -----------------------------------------------------------------------------------------------

    def count(self, request: Request) -> Response:
        """{requests, open, most_open, paths: {path: {requests, open, most_open}}}."""
        return reply(self.counts.as_json())

    # -- pictures ----------------------------------------------------------------------------------------------

    def good(self, request: Request, name: str) -> Response:
        return _picture(name)

    def status(self, request: Request, status: str, name: str) -> Response:
        """That status, with a page of HTML; `?retry_after=` adds the header."""
        headers = {"Retry-After": request.query["retry_after"]} if "retry_after" in request.query else {}
        return Response(_number(status, 100, 599), _HTML, "text/html", headers)

    def flaky(self, request: Request, times: str, name: str) -> Response:
        """503 to the first requests of this path, then the picture."""
        if self.counts.of(request.path) <= _number(times):
            return Response(503, _HTML, "text/html")
        return _picture(name)

    def slow(self, request: Request, name: str) -> Response:
        """The picture, after `?seconds=` (1)."""
        seconds = _seconds(request, "seconds", 1.0)

        def play(exchange: Exchange, response: Response) -> None:
            exchange.pauses.pause(seconds)
            exchange.send_late(response)

        return _played(_picture(name), play)

    def hang(self, request: Request, name: str) -> Response:
        """Nothing for `?seconds=` (60), then a closed connection."""
        seconds = _seconds(request, "seconds", 60.0)

        def play(exchange: Exchange, response: Response) -> None:
            exchange.pauses.pause(seconds, exchange.wire.client_gone)
            exchange.wire.drop()

        return _played(_picture(name), play)

    def trickle(self, request: Request, name: str) -> Response:
        """One byte of the picture every `?interval=` (1) seconds."""
        interval = _seconds(request, "interval", 1.0)

        def play(exchange: Exchange, response: Response) -> None:
            exchange.wire.send_slowly(response, lambda: exchange.pauses.pause(interval))
            exchange.outcome = "trickled"

        return _played(_picture(name), play)

    def reset_halfway(self, request: Request, name: str) -> Response:
        """Half of the picture, then a reset connection."""

        def play(exchange: Exchange, response: Response) -> None:
            exchange.wire.stream(_sized(response), iter([response.body[: len(response.body) // 2]]))
            exchange.wire.reset()

        return _played(_picture(name), play)

    def truncated(self, request: Request, name: str) -> Response:
        """Half of the picture, then a closed connection; the header said that there would be more."""

        def play(exchange: Exchange, response: Response) -> None:
            exchange.wire.send_half(response)

        return _played(_picture(name), play)

    def half(self, request: Request, name: str) -> Response:
        """Half of a picture, as if that were all."""
        whole = _picture(name)
        whole.body = whole.body[: len(whole.body) // 2]
        return whole

    def wrong_length(self, request: Request, name: str) -> Response:
        """A Content-Length that is `?by=` (100) bytes off, below or above."""
        response = _picture(name)
        try:
            length = len(response.body) + int(request.query.get("by", "100"))
        except ValueError as error:
            raise HttpError(400, {"detail": "by is a number"}) from error
        response.headers["Content-Length"] = str(max(0, length))

        def play(exchange: Exchange, response: Response) -> None:
            exchange.wire.stream(response, iter([response.body]))

        return _played(response, play)

    def wrong_type(self, request: Request, name: str) -> Response:
        """The picture, as text/plain or `?type=`."""
        response = _picture(name)
        response.content_type = request.query.get("type", "text/plain")
        return response

    def html(self, request: Request, name: str) -> Response:
        """A page of HTML that claims to be the picture."""
        return Response(200, _HTML, _picture(name).content_type)

    def empty(self, request: Request, name: str) -> Response:
        return Response(200, b"", _picture(name).content_type)

    def large(self, request: Request, name: str) -> Response:
        """A picture that says to have `?bytes=` (a billion) bytes, and never ends."""
        response = self.endless(request, name)
        response.headers["Content-Length"] = str(_number(request.query.get("bytes", "1000000000")))
        return response

    def endless(self, request: Request, name: str) -> Response:
        """The picture, and zeros for as long as anybody takes them."""

        def parts(exchange: Exchange, response: Response) -> Iterator[bytes]:
            yield response.body
            for _ in itertools.count():
                exchange.pauses.pause(0)  # ends when the sandbox does
                yield _ZEROS

        def play(exchange: Exchange, response: Response) -> None:
            exchange.wire.stream(response, parts(exchange, response))

        return _played(_picture(name), play)

    def gzipped(self, request: Request, name: str) -> Response:
        """Compressed, although nobody asked for it."""
        response = _picture(name)
        response.body = gzip.compress(response.body, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
        return response

    # -- redirects ---------------------------------------------------------------------------------------------

    def redirect(self, request: Request, times: str, name: str) -> Response:
        """So many redirects, one after the other, to the picture."""
        left = _number(times)
        return _redirect(f"{PREFIX}/redirect/{left - 1}/{name}" if left > 1 else f"{PREFIX}/{name}")

    def loop(self, request: Request, name: str) -> Response:
        """A redirect to itself."""
        return _redirect(request.path)

    def redirect_to(self, request: Request, name: str) -> Response:
        """A redirect to `?url=`, whatever it leads to; `?status=` (302) is which."""
        if "url" not in request.query:
            raise HttpError(400, {"detail": "say with ?url= where to"})
        return _redirect(request.query["url"], _number(request.query.get("status", "302"), 300, 399))


def _picture(name: str) -> Response:
    return Response(200, picture(name), MEDIA_TYPES.get(name.rpartition(".")[2].lower(), "image/png"))


def _played(response: Response, play: Callable[[Exchange, Response], None]) -> Response:
    response.play = lambda exchange: play(exchange, response)
    return response


def _sized(response: Response) -> Response:
    response.headers["Content-Length"] = str(len(response.body))
    return response


def _redirect(to: str, status: int = 302) -> Response:
    # Headers are bytes: what is not of Latin-1 goes as UTF-8, as many servers have it.
    return Response(status, b"", "text/plain", {"Location": to.encode().decode("latin-1")})


def _number(text: str, least: int = 0, most: int = 10**12) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise HttpError(400, {"detail": f"a number from {least} to {most}, please"})
    return int(text)


def _seconds(request: Request, name: str, usual: float) -> float:
    try:
        return min(max(float(request.query.get(name, usual)), 0.0), 3600.0)
    except ValueError as error:
        raise HttpError(400, {"detail": f"{name} is a number of seconds"}) from error


__all__ = ["Images"]
