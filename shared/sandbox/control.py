"""The control API under /_sandbox, and the page for people at /."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .core import Core
from .faults import BadRule
from .page import render
from .presets import PRESETS
from .web import HttpError, Request, Response, Route, Router, reply

PREFIX = "/_sandbox"


class Control:
    """Answers for the sandbox itself. Its calls are neither logged nor subject to faults or limits."""

    def __init__(self, core: Core):
        self._core = core
        self._router = Router()
        operations: list[tuple[str, str, Callable[..., Response]]] = [
            ("GET", "/", self.page),
            ("GET", PREFIX, self.state),
            ("GET", f"{PREFIX}/ledger", self.ledger),
            ("GET", f"{PREFIX}/calls", self.calls),
            ("GET", f"{PREFIX}/faults", self.list_faults),
            ("POST", f"{PREFIX}/faults", self.add_faults),
            ("PUT", f"{PREFIX}/faults", self.replace_faults),
            ("DELETE", f"{PREFIX}/faults", self.clear_faults),
            ("DELETE", f"{PREFIX}/faults/{{rule_id}}", self.clear_faults),
            ("POST", f"{PREFIX}/reset", self.reset),
            ("POST", f"{PREFIX}/settle", self.settle),
            ("POST", f"{PREFIX}/release", self.release),
            ("POST", f"{PREFIX}/clock", self.shift_clock),
            ("PUT", f"{PREFIX}/limits", self.scale_limits),
            ("GET", f"{PREFIX}/webhooks", self.webhooks),
            ("PUT", f"{PREFIX}/webhooks", self.set_webhook_secret),
        ]
        self._router.add([Route(method, path, handler) for method, path, handler in operations], self)
        for provider in core.providers:
            self._router.add((replace(route, path=f"{PREFIX}{route.path}") for route in provider.controls()), provider)

    def owns(self, path: str) -> bool:
        return path in ("/", PREFIX) or path.startswith(f"{PREFIX}/")

    def handle(self, request: Request) -> Response:
        try:
            route, _, params = self._router.find(request.method, request.path)
            return route.handler(request, **params)
        except HttpError as refusal:
            return refusal.response()

    def page(self, request: Request) -> Response:
        return Response(200, render(self._core).encode(), "text/html; charset=utf-8")

    def state(self, request: Request) -> Response:
        """{seed, now, offset, limits, hanging, providers, presets, smtp}; `smtp` is the mail server's port."""
        core = self._core
        return reply(
            {
                "seed": core.faults.seed,
                "now": core.clock.iso(),
                "offset": core.clock.offset,
                "limits": core.limits.scale,
                "hanging": core.pauses.count,
                "providers": [provider.name for provider in core.providers],
                "presets": sorted(PRESETS),
                "smtp": core.smtp_port,
            }
        )

    def ledger(self, request: Request) -> Response:
        """Entries, filtered by any of their text fields; `metadata` is a substring."""
        known = {
            "kind",
            "provider",
            "account",
            "transaction",
            "rate",
            "metadata",
            "currency",
            "tracking_number",
        }
        if unknown := set(request.query) - known:
            raise HttpError(400, {"detail": f"unknown filters: {', '.join(sorted(unknown))}"})
        return reply({"entries": self._core.books.entries(**request.query)})

    def calls(self, request: Request) -> Response:
        last = request.query.get("last", "0")
        if not last.isdecimal():
            raise HttpError(400, {"detail": "last is a number"})
        return reply({**self._core.calls.as_json(int(last)), "hanging": self._core.pauses.count})

    def list_faults(self, request: Request) -> Response:
        return reply({"seed": self._core.faults.seed, "rules": self._core.faults.as_json()})

    def add_faults(self, request: Request) -> Response:
        """One rule, {"rules": [...]}, or {"preset": name}; behind those in force."""
        return self._add(request.json())

    def replace_faults(self, request: Request) -> Response:
        """The same, instead of those in force."""
        return self._add(request.json(), replace_all=True)

    def clear_faults(self, request: Request, rule_id: str | None = None) -> Response:
        gone = self._core.faults.clear(rule_id)
        if rule_id is not None and not gone:
            raise HttpError(404, {"detail": f"no rule {rule_id}; a rule is gone once it has fired its times"})
        return Response(204)

    def reset(self, request: Request) -> Response:
        """{"seed"?: number}: as if just started."""
        seed = request.json().get("seed")
        if seed is not None and not isinstance(seed, int):
            raise HttpError(400, {"detail": "seed is a number"})
        self._core.reset(seed)
        return self.state(request)

    def settle(self, request: Request) -> Response:
        """Do now what is scheduled for later: queued purchases, delayed and repeated webhooks."""
        return reply({"settled": self._core.scheduler.run_all_now()})

    def release(self, request: Request) -> Response:
        """Let every hanging call go on at once."""
        return reply({"released": self._core.release()})

    def shift_clock(self, request: Request) -> Response:
        """{"advance": seconds} adds to the shift; {"offset": seconds} sets it."""
        data = request.json()
        try:
            self._core.clock.offset = float(data.get("offset", self._core.clock.offset)) + float(data.get("advance", 0))
        except (TypeError, ValueError) as error:
            raise HttpError(400, {"detail": str(error)}) from error
        return self.state(request)

    def scale_limits(self, request: Request) -> Response:
        """{"scale": factor}; 0 turns limits off. Counting starts anew."""
        scale = request.json().get("scale")
        if not isinstance(scale, int | float) or scale < 0:
            raise HttpError(400, {"detail": "scale is a number, at least 0"})
        self._core.limits.scale = float(scale)
        self._core.limits.reset()
        return self.state(request)

    def webhooks(self, request: Request) -> Response:
        return reply({"deliveries": self._core.webhooks.deliveries()})

    def set_webhook_secret(self, request: Request) -> Response:
        """{"secret": text or null}: sign what is sent from now on, or stop signing."""
        self._core.webhook_secret = request.json().get("secret")
        return Response(204)

    def _add(self, data: dict[str, Any], replace_all: bool = False) -> Response:
        if preset := data.get("preset"):
            if preset not in PRESETS:
                raise HttpError(400, {"detail": f"unknown preset; known: {', '.join(sorted(PRESETS))}"})
            data = {"rules": PRESETS[preset]}
        try:
            added = self._core.faults.add(data.get("rules", [data]), replace_all)
        except BadRule as error:
            raise HttpError(400, {"detail": str(error)}) from error
        return reply({"rules": [rule.as_json() for rule in added]}, 201)
