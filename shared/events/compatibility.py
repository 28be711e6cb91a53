"""What breaks a reader of events: the differences between two versions of a contract's JSON Schema.

Old readers must understand new events, and new readers old ones: either may be deployed first, and events
are replayed. So a schema may only grow: new optional properties, and new values of an enumeration,
which readers take for open. Everything else is a new type with the next version number.
Texts (titles, descriptions, examples) and defaults do not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["breaking_changes"]

_TEXTS = frozenset({"$id", "$schema", "$defs", "title", "description", "examples", "default", "deprecated"})
_STRUCTURE = frozenset(
    {"properties", "required", "items", "prefixItems", "additionalProperties", "anyOf", "enum", "const"}
)

Schema = Mapping[str, Any]


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Return what in `new` breaks a reader of `old`, or makes an event of `old` unreadable; none: it is compatible.

    Each is a sentence that begins with the JSON pointer of the value concerned.
    """
    return list(_compare("", old, new, old, new))


def _compare(at: str, old: Any, new: Any, old_root: Schema, new_root: Schema) -> Iterator[str]:
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        if old != new:
            yield f"{at or '/'}: was {old!r}, is {new!r}"
        return
    yield from _properties(at, old, new, old_root, new_root)
    yield from _choices(at, old, new, old_root, new_root)
    for name in ("items", "additionalProperties"):
        if name in old or name in new:
            yield from _compare(f"{at}/*", old.get(name, True), new.get(name, True), old_root, new_root)
    if old.get("prefixItems") != new.get("prefixItems"):
        yield f"{at or '/'}: its items changed"
    for name in sorted((old.keys() | new.keys()) - _TEXTS - _STRUCTURE):
        if old.get(name) != new.get(name):
            yield f"{at or '/'}: {name} was {old.get(name)!r}, is {new.get(name)!r}"


def _properties(at: str, old: Schema, new: Schema, old_root: Schema, new_root: Schema) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name in sorted(before.keys() - after.keys()):
        yield f"{at}/{name}: was removed"
    for name in sorted(before.keys() & after.keys()):
        yield from _compare(f"{at}/{name}", before[name], after[name], old_root, new_root)
    required = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(required[1] - required[0]):
        yield f"{at}/{name}: is required now, and events of before lack it"
    for name in sorted((required[0] - required[1]) & after.keys()):
        yield f"{at}/{name}: may be missing now, and readers of before rely on it"


def _choices(at: str, old: Schema, new: Schema, old_root: Schema, new_root: Schema) -> Iterator[str]:
    ours, theirs = _values(old), _values(new)
    if (ours is None) != (theirs is None):
        yield f"{at or '/'}: was {_listed(ours)}, is {_listed(theirs)}"
    elif ours and theirs and (missing := [value for value in ours if value not in theirs]):
        yield f"{at or '/'}: can no longer be {_listed(missing)}"
    before, after = old.get("anyOf"), new.get("anyOf")
    if (before is None) != (after is None) or (before and after and len(before) != len(after)):
        yield f"{at or '/'}: what it may be changed from {_kinds(old)} to {_kinds(new)}"
    elif before and after:
        for one, other in zip(before, after, strict=True):
            yield from _compare(at, one, other, old_root, new_root)


def _values(schema: Schema) -> list[Any] | None:
    """Return the values that it lists; a constant is a list of one, which may grow as any other."""
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _listed(values: list[Any] | None) -> str:
    return "anything" if values is None else " or ".join(map(repr, values))


def _kinds(schema: Schema) -> str:
    choices = schema.get("anyOf", [schema])
    return " or ".join(str(choice.get("type", choice.get("$ref", "anything"))) for choice in choices)


def _resolved(schema: Any, root: Schema) -> Any:
    """Follow references into `$defs`, where pydantic puts models; their names do not matter to readers."""
    while isinstance(schema, Mapping) and "$ref" in schema:
        found: Any = root
        for part in str(schema["$ref"]).removeprefix("#/").split("/"):
            found = found[part]
        schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema
