"""How each wire fault is played: when the operation runs, and what the caller sees on its connection.

"Charged" below means that the operation ran and the books say so, whatever the caller saw.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from .faults import Fault
from .web import Response


class Stopped(Exception):
    """The sandbox stops: the call ends here, with nothing further done."""


class Wire(Protocol):
    """The connection of one call."""

    def send(self, response: Response) -> None: ...
    def send_half(self, response: Response) -> None:
        """Headers that promise the whole body, half of it, then close."""

    def send_slowly(self, response: Response, pause: Callable[[], None]) -> None:
        """The body byte by byte, calling `pause` before each."""

    def stream(self, response: Response, parts: Iterator[bytes]) -> None:
        """Headers, then these parts in place of the body, until the client leaves, then close.

        Without a Content-Length of the response's own, the body ends with the connection.
        """

    def drop(self) -> None:
        """Close without an answer (FIN)."""

    def reset(self) -> None:
        """Close without an answer, at once (RST)."""

    def client_gone(self) -> bool: ...


class Pauses:
    """Calls that hang. They can be let go all at once, so that tests need not wait, and end when we stop."""

    #: How often a hanging call looks whether its client has left, in seconds.
    STEP = 0.2

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[threading.Event] = set()
        self._stopped = False

    def pause(self, seconds: float, gone: Callable[[], bool] | None = None) -> None:
        """Wait; shorter if released or if `gone` says that nobody waits for the answer. Raises Stopped."""
        released = threading.Event()
        with self._lock:
            if self._stopped:
                raise Stopped
            self._waiting.add(released)
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                if released.wait(min(left, self.STEP)) or (gone is not None and gone()):
                    break
        finally:
            with self._lock:
                self._waiting.discard(released)
        if self._stopped:
            raise Stopped

    def release(self) -> int:
        """Let all hanging calls go on; how many there were."""
        with self._lock:
            for event in self._waiting:
                event.set()
            return len(self._waiting)

    def stop(self) -> None:
        self._stopped = True
        self.release()

    @property
    def count(self) -> int:
        return len(self._waiting)


class Exchange:
    """One call on its way: run the operation, then send something. Knows at the end what the caller saw."""

    def __init__(self, wire: Wire, pauses: Pauses, operation: Callable[[], Response]):
        self.wire = wire
        self.pauses = pauses
        self.outcome = "no answer"
        self.run = operation

    def send(self, response: Response) -> None:
        self.wire.send(response)
        self.outcome = str(response.status)

    def answer(self) -> None:
        """Run the operation and send what it returns, in the way that it wants it sent."""
        response = self.run()
        if response.play is None:
            self.send(response)
        else:
            response.play(self)

    def send_late(self, response: Response) -> None:
        """Send to whoever is still there, so that the log does not claim an answer that nobody got."""
        if self.wire.client_gone():
            self.wire.drop()
        else:
            self.send(response)


def latency(exchange: Exchange, params: dict[str, Any]) -> None:
    """Wait `seconds`, then answer as usual."""
    exchange.pauses.pause(params["seconds"])
    exchange.send_late(exchange.run())


def hang(exchange: Exchange, params: dict[str, Any]) -> None:
    """Never run; hold the connection for `seconds`, then close it."""
    exchange.pauses.pause(params["seconds"], exchange.wire.client_gone)
    exchange.wire.drop()


def status(exchange: Exchange, params: dict[str, Any]) -> None:
    """Never run; answer `status` with `body` (JSON; default: the provider's own for that status)."""
    exchange.send(Response(int(params["status"]), json.dumps(params["body"]).encode()))


def status_after(exchange: Exchange, params: dict[str, Any]) -> None:
    """Charged, but answered with an error `status`, as by a gateway that gave up."""
    exchange.run()
    status(exchange, params)


def rate_limited(exchange: Exchange, params: dict[str, Any]) -> None:
    """Never run; 429 with Retry-After and X-RateLimit-Reset."""
    seconds = max(1, round(params["retry_after"]))
    headers = {"Retry-After": str(seconds), "X-RateLimit-Reset": str(int(time.time()) + seconds)}
    exchange.send(Response(429, json.dumps(params["body"]).encode(), headers=headers))


def reset_before(exchange: Exchange, params: dict[str, Any]) -> None:
    """Connection reset; not charged."""
    exchange.wire.reset()


def reset_after(exchange: Exchange, params: dict[str, Any]) -> None:
    """Charged, then connection reset."""
    exchange.run()
    exchange.wire.reset()


def timeout_after(exchange: Exchange, params: dict[str, Any]) -> None:
    """Charged at once, then silence for `seconds`, then closed."""
    exchange.run()
    hang(exchange, params)


def late_charge(exchange: Exchange, params: dict[str, Any]) -> None:
    """Silence for `seconds`, then charged, although the client may have left long ago."""
    exchange.pauses.pause(params["seconds"])
    exchange.send_late(exchange.run())


def truncated_body(exchange: Exchange, params: dict[str, Any]) -> None:
    """Charged; the body stops in the middle."""
    exchange.wire.send_half(exchange.run())


def garbage_json(exchange: Exchange, params: dict[str, Any]) -> None:
    """Charged; status and headers are right but the body is no JSON."""
    answer = exchange.run()
    exchange.send(Response(answer.status, b'{"object_id": <html>oops', headers=answer.headers))


def trickle(exchange: Exchange, params: dict[str, Any]) -> None:
    """Charged; the body comes one byte per `interval` seconds."""
    exchange.wire.send_slowly(exchange.run(), lambda: exchange.pauses.pause(params["interval"]))
    exchange.outcome = "trickled"


PLAYS: dict[str, Callable[[Exchange, dict[str, Any]], None]] = {
    play.__name__: play
    for play in (
        latency,
        hang,
        status,
        status_after,
        rate_limited,
        reset_before,
        reset_after,
        timeout_after,
        late_charge,
        truncated_body,
        garbage_json,
        trickle,
    )
}


def deliver(exchange: Exchange, fault: Fault | None) -> None:
    """Answer the call, as well or as badly as the fault wants."""
    if fault is None or fault.kind not in PLAYS:
        exchange.answer()
    else:
        PLAYS[fault.kind](exchange, fault.params)
