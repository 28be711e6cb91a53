"""What a contract is: the type of an event with its version, the shape of its data, and an example.

    class LabelPurchased(EventContract):
        type: ClassVar[str] = "backroom.shipping.label.purchased.v1"
        model_config = example(label_id="0199a1b2-…", amount=790)

        label_id: UUID
        amount: int

A type never changes in meaning. Optional fields may be added; whatever would break a reader is a new
version, published next to the old one for a while. Readers leave alone what they do not know.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

__all__ = ["EventContract", "NotAContract", "example", "known", "service_of"]

_TYPE = re.compile(r"backroom\.([a-z][a-z0-9_]*)\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\.v[1-9][0-9]*")

_known: dict[str, type[EventContract]] = {}


class NotAContract(TypeError):
    """A contract lacks what every contract has; the message says what."""


def example(**fields: Any) -> ConfigDict:
    """Return the configuration of a contract with this example: the data of one event, as it is in JSON."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


def service_of(event_type: str) -> str:
    """Return the service that alone may publish this type.

    Raises ValueError for what is no type of ours.
    """
    found = _TYPE.fullmatch(event_type)
    if found is None:
        raise ValueError(f"{event_type!r} is not backroom.<service>.<entity>.<past-tense>.v<N>")
    return found[1]


def known() -> dict[str, type[EventContract]]:
    """Return the contracts of all modules that were imported so far, by type."""
    return dict(_known)


class EventContract(BaseModel):
    """Base of the data of all events. A class without a `type` only holds what several contracts share.

    Raises NotAContract when a contract is declared whose type is malformed, taken, or without an example.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        if not hasattr(cls, "type"):
            return
        try:
            service_of(cls.type)
        except ValueError as error:
            raise NotAContract(f"{cls.__name__}: {error}") from None
        twin = _known.get(cls.type)
        if twin is not None and (twin.__module__, twin.__qualname__) != (cls.__module__, cls.__qualname__):
            raise NotAContract(f"{cls.__name__}: {cls.type} is {twin.__module__}.{twin.__qualname__} already")
        if not cls._examples():
            raise NotAContract(f"{cls.__name__} has no example: model_config = example(field=value, …)")
        _known[cls.type] = cls

    @classmethod
    def example(cls) -> Self:
        """Return the contract's example. It stands in the documentation, and readers are tested with it."""
        return cls.model_validate(cls._examples()[0])

    @classmethod
    def _examples(cls) -> list[Any]:
        extra = cls.model_config.get("json_schema_extra")
        return list(extra.get("examples", [])) if isinstance(extra, dict) else []  # type: ignore[arg-type]
