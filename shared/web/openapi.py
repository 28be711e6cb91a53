"""The OpenAPI 3.1 document, made from the same declarations from which requests are served.

Every answer that an operation can give is listed, problems included, so that clients can be generated and
the document can be tested against the service. Answer 500 is left out on purpose: it is never meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, BinaryIO, Final
from uuid import UUID

from pydantic import TypeAdapter

from shared.web import problems
from shared.web.api import Api, Operation
from shared.web.errors import Busy
from shared.web.idempotency import HEADER
from shared.web.problems import Problem
from shared.web.standing import refusals_of

__all__ = ["document", "problems_of"]

_REF: Final = "#/components/schemas/{model}"
_INT64: Final = {"minimum": -(1 << 63), "maximum": (1 << 63) - 1}
_PATH_SCHEMAS: Final[dict[type, dict[str, Any]]] = {
    UUID: {"type": "string", "format": "uuid"},
    int: {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1},
    str: {"type": "string", "minLength": 1},
}
_HEADERS: Final[dict[str, str]] = {
    "X-Request-Id": "Id of this request; quote it to support.",
}


def document(apis: Sequence[Api], *, title: str, version: str, description: str = "") -> dict[str, Any]:
    """Return the OpenAPI document of these apis."""
    operations = [operation for api in apis for operation in api.operations if not operation.hidden]
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    used: dict[str, type[Problem]] = {}
    for operation in operations:
        kinds = problems_of(operation)
        used |= {kind.slug: kind for kind in kinds}
        path = re.sub(r"<(?:[^:>]*:)?(\w+)>", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, kinds, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "tags": [{"name": api.name, "description": api.description} for api in apis],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "examples": {slug: {"value": _example(kind)} for slug, kind in sorted(used.items())},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A short-lived token from the workspaces service.",
                }
            },
        },
    }


def problems_of(operation: Operation) -> list[type[Problem]]:
    """Return the problems with which the operation may answer, its own and those of its declaration."""
    found: list[type[Problem]] = []
    reads = operation.body is not None
    if reads or operation.query is not None or operation.idempotency != "none":
        found.append(problems.BadRequest)
    if operation.idempotency == "required":
        found.append(problems.IdempotencyKeyMissing)
    if not operation.public:
        # Any operation may be outside of the scopes of an API key.
        found += [problems.Unauthorized, problems.Forbidden]
    found += refusals_of(operation)
    if operation.path_types:
        found.append(problems.NotFound)
    if operation.method != "GET":
        found += [problems.Conflict, Busy]
    if reads:
        found.append(problems.TooLarge)
        if operation.content_types:
            found.append(problems.UnsupportedMediaType)
    if operation.idempotency != "none":
        found += [problems.IdempotencyInFlight, problems.IdempotencyConflict]
    found += [problems.Unavailable, problems.RuleTooLong]
    return list(dict.fromkeys([*found, *operation.raises]))


class _Schemas:
    """All models of the operations, each once, under the names by which they refer to each other."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        wanted: list[tuple[Any, Any, TypeAdapter[Any]]] = [
            ("problem", "serialization", TypeAdapter(problems.ProblemDocument))
        ]
        self.components: dict[str, Any] = {}
        self._queries: dict[str, dict[str, Any]] = {}
        for operation in operations:
            if operation.reads_model:
                wanted.append((operation.name, "validation", TypeAdapter(operation.body)))
            if operation.answer is not None:
                wanted.append((operation.name, "serialization", TypeAdapter(operation.answer)))
            if operation.query is not None:
                schema = operation.query.model_json_schema(ref_template=_REF)
                self.components |= schema.pop("$defs", {})
                self._queries[operation.name] = schema
        self._by_use, definitions = TypeAdapter.json_schemas(wanted, ref_template=_REF)
        self.components |= definitions.get("$defs", {})
        _bound_integers(self.components)
        _bound_integers(self._queries)

    def body(self, operation: Operation) -> dict[str, Any]:
        return self._by_use[operation.name, "validation"]

    def answer(self, operation: Operation) -> dict[str, Any]:
        return self._by_use[operation.name, "serialization"]

    def problem(self) -> dict[str, Any]:
        return self._by_use["problem", "serialization"]

    def query(self, operation: Operation) -> list[dict[str, Any]]:
        schema = self._queries.get(operation.name, {"properties": {}})
        required = schema.get("required", ())
        return [
            {
                "name": name,
                "in": "query",
                "required": name in required,
                "description": each.get("description", ""),
                "schema": _without_null(each),
            }
            for name, each in schema["properties"].items()
        ]


def _operation(operation: Operation, kinds: list[type[Problem]], schemas: _Schemas) -> dict[str, Any]:
    result: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [*_parameters(operation), *schemas.query(operation)],
        "responses": {**_good_answers(operation, schemas), **_problem_answers(kinds, schemas)},
        "security": [] if operation.public else [{"bearer": []}],
    }
    if operation.description:
        result["description"] = operation.description
    if operation.roles:
        result["x-roles"] = list(operation.roles)
    if not operation.public:
        result["x-standing"] = operation.standing
    if operation.body is not None:
        result["requestBody"] = {"required": operation.reads_model, "content": _request_content(operation, schemas)}
    return result


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[kind]}
        for name, kind in operation.path_types.items()
    ]
    if operation.idempotency != "none":
        found.append(
            {
                "name": HEADER,
                "in": "header",
                "required": operation.idempotency == "required",
                "description": "A fresh UUID per intent. The same request with the same key is done once; "
                "its answer is kept for 7 days.",
                "schema": {"type": "string", "pattern": "^[!#-+\\--~]{1,255}$"},
                "example": "0198c7a2-5f0e-7c3e-9a51-3f1f5c1e2a77",
            }
        )
    if operation.conditional:
        found.append(
            {
                "name": "If-None-Match",
                "in": "header",
                "description": "An `ETag` seen before: answers 304 while it is still the current one.",
                "schema": {"type": "string"},
            }
        )
    if problems.PreconditionFailed in operation.raises:
        found.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": problems.PreconditionRequired in operation.raises,
                "description": "The `ETag` of the version that you mean to change.",
                "schema": {"type": "string"},
            }
        )
    found += [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in operation.request_headers.items()
    ]
    return found


def _request_content(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    if operation.body in (bytes, BinaryIO):
        return {media_type: {} for media_type in operation.content_types or ("application/octet-stream",)}
    content: dict[str, Any] = {"schema": schemas.body(operation)}
    if "body" in operation.examples:
        content["example"] = operation.examples["body"]
    return dict.fromkeys(operation.content_types, content)


def _good_answers(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    headers = {**_HEADERS, **operation.headers}
    if operation.idempotency != "none":
        headers["Idempotency-Replayed"] = "`true` when this is the answer to an earlier request."
    if operation.status == HTTPStatus.ACCEPTED and operation.answer is not None:
        headers.setdefault("Location", "Where the job is.")
        headers.setdefault("Retry-After", "Seconds after which to look again.")
    if operation.conditional:
        headers["ETag"] = "Version of the resource."
    good: dict[str, Any] = {
        "description": HTTPStatus(operation.status).phrase,
        "headers": {name: _header(text) for name, text in headers.items()},
    }
    if operation.answer is not None:
        content: dict[str, Any] = {"schema": schemas.answer(operation)}
        if "answer" in operation.examples:
            content["example"] = operation.examples["answer"]
        good["content"] = {operation.answer_type: content}
    elif operation.answer_type != "application/json":
        text = operation.answer_type.startswith("text/")
        good["content"] = {operation.answer_type: {"schema": {"type": "string"}} if text else {}}
    answers = {str(operation.status): good}
    if operation.redirect:
        answers["303"] = {
            "description": "See Other",
            "headers": {name: _header(text) for name, text in {**_HEADERS, "Location": operation.redirect}.items()},
        }
    if operation.conditional:
        answers["304"] = {"description": "Not Modified", "headers": {"ETag": _header(headers["ETag"])}}
    return answers


def _problem_answers(kinds: list[type[Problem]], schemas: _Schemas) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status in sorted({kind.status for kind in kinds}):
        same = [kind for kind in kinds if kind.status == status]
        headers = {**_HEADERS}
        if any(kind.retryable for kind in same):
            headers["Retry-After"] = "Seconds after which to try again."
        answers[str(status)] = {
            "description": "; ".join(f"`{kind.slug}`: {kind.title}" for kind in same),
            "headers": {name: _header(text) for name, text in headers.items()},
            "content": {
                problems.MEDIA_TYPE: {
                    "schema": schemas.problem(),
                    "examples": {kind.slug: {"$ref": f"#/components/examples/{kind.slug}"} for kind in same},
                }
            },
        }
    return answers


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}}


def _example(kind: type[Problem]) -> dict[str, Any]:
    return {
        "type": kind.type_uri(),
        "title": kind.title,
        "status": kind.status,
        "detail": kind.title + ".",
        "code": kind.code(),
        "request_id": "0198c7a2-5f0e-7c3e-9a51-3f1f5c1e2a77",
        "retryable": kind.retryable,
    }


def _bound_integers(schema: Any) -> None:
    """Say of each integer without bounds of its own what `reading` enforces: 64 bits."""
    if isinstance(schema, dict):
        if schema.get("type") == "integer" and not {"enum", "const"} & schema.keys():
            lower = {"minimum", "exclusiveMinimum"} & schema.keys()
            upper = {"maximum", "exclusiveMaximum"} & schema.keys()
            schema |= {} if lower else {"minimum": _INT64["minimum"]}
            schema |= {} if upper else {"maximum": _INT64["maximum"]}
        for value in list(schema.values()):
            _bound_integers(value)
    elif isinstance(schema, list):
        for value in schema:
            _bound_integers(value)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter is left out rather than sent as null."""
    options = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "title", "description")}
    if rest.get("default", ...) is None:
        del rest["default"]
    if not options:
        return rest
    return {**rest, **options[0]} if len(options) == 1 else {**rest, "anyOf": options}
