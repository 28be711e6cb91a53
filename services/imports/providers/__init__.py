"""ERPs that are asked: one module per way of asking. Only jobs import them; no request waits for an ERP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from services.imports.providers.connector import Connector, Page, Question
from services.imports.providers.rest import Rest

__all__ = ["Connector", "Page", "Question", "connector_of"]

_KINDS: Final[dict[str, Callable[[str, str, Sequence[str]], Connector]]] = {"rest": Rest}


def connector_of(kind: str, base_url: str, token: str, secrets: Sequence[str]) -> Connector:
    """Return what asks an ERP of this kind; `secrets` is what no error may repeat. Raises Refused for its address."""
    return _KINDS[kind](base_url, token, secrets)
