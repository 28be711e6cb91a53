"""Problem details (RFC 9457): the one shape in which every refusal and failure is answered.

A problem is an exception. Raise it anywhere in a handler: the unit of work rolls back and the client gets
`application/problem+json` with a stable `type`, the field at fault where there is one, and the request's
id. A service adds its own by subclassing; the class is its documentation: the docstring is served under
`/problems/<slug>` and its status is listed in the OpenAPI document.

    class OrderNotReady(Conflict):
        \"\"\"The order has no validated address yet.\"\"\"
        slug, title = "order-not-ready", "The order is not ready"

    raise OrderNotReady("Order 1042 waits for its address to be checked.", order_id=str(order.id))
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import flask
from pydantic import BaseModel, ConfigDict, Field

from shared.context import current

__all__ = [
    "BadRequest",
    "Conflict",
    "FieldError",
    "Forbidden",
    "IdempotencyConflict",
    "IdempotencyInFlight",
    "IdempotencyKeyMissing",
    "InternalError",
    "MethodNotAllowed",
    "NotFound",
    "PreconditionFailed",
    "PreconditionRequired",
    "Problem",
    "ProblemDocument",
    "RuleCallsOut",
    "RuleTooLong",
    "RuleTooManyRecords",
    "RuleViolation",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Unprocessable",
    "UnsupportedMediaType",
    "registered",
]

MEDIA_TYPE = "application/problem+json"

_registry: dict[str, type[Problem]] = {}


class FieldError(BaseModel):
    """One thing wrong with the request."""

    pointer: str = Field(
        description="Where: a JSON pointer (RFC 6901) into the body, `query:<name>` or `header:<name>`.",
        examples=["/parcel/weight_grams"],
    )
    detail: str = Field(description="What is wrong there.", examples=["Input should be greater than 0"])


class ProblemDocument(BaseModel):
    """An answer that is no success, as RFC 9457 has it. Further members depend on the type."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(description="What kind of problem: a stable path that explains it, or `about:blank`.")
    title: str = Field(description="The kind of problem in words, the same for all of its type.")
    status: int = Field(description="The HTTP status, repeated.")
    detail: str | None = Field(None, description="This very case, in a sentence for people.")
    instance: str | None = Field(None, description="Path of the request.")
    code: str = Field(description="The kind of problem as a word for programs.")
    request_id: str | None = Field(None, description="Quote it to support; it is in our logs.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    errors: list[FieldError] | None = Field(None, description="What is wrong, field by field.")


class Problem(Exception):
    """Something kept the request from being done."""

    slug: ClassVar[str] = "problem"
    """Last part of `type`. Stable: clients compare it. Unique among all problems of the process."""

    title: ClassVar[str] = "The request was not done"
    """The same for all instances."""

    status: ClassVar[int] = 500

    retryable: ClassVar[bool] = False
    """Whether the very same request may succeed later."""

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extensions = extensions

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        slug = cls.__dict__.get("slug")
        if slug is None:
            return  # shares its parent's type: a way to say the same thing elsewhere
        known = _registry.get(slug)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"two problems have the slug {slug!r}: {known.__qualname__}, {cls.__qualname__}")
        _registry[slug] = cls

    @classmethod
    def code(cls) -> str:
        """The kind of problem as a word for programs: the slug in snake case."""
        return cls.slug.replace("-", "_")

    @classmethod
    def explanation(cls) -> str:
        """What this kind of problem means, from the class's docstring."""
        return inspect.cleandoc(cls.__doc__ or cls.title)

    @classmethod
    def type_uri(cls) -> str:
        """The stable path under which the app explains this kind of problem."""
        return f"/problems/{cls.slug}"

    def document(self) -> dict[str, Any]:
        """The body of the answer, as `ProblemDocument` describes it."""
        document: dict[str, Any] = {
            "type": self.type_uri(),
            "title": self.title,
            "status": self.status,
            "detail": self.detail or self.title + ".",
            "code": self.code(),
            "request_id": current().request_id,
            "retryable": self.retryable,
        }
        if flask.has_request_context():
            document["instance"] = flask.request.path
        if self.errors:
            document["errors"] = [error.model_dump() for error in self.errors]
        return {**self.extensions, **document}

    def response(self) -> flask.Response:
        """The answer itself."""
        response = flask.Response(flask.json.dumps(self.document()), status=self.status, content_type=MEDIA_TYPE)
        response.headers.update(self.headers)
        return response


def registered() -> Iterator[type[Problem]]:
    """All kinds of problems of this process, by slug."""
    for slug in sorted(_registry):
        yield _registry[slug]


def find(slug: str) -> type[Problem] | None:
    """The kind of problem with this slug, or None."""
    return _registry.get(slug)


class BadRequest(Problem):
    """The request cannot be understood: its JSON is broken, a field is missing or has a wrong value.

    `errors` names each fault. Mend the request; sending the same one again will not help.
    """

    slug, title, status = "invalid-request", "The request is not valid", 400


class IdempotencyKeyMissing(Problem):
    """This operation must not be done twice by accident, so it wants an `Idempotency-Key` header.

    Send a fresh UUID with each new intent, and the same one when you repeat a request that got no answer.
    """

    slug, title, status = "idempotency-key-missing", "An Idempotency-Key is needed", 400


class Unauthorized(Problem):
    """The request carries no valid token.

    Send `Authorization: Bearer <token>` with a token that has not expired.
    """

    slug, title, status = "unauthorized", "Sign in first", 401

    def __init__(self, detail: str | None = None, **extensions: Any) -> None:
        super().__init__(detail, **extensions)
        # RFC 6750 §3: no error code when the request carried no credentials at all.
        self.headers["WWW-Authenticate"] = 'Bearer realm="backroom"' + (
            ', error="invalid_token"' if detail is not None else ""
        )


class Forbidden(Problem):
    """You are known, but may not do this. `roles` lists the roles which may, `scopes` what your API key lacks."""

    slug, title, status = "forbidden", "You may not do this", 403


class NotFound(Problem):
    """There is no such thing here, or it belongs to somebody else."""

    slug, title, status = "not-found", "There is no such thing", 404


class MethodNotAllowed(Problem):
    """The path exists, but not with this method. The `Allow` header lists the methods."""

    slug, title, status = "method-not-allowed", "Not with this method", 405


class Conflict(Problem):
    """The state of things forbids it: something else happened before. Look again, then decide anew."""

    slug, title, status = "conflict", "The state of things forbids it", 409


class IdempotencyInFlight(Problem):
    """The first request with this `Idempotency-Key` is still being worked on.

    Repeat yours after the time in `Retry-After`: you will get the answer of the first.
    """

    slug, title, status = "idempotency-key-in-use", "The first request is still running", 409
    retryable = True

    def __init__(self, detail: str | None = None, **extensions: Any) -> None:
        super().__init__(detail, headers={"Retry-After": "1"}, **extensions)


class PreconditionFailed(Problem):
    """It has changed since you looked: your `If-Match` names another version. Read it again first."""

    slug, title, status = "precondition-failed", "It has changed since you looked", 412


class TooLarge(Problem):
    """The body of the request is larger than this operation takes. `max_bytes` says how much it takes."""

    slug, title, status = "too-large", "The request is too large", 413


class UnsupportedMediaType(Problem):
    """The body comes as a type which this operation does not read. `accepted` lists those it reads."""

    slug, title, status = "unsupported-media-type", "Not this type of content", 415


class Unprocessable(Problem):
    """The request is well formed, but cannot be followed as it stands."""

    slug, title, status = "unprocessable", "The request cannot be followed", 422


class IdempotencyConflict(Problem):
    """This `Idempotency-Key` came before with another request.

    A key stands for one intent. Send a fresh one with a new intent.
    """

    slug, title, status = "idempotency-key-reused", "The key was used for another request", 422


class PreconditionRequired(Problem):
    """Say which version you mean to change: send its `ETag` as `If-Match`."""

    slug, title, status = "precondition-required", "Say which version you mean", 428


class TooManyRequests(Problem):
    """You ask faster than agreed. Go on after the time in `Retry-After`."""

    slug, title, status, retryable = "too-many-requests", "Too many requests", 429, True

    def __init__(self, detail: str | None = None, *, retry_after: int = 1, **extensions: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)}, **extensions)


class InternalError(Problem):
    """A fault of ours. It is in our logs under the request's id."""

    slug, title, status = "internal-error", "Something went wrong on our side", 500


class Unavailable(Problem):
    """We cannot do this at the moment. Nothing was done; repeat it after the time in `Retry-After`."""

    slug, title, status, retryable = "unavailable", "Not available at the moment", 503, True

    def __init__(self, detail: str | None = None, *, retry_after: int = 2, **extensions: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)}, **extensions)


class RuleViolation(Problem):
    """The operation broke the Rule: a request is quick and small, all else is a job. Nothing was done."""

    slug, title, status = "rule", "The request did more than a request may", 500


class RuleTooLong(RuleViolation):
    """The request took longer than a request may, so it was undone. Nothing was done."""

    slug, title, status, retryable = "rule-too-long", "The request took too long", 503, True

    def __init__(self, detail: str | None = None, **extensions: Any) -> None:
        super().__init__(detail, headers={"Retry-After": "2"}, **extensions)


class RuleTooManyRecords(RuleViolation):
    """The request was about to change more records than a request may, so it was undone. Ask for less."""

    slug, title, status = "rule-too-many-records", "The request changes too many records", 500


class RuleCallsOut(RuleViolation):
    """The operation was about to call somebody else's system, which only jobs do. Nothing was done."""

    slug, title, status = "rule-calls-out", "The request was about to call out", 500
