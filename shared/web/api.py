"""Declaring an API: what an operation takes, who may call it, what it answers.

    api = Api("shipping")

    @api.post("/v1/orders", role=("owner", "manager", "sales"), status=201)
    def create_order(body: NewOrder) -> OrderView: ...

A handler is a plain function. Its parameters say what it wants: `body` (a pydantic model, `bytes` or
`BinaryIO`), `query` (a pydantic model), `identity` (an `Identity`), and one for each part of the path. Its
return annotation says what it answers: a pydantic model, a `Page` of them, an `Answer`, or None (204).
Routing, checks, OpenAPI and the reference documentation are all made from this one declaration; wrong
declarations raise when the module is imported, not when the first request arrives.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, BinaryIO, Final, Generic, Literal, TypeVar
from uuid import UUID

import flask
from pydantic import BaseModel, TypeAdapter

from shared.web.auth import check_roles
from shared.web.jobs_view import Explain, JobView
from shared.web.problems import Problem

__all__ = ["Answer", "Api", "Idempotency", "Operation"]

T = TypeVar("T")
Idempotency = Literal["required", "optional", "none"]
Standing = Literal["usual", "any"]

MAX_BODY: Final = 1 << 20
"""Bytes. Larger documents are an operation's own business (`max_body`), and an upload's."""

_PATH_PART: Final = re.compile(r"<(?:(?P<converter>\w+)(?:\([^)]*\))?:)?(?P<name>\w+)>")
_CONVERTERS: Final = {"uuid": UUID, "int": int, "string": str, None: str, "path": str}


@dataclass(frozen=True)
class Answer(Generic[T]):
    """An answer with more to say than its body: another status, headers, the version of the resource.

    A handler annotated `-> Answer[OrderView]` answers with an `OrderView`.
    """

    body: Any = None
    """What was declared, or anything with its attributes, such as a row; bytes go out as they are."""

    status: int | None = None
    """None stands for the status that the operation declares."""

    headers: Mapping[str, str] = field(default_factory=dict)

    etag: str | None = None
    """As `shared.web.conditional.etag` makes it; a GET whose `If-None-Match` names it is answered by 304."""


@dataclass(frozen=True)
class Operation:
    """One method of one path, as declared."""

    method: str
    path: str
    handler: Callable[..., Any]
    name: str
    """Unique within the process: `<api>.<function>`; the operationId."""
    tag: str
    status: int
    roles: tuple[str, ...]
    """Who may; empty for every role."""
    public: bool
    idempotency: Idempotency
    raises: tuple[type[Problem], ...]
    path_types: Mapping[str, type]
    body: Any
    """The annotation of `body`: a model's class, bytes or BinaryIO; None without one."""
    content_types: tuple[str, ...]
    max_body: int | Callable[[], int]
    """Bytes; a function where a setting says it."""
    query: type[BaseModel] | None
    wants_identity: bool
    answer: Any
    """The annotation of the answer's body; None for an empty one."""
    answer_type: str
    """Media type of a good answer."""
    headers: Mapping[str, str]
    """Headers that a good answer carries, with what they say."""
    redirect: str
    """What is at the `Location` of the 303 with which it may answer as well; "" when it never does."""
    request_headers: Mapping[str, str]
    """Headers that it understands beyond the usual ones, with what they say."""
    conditional: bool
    """Whether `If-None-Match` may be answered by 304."""
    examples: Mapping[str, Any]
    """`body` and `answer`, for the document."""
    timed: bool
    """Whether the Rule's time limit applies; only streams and waits of ours are exempt."""
    standing: Standing
    """What its workspace's standing forbids; see `shared.web.standing`."""
    hidden: bool

    @property
    def summary(self) -> str:
        """First sentence of the handler's docstring."""
        return (inspect.getdoc(self.handler) or self.handler.__name__.replace("_", " ")).split("\n")[0]

    @property
    def description(self) -> str | None:
        """The rest of the docstring."""
        return "\n".join((inspect.getdoc(self.handler) or "").split("\n")[1:]).strip() or None

    @property
    def reads_model(self) -> bool:
        """Whether the body is a JSON document with a schema."""
        return self.body is not None and self.body is not bytes and self.body is not BinaryIO


class Api:
    """A named group of operations. Several make up an app."""

    def __init__(self, name: str, *, description: str = "") -> None:
        self.name = name
        self.description = description
        self.operations: list[Operation] = []
        self.explain: Explain | None = None
        """How the failures of the service's jobs are put into words; the jobs' own api brings it."""

    def get(self, path: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a GET; see `operation`."""
        return self.operation("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a POST; see `operation`. It honors `Idempotency-Key` unless told otherwise."""
        options.setdefault("idempotency", "none" if options.get("public") else "optional")
        return self.operation("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a PUT; see `operation`."""
        return self.operation("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a PATCH; see `operation`."""
        return self.operation("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a DELETE; see `operation`."""
        return self.operation("DELETE", path, **options)

    def operation(
        self,
        method: str,
        path: str,
        *,
        role: str | Iterable[str] = (),
        public: bool = False,
        status: int | None = None,
        idempotency: Idempotency = "none",
        raises: Iterable[type[Problem]] = (),
        content_types: Iterable[str] = (),
        max_body: int | Callable[[], int] = MAX_BODY,
        answer: Any = None,
        answer_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        redirect: str = "",
        request_headers: Mapping[str, str] | None = None,
        examples: Mapping[str, Any] | None = None,
        timed: bool = True,
        standing: Standing | None = None,
        hidden: bool = False,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare an operation; a decorator which returns the handler unchanged.

        `role`: who may (default: every role); `public`: no token is asked for. `idempotency`: what becomes
        of an `Idempotency-Key` (see shared.web.idempotency). `raises`: the problems of its own that it may
        answer with. `content_types`: what a `bytes` or `BinaryIO` body may come as (default: anything).
        `answer`: the model of the body when the return annotation does not say it. `redirect`: what is at the
        `Location` of a 303, where it may answer with one instead. `standing`: `any` is also there while the workspace
        is frozen or suspended; it is the default of public ones (see shared.web.standing). `hidden`: not in the
        OpenAPI document.
        Raises TypeError or ValueError for a declaration that cannot work.
        """

        def declare(handler: Callable[..., Any]) -> Callable[..., Any]:
            where = f"{self.name}.{handler.__name__}"
            hints = typing.get_type_hints(handler, include_extras=True)
            parameters = inspect.signature(handler).parameters
            path_types = {
                match["name"]: _CONVERTERS.get(match["converter"], str) for match in _PATH_PART.finditer(path)
            }
            expected = {*path_types, "body", "query", "identity"}
            if not set(path_types) <= set(parameters) <= expected:
                raise TypeError(f"{where}: takes {', '.join(parameters) or 'nothing'}, the path has {path!r}")
            body = hints["body"] if "body" in parameters else None
            query = hints["query"] if "query" in parameters else None
            if query is not None and not issubclass(query, BaseModel):
                raise TypeError(f"{where}: query must be a pydantic model")
            if public and (role or idempotency != "none" or "identity" in parameters):
                raise ValueError(f"{where}: a public operation knows no role, identity and idempotency key")
            returned = hints.get("return")
            answers = returned is Answer or typing.get_origin(returned) is Answer
            if answers:
                returned = next(iter(typing.get_args(returned)), None)
            elif returned is flask.Response or returned is type(None):
                returned = None
            elif returned is None and status == HTTPStatus.ACCEPTED and answer is None:
                returned = JobView  # what `accepted` answers
            default_types = ("application/json",) if body is not None and body not in (bytes, BinaryIO) else ()
            self.operations.append(
                Operation(
                    method=method,
                    path=path,
                    handler=handler,
                    name=where,
                    tag=self.name,
                    status=status or (204 if hints.get("return") is type(None) else 200),
                    roles=check_roles((role,) if isinstance(role, str) else tuple(role)),
                    public=public,
                    idempotency=idempotency,
                    raises=tuple(raises),
                    path_types=path_types,
                    body=body,
                    content_types=tuple(content_types) or default_types,
                    max_body=max_body,
                    query=query,
                    wants_identity="identity" in parameters,
                    answer=answer if answer is not None else returned,
                    answer_type=answer_type,
                    headers=dict(headers or {}),
                    redirect=redirect,
                    request_headers=dict(request_headers or {}),
                    conditional=method == "GET" and answers,
                    examples=dict(examples or {}),
                    timed=timed,
                    standing=standing or ("any" if public else "usual"),
                    hidden=hidden,
                )
            )
            return handler

        return declare


def adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """The serializer of an answer, None for an empty one."""
    return None if annotation is None else TypeAdapter(annotation)
