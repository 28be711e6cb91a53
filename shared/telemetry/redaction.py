"""Secrets leave no trace: what goes to logs, spans and job records passes through `redact` first.

Three nets, since each has holes. Names: values under keys such as `authorization` or `api_key`, nested
or written into a text as `key=value`, `key: value`, JSON, a Python repr or a query string. Shapes:
`Bearer …`, `ShippoToken …`, the part before `@` in a URL, JSON web tokens, private keys, providers' key
prefixes. Values: whatever `add_secrets` was told, verbatim, wherever it shows up.

Too much is redacted rather than too little: `password: is too short` loses its `is`. Running it twice
changes nothing. It takes about 0.3 µs for an id and some microseconds for a sentence, and its time grows
linearly with the text, so that a hostile text cannot stall a worker.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, overload

__all__ = ["REDACTED", "add_secrets", "bounded", "redact"]

REDACTED: Final = "[redacted]"

_MAX_DEPTH: Final = 12

# Parts of key names, compared in lower case and with "-" as "_". `secret(?!ar)` spares the secretary.
_KEY_PARTS: Final = (
    r"authorization|token|passw(?:or)?d|passphrase|secret(?!ar)|api[_-]?key|hapikey|cookie|signature"
    r"|credential|private[_-]?key|access[_-]?key|signing[_-]?key|encryption[_-]?key"
    r"|session[_-]?id|code[_-]?verifier|client[_-]?assertion"
)
# Names too short to be searched for as parts of others: whole words only.
_KEY_WORDS: Final = r"pwd|sig|sid|otp|hmac"

_SENSITIVE_KEY: Final = re.compile(rf"{_KEY_PARTS}|(?:^|[_\W])(?:{_KEY_WORDS})(?:$|[_\W])", re.IGNORECASE)
# Names *about* a secret, which are wanted when something is looked into: `api_key_id`, `token_type`.
_ABOUT_KEY: Final = re.compile(r"[_-](?:id|type|name|count|expires_(?:at|in)|expired|present|valid)$", re.IGNORECASE)
# `prompt_tokens=512` of a language model counts; a number under such a name is no secret.
_COUNT_KEY: Final = re.compile(r"tokens$", re.IGNORECASE)

_QUOTED: Final = (
    r"""b?"(?:[^"\\]|\\.)*"|b?'(?:[^'\\]|\\.)*'"""  # JSON, Python repr, libpq
    r"""|(?P<q>\\+["']).{0,4096}?(?P=q)"""  # JSON within JSON
    r"""|\\*["'][^\r\n]+"""  # never closed, as in a text that was cut: to the end of the line
)
_VALUE: Final = rf"""(?P<value>{_QUOTED}|[^\s&"'<>]+)"""  # bare: up to a space, a quote, the next parameter
_SEPARATOR: Final = r"""["'\\)\]]{0,4}\s{0,4}(?:[:=]|%3[AaDd])+>?\s{0,4}"""

# Of a header everything to the end of the line goes: `Authorization: Basic x`, `Cookie: a=b; c=d`.
_HEADER: Final = re.compile(
    rf"""(?P<key>(?:authorization|cookie)["'\\]{{0,4}}\s{{0,4}}[:=]\s{{0,4}})"""
    rf"""(?P<value>{_QUOTED}|[^\r\n"']+)""",
    re.IGNORECASE | re.DOTALL,
)
_ASSIGNMENT: Final = re.compile(
    rf"(?P<key>(?:(?:{_KEY_PARTS})(?:(?!_(?:id|type|name|count)\b)[\w-]){{0,40}}"
    rf"|(?<![A-Za-z0-9])(?:{_KEY_WORDS})|(?<=[?&])(?:code|key))"
    rf"{_SEPARATOR}){_VALUE}",
    re.IGNORECASE | re.DOTALL,
)
_QUOTE: Final = re.compile(r"""b?(\\*["'])""")
_COUNT: Final = re.compile(r"tokens\W{1,8}$", re.IGNORECASE)
_SCHEME: Final = re.compile(r"""\b(?P<key>(?:Bearer|\w{0,30}Token)(?:\s{1,4}|%20|\+)["']?)(?P<value>[^\s"',;<>]+)""")
_USERINFO: Final = re.compile(
    r"""://(?:[^\s/?#"'<>]{0,1000}@|[^\s/?#@:"'<>]{1,200}:(?!\d{1,5}[/?#])[^\s"'<>]{0,200}@)""",
)
_SHAPES: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)"
    r"|(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"
    r"|\bshippo_(?:live|test)_\w+"
    r"|\b(?:sk|rk|whsec|xox[abp]|ghp|gho|glpat)[-_][\w-]{10,}"
    r"|\bpat-[a-z]{2}\d-[\w-]{8,}"
    r"|\bb[kr]_[a-z0-9-]{3,40}_[\w.-]{8,}",  # API keys and refresh tokens of ours
    re.DOTALL,
)
# A text without any of these characters can match none of the rules above but `_SHAPES`.
_SUSPICIOUS: Final = re.compile(r"[\s=:%+]|eyJ|shippo_|[skprtc][-_]|xox")
# The same for names, to be searched for in lower case: ten times as fast as the rules, which ignore case.
_NAME_LIKE: Final = re.compile(
    r"authoriz|token|passw|passphr|secret|key|cookie|signature|credential|session|code|client|pwd|sig|sid|otp|hmac"
)

_secrets: frozenset[str] = frozenset()
_secret_pattern: re.Pattern[str] | None = None
_secrets_lock = threading.Lock()


def add_secrets(values: Iterable[str]) -> None:
    """Redact these very values from now on, wherever they appear. For a process's own settings.

    Values shorter than 6 characters are ignored: they would blank out ordinary words.
    """
    global _secrets, _secret_pattern
    with _secrets_lock:
        _secrets = _secrets | {value for value in values if len(value) >= 6}
        longest_first = sorted(_secrets, key=len, reverse=True)
        _secret_pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


@overload
def redact(value: str) -> str: ...
@overload
def redact(value: Mapping[str, Any]) -> dict[str, Any]: ...
@overload
def redact(value: Any) -> Any: ...
def redact(value: Any) -> Any:
    """Return the text, mapping or sequence with every secret replaced by `[redacted]`.

    Mappings and sequences come back as new dicts, lists and tuples, nested to any sensible depth (12);
    a pair whose first part is a secret's name counts as key and value, as in a list of headers.
    Bytes come back as text. Numbers, booleans, None and other objects come back as they are.
    """
    return _redact(value, 0)


def bounded(text: str, limit: int = 8192) -> str:
    """Return the text redacted and at most `limit` bytes long in UTF-8, its middle left out.

    The start and the end stay, and between them how many bytes are missing: the start of a traceback
    says where we were, its end what happened.
    """
    if limit < 64:
        raise ValueError("a limit below 64 bytes leaves no room for the text")
    # Lone surrogates and NUL are legal in Python text, but neither in UTF-8 nor in PostgreSQL.
    encoded = redact(text).replace("\x00", "\\x00").encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode()
    room = limit - 40  # for the note, whose number has at most a dozen digits
    head = encoded[: room // 3].decode("utf-8", "ignore")
    tail = encoded[len(encoded) - (room - room // 3) :].decode("utf-8", "ignore")
    missing = len(encoded) - len(head.encode()) - len(tail.encode())
    return f"{head}\n[… {missing} bytes …]\n{tail}"


@lru_cache(maxsize=4096)
def _is_secret_name(key: str) -> bool:
    return _SENSITIVE_KEY.search(key) is not None and _ABOUT_KEY.search(key) is None


def _redact(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _redact_text(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return _redact_text(bytes(value).decode("utf-8", "backslashreplace"))
    if depth >= _MAX_DEPTH:
        return "[too deep]"
    if isinstance(value, Mapping):
        return {
            _redact_text(key) if isinstance(key, str) else key: _redact_under(key, item, depth)
            for key, item in value.items()
        }
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | bytes):
        return (_redact(value[0], depth + 1), _redact_under(value[0], value[1], depth))
    if isinstance(value, tuple):
        return tuple(_redact(item, depth + 1) for item in value)
    if isinstance(value, list | set | frozenset):
        return [_redact(item, depth + 1) for item in value]
    return value


def _redact_under(key: Any, item: Any, depth: int) -> Any:
    if isinstance(key, bytes):
        key = key.decode("utf-8", "replace")
    if item is None or isinstance(item, bool) or not isinstance(key, str) or not _is_secret_name(key):
        return _redact(item, depth + 1)
    if isinstance(item, int | float) and _COUNT_KEY.search(key):
        return item
    return REDACTED


def _redact_text(text: str) -> str:
    if _secret_pattern is not None:
        text = _secret_pattern.sub(REDACTED, text)
    if _SUSPICIOUS.search(text) is None:
        return text
    text = _SHAPES.sub(REDACTED, text)
    if _NAME_LIKE.search(text.lower()) is not None:
        text = _HEADER.sub(_redact_assignment, text)
        text = _ASSIGNMENT.sub(_redact_assignment, text)
    if "oken" in text or "earer" in text:
        text = _SCHEME.sub(_redact_scheme, text)
    if "://" in text:
        text = _USERINFO.sub(f"://{REDACTED}@", text)
    return text


def _redact_assignment(match: re.Match[str]) -> str:
    key, value = match["key"], match["value"]
    if value.rstrip(",;.)]}").isdigit() and _COUNT.search(key):
        return match[0]
    # Quotes stay, so that JSON in a text can still be read by people and programs.
    opening = _QUOTE.match(value)
    quote = opening[1] if opening and len(value) > opening.end() and value.endswith(opening[1]) else ""
    return f"{key}{quote}{REDACTED}{quote}"


def _redact_scheme(match: re.Match[str]) -> str:
    return f"{match['key']}{REDACTED}"
