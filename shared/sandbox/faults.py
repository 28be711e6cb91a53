"""Rules that say which calls go wrong, and how.

A rule is JSON; this is its whole schema (everything but `kind` may be left out):

    {
      "match": {
        "method":   "POST",            the call's method; WEBHOOK for what the sandbox sends itself, SMTP for mail
        "path":     "/transactions",   prefix of the path (no trailing slash); a webhook's path is /<event>
        "pattern":  "^/tracks/usps/",  regular expression searched in the path
        "account":  "acme",            token, or token without its shippo_test_ / shippo_live_
        "metadata": "label-17"         substring of the body's metadata
      },
      "kind": "reset_after",           see KINDS
      "probability": 0.25,             chance per matched call, default 1
      "times": 1,                      fire so often, then the rule is gone; default: no end
      "after": 2,                      let the first n matched calls pass
      "params": {"seconds": [1, 3]}    see KINDS; a pair of numbers is a range, except
                                        for status, where a list is a choice
    }

Rules are asked in the order in which they were added; the first that fires decides the call alone.
Chance is seeded: the n-th call that reaches a rule fires or not by (seed, number of the rule, n) alone, so
the same seed gives the same sequence however the threads interleave.
"""

import random
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Kinds with their parameters and defaults. How the wire kinds are played: `delivery`; the others are
#: played by the operation or the webhook sender that they fit, and match nothing else.
WIRE_KINDS: dict[str, dict[str, Any]] = {
    "latency": {"seconds": 1.0},
    "hang": {"seconds": 60.0},
    "status": {"status": 500, "body": None},
    "status_after": {"status": 502, "body": None},
    "rate_limited": {"retry_after": 1},
    "reset_before": {},
    "reset_after": {},
    "timeout_after": {"seconds": 60.0},
    "late_charge": {"seconds": 60.0},
    "truncated_body": {},
    "garbage_json": {},
    "trickle": {"interval": 1.0},
}
OUTCOME_KINDS: dict[str, dict[str, Any]] = {
    "queued_then_success": {"seconds": 1.0},
    "queued_then_error": {
        "seconds": 1.0,
        "source": "Carrier",
        "code": "carrier_timeout",
        "text": "The carrier did not answer in time. Please try again.",
    },
    "error_messages": {
        "source": "Carrier",
        "code": "carrier_unavailable",
        "text": "The carrier's system is temporarily unavailable. Please try again.",
    },
    "expired_rate": {},
    "refund_rejected": {"text": "The label was already used."},
    "same_cursor": {},
    "model_says": {"content": "I am afraid I cannot do that."},
}
WEBHOOK_KINDS: dict[str, dict[str, Any]] = {
    "webhook_duplicate": {"copies": 2},
    "webhook_reorder": {"seconds": 2.0},
    "webhook_delay": {"seconds": 1.0},
    "webhook_drop": {},
    "webhook_forged": {},
}
#: Played by `smtp.server`, at the step that the path names.
SMTP_KINDS: dict[str, dict[str, Any]] = {
    "smtp_reply": {"code": 451, "text": "4.3.0 Please try again later."},
    "smtp_slow": {"seconds": 1.0},
    "smtp_hang": {"seconds": 60.0},
    "smtp_drop": {},
}
KINDS: dict[str, dict[str, Any]] = {**WIRE_KINDS, **OUTCOME_KINDS, **WEBHOOK_KINDS, **SMTP_KINDS}
_NOT_HTTP = ("WEBHOOK", "SMTP")

_MATCH_KEYS = {"method", "path", "pattern", "account", "metadata"}
_RULE_KEYS = {"match", "kind", "probability", "times", "after", "params"}
#: What `Rule.as_json` adds, so that a listed rule can be sent back as it is.
_REPORT_KEYS = {"id", "seen", "fired"}


class BadRule(ValueError):
    """The fault rule cannot be understood; the text says which part."""


@dataclass(frozen=True)
class Fault:
    """A rule that fired for one call: its kind, and its parameters with ranges already drawn."""

    rule_id: str
    kind: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Call:
    """What rules are matched against. `outcomes` are the non-wire kinds that this call can play."""

    method: str
    path: str
    account: str | None = None
    metadata: str | None = None
    outcomes: frozenset[str] = frozenset()


@dataclass
class Rule:
    """One rule and how often it was reached (`seen`) and played (`fired`)."""

    id: str
    kind: str
    match: dict[str, str] = field(default_factory=dict)
    probability: float = 1.0
    times: int | None = None
    after: int = 0
    params: dict[str, Any] = field(default_factory=dict)
    seen: int = 0
    fired: int = 0

    @classmethod
    def parse(cls, rule_id: str, data: Mapping[str, Any]) -> "Rule":
        """A rule from its JSON. Raises BadRule: a misspelled rule must not silently never fire."""
        if not isinstance(data, Mapping):
            raise BadRule("a rule is a JSON object")
        if unknown := set(data) - _RULE_KEYS - _REPORT_KEYS:
            raise BadRule(f"unknown keys: {', '.join(sorted(unknown))}")
        kind = data.get("kind")
        if kind not in KINDS:
            raise BadRule(f"unknown kind {kind!r}; known: {', '.join(KINDS)}")
        match = {key: value for key, value in (data.get("match") or {}).items() if value is not None}
        if unknown := set(match) - _MATCH_KEYS:
            raise BadRule(f"unknown keys in match: {', '.join(sorted(unknown))}")
        if not all(isinstance(value, str) for value in match.values()):
            raise BadRule("values of match are strings")
        params = dict(data.get("params") or {})
        if unknown := set(params) - set(KINDS[kind]):
            raise BadRule(f"unknown params for {kind}: {', '.join(sorted(unknown))}")
        try:
            re.compile(match.get("pattern", ""))
            probability = float(data.get("probability", 1.0))
            times = None if data.get("times") is None else int(data["times"])
            after = int(data.get("after") or 0)
        except (re.error, TypeError, ValueError) as error:
            raise BadRule(str(error)) from error
        for name, value in params.items():
            is_range = name != "status" and isinstance(value, list) and name != "body"
            if is_range and not (len(value) == 2 and all(isinstance(end, int | float) for end in value)):
                raise BadRule(f"{name}: a range is a pair of numbers")
        if not 0 <= probability <= 1 or after < 0 or (times is not None and times < 1):
            raise BadRule("probability is from 0 to 1, times at least 1, after at least 0")
        return cls(rule_id, kind, match, probability, times, after, params)

    def matches(self, call: Call) -> bool:
        if self.kind not in (() if call.method in _NOT_HTTP else WIRE_KINDS) and (self.kind not in call.outcomes):
            return False
        want = self.match
        return (
            want.get("method", call.method).upper() == call.method
            and call.path.startswith(want.get("path", "").rstrip("/"))
            and ("pattern" not in want or re.search(want["pattern"], call.path) is not None)
            and ("account" not in want or same_account(want["account"], call.account))
            and ("metadata" not in want or want["metadata"] in (call.metadata or ""))
        )

    def draw(self, seed: int) -> Fault | None:
        """Count one matched call, and say whether the rule fires for it."""
        self.seen += 1
        chance = random.Random(f"{seed}/{self.id}/{self.seen}")
        if self.seen <= self.after or chance.random() >= self.probability:
            return None
        self.fired += 1
        params = KINDS[self.kind] | self.params
        return Fault(self.id, self.kind, {name: _drawn(chance, name, value) for name, value in params.items()})

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "match": self.match,
            "kind": self.kind,
            "probability": self.probability,
            "times": self.times,
            "after": self.after,
            "params": self.params,
            "seen": self.seen,
            "fired": self.fired,
        }


class FaultBook:
    """The rules in force. Thread-safe."""

    def __init__(self, seed: int = 0):
        self.seed = seed
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._numbered = 0

    def add(self, rules: Iterable[Mapping[str, Any]], replace_all: bool = False) -> list[Rule]:
        """Add rules behind those in force, or in their place; all or none. Raises BadRule."""
        with self._lock:
            before = 0 if replace_all else self._numbered
            added = [Rule.parse(f"f{before + n}", rule) for n, rule in enumerate(rules, start=1)]
            self._rules = added if replace_all else self._rules + added
            self._numbered = before + len(added)
            return list(added)

    def clear(self, rule_id: str | None = None) -> int:
        """Remove one rule, or all; how many went. After "all" the numbers, and so chance, start anew."""
        with self._lock:
            kept = [rule for rule in self._rules if rule_id is not None and rule.id != rule_id]
            gone = len(self._rules) - len(kept)
            self._rules = kept
            if rule_id is None:
                self._numbered = 0
            return gone

    def pick(self, call: Call) -> Fault | None:
        """The fault that this call suffers, if any."""
        with self._lock:
            for rule in self._rules:
                if rule.matches(call) and (fault := rule.draw(self.seed)):
                    if rule.times is not None and rule.fired >= rule.times:
                        self._rules.remove(rule)
                    return fault
            return None

    def as_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [rule.as_json() for rule in self._rules]


def _drawn(chance: random.Random, name: str, value: Any) -> Any:
    if not isinstance(value, list) or name == "body":
        return value
    return chance.choice(value) if name == "status" else chance.uniform(*value)


def same_account(wanted: str, account: str | None) -> bool:
    """Whether a filter names this account: by its token, or by what follows `…_test_` or `…_live_` in it."""
    return account is not None and (wanted == account or re.sub(r"^\w+?_(test|live)_", "", account) == wanted)
