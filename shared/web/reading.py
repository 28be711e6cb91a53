"""From a request to a handler's arguments, strictly.

JSON is read in pydantic's strict mode: `"1"` is no number, and what PostgreSQL or JSON itself refuses (NUL
characters, NaN, integers beyond 64 bits) is answered with 400 here, not found out by the database.
Unknown fields and unknown query parameters are ignored, so that clients may be newer than we are.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
import typing
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, BinaryIO, Final, NoReturn

import flask
from pydantic import BaseModel, TypeAdapter, ValidationError
from werkzeug.exceptions import HTTPException

from shared.web.api import Operation
from shared.web.problems import BadRequest, FieldError, TooLarge, UnsupportedMediaType

__all__ = ["Body", "body_reader", "query_reader"]

_SPOOL: Final = 1 << 20  # bytes of an upload kept in memory before it goes to a temporary file
_MAX_ERRORS: Final = 20  # nobody mends more at once, and a hostile body could name thousands

# Rare in honest documents; only what was made of a document with one of these is gone through.
_SUSPICIOUS: Final = re.compile(rb"\\u0000|NaN|Infinity|\d{19}|[eE]\+?\d{3}")
_INT64: Final = 1 << 63


class Body:
    """What a handler gets as `body`, and a digest of the bytes it came as."""

    __slots__ = ("_digest", "_raw", "value")

    def __init__(self, value: Any, raw: bytes | None, digest: bytes | None = None) -> None:
        self.value = value
        self._raw = raw
        self._digest = digest

    def digest(self) -> bytes:
        """SHA-256 of the body's bytes."""
        return self._digest if self._digest is not None else hashlib.sha256(self._raw or b"").digest()


def body_reader(operation: Operation) -> Callable[[flask.Request], Body]:
    """Return what reads this operation's body; it raises BadRequest, TooLarge or UnsupportedMediaType."""
    accepted, most = operation.content_types, operation.max_body
    limit = most() if callable(most) else most

    def check(request: flask.Request) -> None:
        if accepted and not _matches(request.mimetype, accepted):
            raise UnsupportedMediaType(f"Send the body as {' or '.join(accepted)}.", accepted=list(accepted))
        request.max_content_length = limit

    if operation.body is bytes:

        def read_bytes(request: flask.Request) -> Body:
            check(request)
            raw = _bytes(request)
            return Body(raw, raw)

        return read_bytes

    if operation.body is BinaryIO:

        def read_file(request: flask.Request) -> Body:
            check(request)
            return _spooled(request, limit)

        return read_file

    if operation.body is None:
        return lambda _: Body(None, b"")

    model: TypeAdapter[Any] = TypeAdapter(operation.body)

    def read_model(request: flask.Request) -> Body:
        check(request)
        raw = _bytes(request)
        if not raw:
            raise BadRequest("The request needs a body.", errors=[FieldError(pointer="", detail="It is empty.")])
        try:
            value = model.validate_json(raw, strict=True)
        except ValidationError as error:
            raise BadRequest(errors=_errors(error, _pointer)) from None
        if _SUSPICIOUS.search(raw):
            _refuse_nonsense(raw)
            _refuse_unstorable(value, _pointer)
        return Body(value, raw)

    return read_model


def query_reader(model: type[BaseModel] | None) -> Callable[[flask.Request], Any]:
    """Return what reads the query string into the model; it raises BadRequest."""
    if model is None:
        return lambda _: None
    several = {
        field.alias or name: typing.get_origin(field.annotation) in (list, tuple, set, frozenset)
        for name, field in model.model_fields.items()
    }

    def read(request: flask.Request) -> BaseModel:
        given = request.args
        values: dict[str, Any] = {
            name: given.getlist(name) if many else given[name] for name, many in several.items() if name in given
        }
        try:
            value = model.model_validate(values)
        except ValidationError as error:
            raise BadRequest(errors=_errors(error, _parameter)) from None
        _refuse_unstorable(value, _parameter)
        return value

    return read


def _matches(given: str, accepted: tuple[str, ...]) -> bool:
    if given in accepted:
        return True
    # RFC 6839: `application/vnd.example+json` is JSON as well.
    return "application/json" in accepted and given.startswith("application/") and given.endswith("+json")


def _bytes(request: flask.Request) -> bytes:
    try:
        return request.get_data(cache=False)
    except HTTPException:
        raise
    except OSError:
        raise BadRequest("The connection broke within the body.") from None


def _spooled(request: flask.Request, limit: int) -> Body:
    digest = hashlib.sha256()
    spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115 - closed when the request ends
    size = 0
    while chunk := request.stream.read(1 << 16):
        size += len(chunk)
        if size > limit:
            spool.close()
            raise TooLarge(f"The limit is {limit} bytes.", max_bytes=limit)
        digest.update(chunk)
        spool.write(chunk)
    spool.seek(0)
    return Body(spool, None, digest.digest())


def _refuse_nonsense(raw: bytes) -> None:
    """pydantic reads NaN and Infinity, which are no JSON (RFC 8259 §6), even in fields that it ignores."""

    def refuse(what: str) -> NoReturn:
        raise BadRequest(errors=[FieldError(pointer="", detail=f"{what} is no JSON.")])

    json.loads(raw, parse_constant=refuse, parse_int=len, parse_float=len)


def _refuse_unstorable(value: Any, place: Callable[[tuple[Any, ...]], str], where: tuple[Any, ...] = ()) -> None:
    """Refuse what PostgreSQL does not take, anywhere in a validated value."""
    trouble = None
    if isinstance(value, str):
        trouble = "A text cannot hold the character NUL." if "\x00" in value else None
    elif isinstance(value, int):
        trouble = None if -_INT64 <= value < _INT64 else "The integer is beyond 64 bits."
    elif isinstance(value, float):
        trouble = None if math.isfinite(value) else "The number is too large."
    elif isinstance(value, BaseModel):
        for name, part in value:
            field = type(value).model_fields.get(name)
            _refuse_unstorable(part, place, (*where, (field and field.alias) or name))
    elif isinstance(value, Mapping):
        for name, part in value.items():
            _refuse_unstorable(name, place, where)
            _refuse_unstorable(part, place, (*where, name))
    elif isinstance(value, Sequence | Set) and not isinstance(value, bytes):
        for number, part in enumerate(value):
            _refuse_unstorable(part, place, (*where, number))
    if trouble is not None:
        raise BadRequest(errors=[FieldError(pointer=place(where), detail=trouble)])


def _errors(error: ValidationError, place: Callable[[tuple[Any, ...]], str]) -> list[FieldError]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [FieldError(pointer=place(each["loc"]), detail=each["msg"]) for each in found[:_MAX_ERRORS]]


def _pointer(where: tuple[Any, ...]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in where)


def _parameter(where: tuple[Any, ...]) -> str:
    return f"query:{where[0] if where else ''}"
