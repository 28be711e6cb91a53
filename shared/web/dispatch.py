"""Between a matched route and its answer: who asks, what comes in, the handler, what goes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flask
from flask import request

from shared.context import SYSTEM, current, use
from shared.web import idempotency, rule
from shared.web.api import Answer, Operation, adapter
from shared.web.auth import Authenticator, Identity, parse_authorization
from shared.web.conditional import not_modified
from shared.web.exchange import exchange
from shared.web.pages import Page, next_link
from shared.web.problems import Forbidden, NotFound, Unauthorized
from shared.web.reading import body_reader, query_reader
from shared.web.standing import Gate

__all__ = ["Rendered", "view_of"]


@dataclass(slots=True)
class Rendered:
    """An answer as bytes, before it becomes a response; it is what an idempotency key remembers."""

    status: int
    headers: dict[str, str]
    body: bytes


def view_of(operation: Operation, authenticate: Authenticator, gate: Gate) -> Callable[..., flask.Response]:
    """Return the Flask view of an operation."""
    handler = operation.handler
    read_body, read_query = body_reader(operation), query_reader(operation.query)
    render = _renderer(operation)
    takes_body, takes_query = operation.body is not None, operation.query is not None

    def call(identity: Identity | None, path: dict[str, Any]) -> flask.Response:
        if any("\x00" in value for value in path.values() if isinstance(value, str)):
            raise NotFound()
        arguments = path
        body = read_body(request)
        if takes_body:
            arguments["body"] = body.value
        if takes_query:
            arguments["query"] = read_query(request)
        if operation.wants_identity:
            arguments["identity"] = identity
        with rule.enforce(operation.name, timed=operation.timed):
            key = idempotency.key_of(request, operation)
            if key is None or identity is None:
                answer = handler(**arguments)
                return answer if isinstance(answer, flask.Response) else _respond(render(answer))
            replayed, rendered = idempotency.once(
                operation, identity, key, body.digest(), lambda: render(handler(**arguments))
            )
            response = _respond(rendered)
            if replayed:
                response.headers["Idempotency-Replayed"] = "true"
            return response

    def view(**path: Any) -> flask.Response:
        if operation.public:
            with gate.watching(operation):
                return call(None, path)
        identity = _identify(authenticate)
        exchange().identity = identity
        with use(tenant_id=identity.tenant_id, principal=identity.principal, role=identity.role):
            gate.admit(operation, identity)
            if operation.roles and identity.role not in operation.roles:
                raise Forbidden(
                    f"This takes the role {' or '.join(operation.roles)}; yours is {identity.role}.",
                    roles=list(operation.roles),
                )
            _check_scopes(identity)
            return call(identity, path)

    view.__name__ = operation.handler.__name__
    return view


def _identify(authenticate: Authenticator) -> Identity:
    parsed = parse_authorization(request.headers.get("Authorization"))
    if parsed is None:
        raise Unauthorized()
    identity = authenticate(*parsed)
    if identity is None:
        raise Unauthorized("These credentials are of no kind that we know.")
    if identity.tenant_id == SYSTEM:
        # Work of this tenant sees all others: it is born inside, and no credential may claim it.
        raise Unauthorized("These credentials are for no workspace.")
    return identity


def _check_scopes(identity: Identity) -> None:
    """Hold a token that is limited to scopes to them: writing needs the one, reading either."""
    if identity.scopes is None:
        return
    writes, reads = f"{current().service}:write", f"{current().service}:read"
    if writes in identity.scopes or (request.method in ("GET", "HEAD") and reads in identity.scopes):
        return
    needed = reads if request.method in ("GET", "HEAD") else writes
    raise Forbidden(f"This takes the scope {needed}; your key does not have it.", scopes=[needed])


def _renderer(operation: Operation) -> Callable[[Any], Rendered]:
    serializer = adapter(operation.answer)
    media_type = operation.answer_type

    def render(value: Any) -> Rendered:
        answer = value if isinstance(value, Answer) else Answer(value)
        status = answer.status or operation.status
        headers = dict(answer.headers)
        if answer.etag is not None:
            headers["ETag"] = answer.etag
            if operation.method == "GET" and not_modified(request, answer.etag):
                return Rendered(304, headers, b"")
        body = answer.body
        if isinstance(body, Page) and body.next_cursor:
            headers["Link"] = next_link(request, body.next_cursor)
        if body is None:
            return Rendered(204 if status == 200 else status, headers, b"")
        headers.setdefault("Content-Type", media_type)
        return Rendered(status, headers, _encode(body))

    def _encode(body: Any) -> bytes:
        if isinstance(body, bytes):
            return body
        if serializer is not None:
            # From the ORM's attributes where the handler returned a row; pydantic models pass unchanged.
            return serializer.dump_json(serializer.validate_python(body, from_attributes=True))
        if hasattr(body, "model_dump_json"):
            return bytes(body.model_dump_json(), "utf-8")
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

    return render


def _respond(rendered: Rendered) -> flask.Response:
    headers: Mapping[str, str] = rendered.headers
    response = flask.Response(rendered.body, status=rendered.status, headers=dict(headers))
    if "Content-Type" not in headers:
        response.headers.pop("Content-Type", None)
    return response
