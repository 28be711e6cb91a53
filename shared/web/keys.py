"""Public keys with which tokens are verified: read at the start, and again in the background.

No request waits for them. A source that cannot be read keeps the keys that it had, so that an outage of whoever
issues tokens locks nobody out; it is asked again soon. A token under a key that is not known has the sources read
early, for a key may be new, though not more often than every few seconds, for anybody can make such tokens up.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from joserfc.jwk import KeySet

from shared.telemetry.logs import get_logger

__all__ = ["JWKS_PATH", "KeySource", "Keys", "read_jwks"]

log = get_logger(__name__)

JWKS_PATH: Final = "/.well-known/jwks.json"
"""Where a service that issues tokens publishes its keys."""

KeySource = str | dict[str, Any] | Callable[[], dict[str, Any]]
"""A JSON Web Key Set (RFC 7517), or its JSON, or a URL or file to read it from, or what returns it."""

EVERY: Final = 60.0
"""Seconds between looks. Who rotates keys publishes the next one long before it signs."""

_AGAIN: Final = 10.0
"""Seconds until the next look while a source has no keys to give."""

_SOONEST: Final = 5.0
"""Seconds between looks that tokens under unknown keys bring about."""


class Keys:
    """The keys of several sources as one set. Raises ValueError for a set or file that is not right."""

    def __init__(self, *sources: KeySource) -> None:
        self._sources = sources
        self._read: list[list[dict[str, Any]]] = [[] for _ in sources]
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked_at = 0.0
        for number, source in enumerate(sources):
            if not _may_be_away(source):
                self._read[number] = _public_keys(source)
        self._join()

    @property
    def current(self) -> KeySet:
        """The keys as of now; another object when they have changed."""
        return self._current

    def start(self) -> None:
        """Read all sources, then look again from a thread until `stop()`. Does nothing where nothing can change."""
        if self._thread is None and any(_may_change(source) for source in self._sources):
            complete = self.refresh()
            self._thread = threading.Thread(target=self._run, args=(complete,), name="keys", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Look no more; the keys stay."""
        self._stopped.set()
        self._wake.set()

    def hurry(self) -> None:
        """Have the sources read soon: there may be a key that we do not know yet."""
        if time.monotonic() - self._looked_at >= _SOONEST:
            self._wake.set()

    def refresh(self) -> bool:
        """Read the sources here and now, never in a request; return whether each had keys to give."""
        self._looked_at = time.monotonic()
        before = [list(keys) for keys in self._read]
        for number, source in enumerate(self._sources):
            if _may_change(source):
                try:
                    self._read[number] = _public_keys(source)
                except Exception as error:
                    log.warning("keys_not_read", source=_name(source), error=str(error)[:300])
        if self._read != before:
            self._join()
        return all(self._read)

    def _run(self, complete: bool) -> None:
        while not self._stopped.is_set():
            self._wake.wait(EVERY if complete else _AGAIN)
            self._wake.clear()
            if not self._stopped.is_set():
                complete = self.refresh()

    def _join(self) -> None:
        found = {json.dumps(key, sort_keys=True): key for keys in self._read for key in keys}
        self._current = _key_set(list(found.values()))


def _may_change(source: KeySource) -> bool:
    return callable(source) or (isinstance(source, str) and not _is_inline(source))


def _may_be_away(source: KeySource) -> bool:
    """Whether a source that cannot be read is an outage rather than a mistake in the settings."""
    return callable(source) or (isinstance(source, str) and _is_url(source))


def _is_inline(source: str) -> bool:
    return source.lstrip().startswith("{")


def _is_url(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def _name(source: KeySource) -> str:
    return source if isinstance(source, str) else "the service itself"


def _public_keys(source: KeySource) -> list[dict[str, Any]]:
    jwks = source() if callable(source) else source if isinstance(source, dict) else read_jwks(source)
    keys = list(jwks.get("keys", ()))
    for key in keys:
        # An "oct" key here would be a shared secret in a file of public keys.
        if not isinstance(key, dict) or key.get("kty") not in ("OKP", "EC") or "d" in key:
            raise ValueError("the key set must hold public Ed25519 or P-256 keys only")
    _key_set(keys)
    return keys


def _key_set(keys: list[dict[str, Any]]) -> KeySet:
    # The library takes none for a mistake.
    return KeySet.import_key_set({"keys": keys}) if keys else KeySet([])


def read_jwks(source: str) -> dict[str, Any]:
    """Return the key set that `source` names: JSON itself, a URL or a file. Never in a request.

    Raises ValueError, saying why, when there is none.
    """
    try:
        if _is_inline(source):
            text = source
        elif _is_url(source):
            with urllib.request.urlopen(source, timeout=5) as answer:  # noqa: S310 - the scheme is checked
                text = answer.read(1 << 20).decode()
        else:
            text = Path(source).read_text()
        document = json.loads(text)
        if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
            raise ValueError("it has no list of keys")
    except (OSError, ValueError) as error:
        shown = "the key set given inline" if _is_inline(source) else source
        raise ValueError(f"cannot read a JSON Web Key Set from {shown}: {error}") from error
    return document
