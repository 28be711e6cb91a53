"""Named sets of fault rules: weather for a demonstration or a test. Chances are per call."""

from typing import Any

_BUY = {"method": "POST", "path": "/transactions"}
_READ = {"method": "GET"}


def _rule(match: dict[str, str], kind: str, probability: float = 1.0, **params: Any) -> dict[str, Any]:
    return {"match": match, "kind": kind, "probability": probability, "params": params}


#: Two purchases in five go wrong here, in every way that providers are known for, and many are slow.
#: Rules are asked in turn, so each chance is that of the calls that the rules before it let pass.
_STORMY = [
    _rule(_BUY, "reset_after", 0.06),
    _rule(_BUY, "timeout_after", 0.03, seconds=45),
    _rule(_BUY, "late_charge", 0.02, seconds=40),
    _rule(_BUY, "status_after", 0.03, status=502),
    _rule(_BUY, "truncated_body", 0.02),
    _rule(_BUY, "garbage_json", 0.01),
    _rule(_BUY, "reset_before", 0.03),
    _rule(_BUY, "status", 0.08, status=[500, 502, 503, 504]),
    _rule(_BUY, "rate_limited", 0.05, retry_after=[1, 4]),
    _rule(_BUY, "queued_then_success", 0.10, seconds=[2, 8]),
    _rule(_BUY, "queued_then_error", 0.02, seconds=[2, 8]),
    _rule(_BUY, "error_messages", 0.04),
    _rule(_BUY, "latency", 0.40, seconds=[0.5, 4]),
    _rule(_READ, "status", 0.03, status=503),
    _rule(_READ, "rate_limited", 0.02, retry_after=2),
    _rule(_READ, "latency", 0.20, seconds=[0.2, 2]),
    _rule({"method": "WEBHOOK"}, "webhook_duplicate", 0.15),
    _rule({"method": "WEBHOOK"}, "webhook_reorder", 0.10),
    _rule({"method": "WEBHOOK"}, "webhook_delay", 0.10, seconds=[1, 5]),
    _rule({"method": "WEBHOOK"}, "webhook_drop", 0.05),
]

PRESETS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "calm": [_rule({}, "latency", seconds=[0.05, 0.3])],
    "slow": [_rule({}, "latency", seconds=[2, 8])],
    "stormy": _STORMY,
    "outage": [_rule({}, "status", status=503)],
    "hanging": [_rule({}, "hang", seconds=120)],
    "dropping": [_rule(_BUY, "reset_after", 0.5)],
}
