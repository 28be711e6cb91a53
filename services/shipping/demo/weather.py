"""What goes wrong at the carrier during the demonstration, as rules of the sandbox."""

from typing import Any

__all__ = ["RULES", "STORY"]

_BUY = {"method": "POST", "path": "/transactions"}
_READ = {"method": "GET"}
_REFUSED = {"source": "carrier", "code": "", "text": "The parcel is not accepted on this route."}

STORY: list[tuple[str, dict[str, str], str, float, dict[str, Any]]] = [
    ("charges, then hangs up", _BUY, "reset_after", 0.10, {}),
    ("charges, then says nothing", _BUY, "timeout_after", 0.06, {"seconds": 10}),
    ("charges, then answers 502", _BUY, "status_after", 0.04, {"status": 502}),
    ("charges, and sends half an answer", _BUY, "truncated_body", 0.03, {}),
    ("hangs up before it charges", _BUY, "reset_before", 0.05, {}),
    ("is down", _BUY, "status", 0.08, {"status": [500, 502, 503, 504]}),
    ("wants us to wait", _BUY, "rate_limited", 0.05, {"retry_after": [1, 2]}),
    ("takes its time to decide", _BUY, "queued_then_success", 0.08, {"seconds": [1, 3]}),
    ("loses the connection to its own system", _BUY, "error_messages", 0.03, {}),
    ("refuses the parcel for good", _BUY, "error_messages", 0.05, _REFUSED),
    ("is slow", _BUY, "latency", 0.50, {"seconds": [0.2, 1.5]}),
    ("fails to look something up", _READ, "status", 0.04, {"status": 503}),
]
"""In words, what it matches, the kind of fault, its chance per call, its parameters."""

RULES: list[dict[str, Any]] = [
    {"match": match, "kind": kind, "probability": chance, "params": params} for _, match, kind, chance, params in STORY
]
