"""The sandbox without its sockets: one object that holds all state and answers calls."""

import secrets
import ssl
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .calls import CallLog
from .clock import Clock, Scheduler
from .delivery import Exchange, Pauses, Stopped, Wire, deliver
from .erp import Erp
from .faults import WIRE_KINDS, Call, Fault, FaultBook
from .images import Images
from .ledger import Books
from .limits import RateLimits
from .model import Model
from .paddle import Paddle
from .provider import Provider
from .shippo import Shippo
from .smtp import Smtp
from .web import HttpError, Request, Response, Route, Router, reply
from .webhooks import WebhookSender

PROVIDERS: tuple[type[Provider], ...] = (Shippo, Images, Erp, Model, Paddle, Smtp)


@dataclass(frozen=True)
class Options:
    """How a sandbox behaves when no fault says otherwise.

    seed:            of chance; None draws one, which the control API shows, so that a run can be repeated.
    ledger:          file for the books, or None: in memory only.
    limits:          factor on the providers' documented rate limits; 0 turns them off.
    settle_seconds:  how long a purchase or refund stays QUEUED.
    label_seconds:   how long a link to a label file is valid.
    public_url:      how others reach the sandbox, for links in webhooks; default: the address it listens on.
    webhook_secret:  signs what is sent, if set.
    webhook_retries: waits in seconds before sending again what was not accepted.
    smtp_port:       where the mail server listens; 0 takes a free port.
    smtp_login:      user and password without which it takes no mail; None: it asks nobody.
    smtp_tls:        offers STARTTLS with this certificate; None: no TLS.
    """

    seed: int | None = None
    ledger: Path | None = None
    limits: float = 1.0
    settle_seconds: float = 1.0
    label_seconds: float = 24 * 3600.0
    public_url: str | None = None
    webhook_secret: str | None = None
    webhook_retries: tuple[float, ...] = (0.5, 2.0, 5.0)
    smtp_port: int = 0
    smtp_login: tuple[str, str] | None = None
    smtp_tls: ssl.SSLContext | None = None


class Core:
    """All state, and `handle`, which any number of threads may call."""

    def __init__(self, options: Options, base_url: str = "http://sandbox.invalid"):
        self.options = options
        self.base_url = options.public_url or base_url
        self.clock = Clock()
        self.books = Books(options.ledger)
        self.faults = FaultBook(secrets.randbelow(2**31) if options.seed is None else options.seed)
        self.calls = CallLog()
        self.limits = RateLimits(self.clock, options.limits)
        self.pauses = Pauses()
        self.scheduler = Scheduler()
        self.webhooks = WebhookSender(self)
        self.webhook_secret = options.webhook_secret
        self.router = Router()
        self.providers = [provider(self) for provider in PROVIDERS]
        for provider in self.providers:
            self.router.add(provider.routes(), provider)
            provider.resume()

    def start(self, host: str) -> None:
        """Have providers listen that speak more than HTTP. Raises OSError."""
        for provider in self.providers:
            provider.start(host)

    @property
    def smtp_port(self) -> int:
        """Where the mail server listens; 0 before it does."""
        return next(provider.server.port for provider in self.providers if isinstance(provider, Smtp))

    def handle(self, request: Request, wire: Wire) -> None:
        """Answer one call on its wire, and log it."""
        started, at = time.monotonic(), self.clock.iso()
        self.calls.begin()
        exchange, fault, name = Exchange(wire, self.pauses, lambda: reply(None)), None, "unknown"
        try:
            route, provider, params = self.router.find(request.method, request.path)
            name = route.name
            self._admit(request, route, provider)
            fault = self._pick(request, route, provider)
            exchange.run = lambda: _operate(request, route, params)
            with provider.serving(request):
                deliver(exchange, fault)
        except HttpError as refusal:
            exchange.send(refusal.response())
        except Stopped:
            wire.drop()
        except Exception:
            # A bug of the stand-in must look like one, not like a fault that somebody asked for.
            traceback.print_exc()
            exchange.send(reply({"detail": "The sandbox itself failed; see its output."}, 500))
        finally:
            self.calls.end(
                time=at,
                method=request.method,
                path=request.path,
                route=name,
                account=request.account,
                metadata=request.metadata,
                outcome=exchange.outcome,
                fault=fault.kind if fault else None,
                seconds=round(time.monotonic() - started, 4),
            )

    def reset(self, seed: int | None = None) -> None:
        """As if just started: forget books, calls, rules, clock, limits, webhooks; let hung calls go."""
        self.scheduler.clear()
        self.webhooks.reset()
        self.faults.clear()
        if seed is not None:
            self.faults.seed = seed
        self.books.reset()
        self.calls.reset()
        for provider in self.providers:
            provider.reset()
        self.clock.offset = 0.0
        self.limits.reset()
        self.limits.scale = self.options.limits
        self.webhook_secret = self.options.webhook_secret
        self.release()

    def release(self) -> int:
        """Let everything that hangs go on; how many calls that were."""
        return self.pauses.release() + sum(provider.release() for provider in self.providers)

    def stop(self) -> None:
        self.pauses.stop()
        self.scheduler.stop()
        self.webhooks.stop()
        for provider in self.providers:
            provider.stop()
        self.books.close()

    def _admit(self, request: Request, route: Route, provider: Provider) -> None:
        if route.public:
            return
        request.account = provider.authenticate(request)
        allowance = provider.allowance(request.account, route.limit) if route.limit else None
        if route.limit is None or allowance is None:
            return
        ends = self.limits.take(request.account, route.limit, allowance)
        if ends is not None:
            headers = {
                "Retry-After": str(max(1, round(ends - self.clock.now()))),
                "X-RateLimit-Reset": str(int(ends - self.clock.offset)),
            }
            raise HttpError(429, provider.error_body(429), headers)

    def _pick(self, request: Request, route: Route, provider: Provider) -> Fault | None:
        fault = self.faults.pick(Call(request.method, request.path, request.account, request.metadata, route.outcomes))
        if fault is None:
            return None
        if fault.kind not in WIRE_KINDS:
            request.fault = fault
        elif fault.kind == "rate_limited":
            fault.params["body"] = provider.error_body(429)
        elif fault.params.get("body", ...) is None:
            fault.params["body"] = provider.error_body(int(fault.params["status"]))
        return fault


def _operate(request: Request, route: Route, params: dict[str, Any]) -> Response:
    try:
        return route.handler(request, **params)
    except HttpError as refusal:
        return refusal.response()
