"""The few HTTP words that providers are written in: Request, Response, Route, Router.

A provider's handler takes a Request (and the route's path parameters as keywords) and returns a Response
or raises HttpError. It never sees a socket: what a fault does to the wire is decided in `delivery`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .faults import Fault

if TYPE_CHECKING:
    from .delivery import Exchange


class HttpError(Exception):
    """The request is answered with this status and JSON body instead of a result."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None):
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})

    def response(self) -> "Response":
        return reply(self.body, self.status, self.headers)


@dataclass
class Response:
    """What goes back: status, bytes, media type, further headers.

    `play` sends it in a way of its own, where sending it as it is would not be bad enough.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    play: "Callable[[Exchange], None] | None" = None


def reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(status, json.dumps(data).encode(), headers=dict(headers or {}))


@dataclass
class Request:
    """One call. `path` has no trailing slash; `base_url` is how the caller reached us (from its Host header).

    `account` is set once the provider has authenticated the call, `fault` when a rule that changes the
    provider's own answer (not the wire) was picked for it.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    base_url: str
    account: str | None = None
    fault: Fault | None = None

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is an empty object. Raises HttpError 400 otherwise."""
        try:
            data = json.loads(self.body or b"{}")
        except ValueError as error:
            raise HttpError(400, {"detail": f"JSON parse error - {error}"}) from error
        if not isinstance(data, dict):
            raise HttpError(400, {"detail": "A JSON object is expected."})
        return data

    @property
    def metadata(self) -> str | None:
        """The `metadata` string of the body, which fault rules and the log of calls look at."""
        try:
            value = json.loads(self.body or b"{}").get("metadata")
        except (ValueError, AttributeError):
            return None
        return value if isinstance(value, str) else None


@dataclass(frozen=True)
class Route:
    """One operation of a provider.

    path:     template such as `/addresses/{id}`.
    outcomes: kinds of fault that this operation knows how to play itself; no other operation is matched by
              a rule of such a kind.
    limit:    (resource, `post` | `one` | `list`): which rate limit it counts against; None counts nowhere.
    public:   answered without authentication.
    """

    method: str
    path: str
    handler: Callable[..., Response]
    outcomes: frozenset[str] = frozenset()
    limit: tuple[str, str] | None = None
    public: bool = False

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


class Router:
    """Finds the route of a method and path among those of all providers."""

    def __init__(self) -> None:
        self._routes: list[tuple[re.Pattern[str], Route, Any]] = []

    def add(self, routes: Iterable[Route], owner: Any) -> None:
        for route in routes:
            pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route.path))
            self._routes.append((pattern, route, owner))

    def find(self, method: str, path: str) -> tuple[Route, Any, dict[str, str]]:
        """The route, its owner, its path parameters. Raises HttpError 404 or 405."""
        other_methods: list[str] = []
        for pattern, route, owner in self._routes:
            if found := pattern.fullmatch(path):
                if route.method == method:
                    return route, owner, found.groupdict()
                other_methods.append(route.method)
        if other_methods:
            raise HttpError(405, {"detail": f'Method "{method}" not allowed.'}, {"Allow": ", ".join(other_methods)})
        raise HttpError(404, {"detail": "Not found."})
