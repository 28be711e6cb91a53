"""Sends providers' events to registered URLs, over real HTTP, in order per URL, again when not accepted."""

import json
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import requests

from .faults import WEBHOOK_KINDS, Call

if TYPE_CHECKING:
    from .core import Core

#: Shippo expects an answer "within about 3 seconds"; later counts as not accepted.
TIMEOUT = 3.0

Sign = Callable[[bytes], Mapping[str, str]]


@dataclass(frozen=True)
class _Parcel:
    account: str
    event: str
    url: str
    body: bytes
    headers: dict[str, str]
    attempt: int = 1


class WebhookSender:
    """One thread per URL. The log keeps the last 2000 deliveries, each {seq, time, account, event, url,
    attempt, status (None: no answer), fault}.
    """

    def __init__(self, core: "Core"):
        self._core = core
        self._lock = threading.Lock()
        self._lanes: dict[str, queue.SimpleQueue[_Parcel | None]] = {}
        self._held: dict[str, list[_Parcel]] = {}
        self._log: deque[dict[str, Any]] = deque(maxlen=2000)
        self._seq = 0
        self._http = requests.Session()
        self._http.trust_env = False

    def send(self, account: str, event: str, url: str, payload: Any, sign: Sign, metadata: str = "") -> None:
        """Hand over one event; returns at once. Fault rules see a call WEBHOOK /<event>."""
        body = json.dumps(payload).encode()
        call = Call("WEBHOOK", f"/{event}", account, metadata, frozenset(WEBHOOK_KINDS))
        fault = self._core.faults.pick(call)
        kind = fault.kind if fault else None
        params = fault.params if fault else {}
        # A forged event carries the signature of another body, as an attacker who saw one would send.
        headers = dict(sign(body + b" " if kind == "webhook_forged" else body))
        parcel = _Parcel(account, event, url, body, headers)
        if kind == "webhook_drop":
            self._record(parcel, None, kind)
        elif kind == "webhook_delay":
            self._core.scheduler.later(params["seconds"], lambda: self._post(parcel))
        elif kind == "webhook_reorder":
            with self._lock:
                self._held.setdefault(url, []).append(parcel)
            # Without a next event to be overtaken by, it is merely late.
            self._core.scheduler.later(params["seconds"], lambda: self._let_go(url))
        else:
            for _ in range(int(params.get("copies", 1))):
                self._post(parcel)

    def deliveries(self) -> list[dict[str, Any]]:
        """Every attempt so far, oldest first."""
        with self._lock:
            return list(self._log)

    def reset(self) -> None:
        with self._lock:
            self._held.clear()
            self._log.clear()
            self._seq = 0

    def stop(self) -> None:
        with self._lock:
            lanes = list(self._lanes.values())
            self._lanes.clear()
        for lane in lanes:
            lane.put(None)

    def _post(self, parcel: _Parcel) -> None:
        with self._lock:
            lane = self._lanes.get(parcel.url)
            if lane is None:
                lane = self._lanes[parcel.url] = queue.SimpleQueue()
                name = f"sandbox-webhooks-{len(self._lanes)}"
                threading.Thread(target=self._drive, args=(lane,), name=name, daemon=True).start()
        lane.put(parcel)

    def _let_go(self, url: str) -> None:
        with self._lock:
            held = self._held.pop(url, [])
        for parcel in held:
            self._post(parcel)

    def _drive(self, lane: "queue.SimpleQueue[_Parcel | None]") -> None:
        while (parcel := lane.get()) is not None:
            status = self._attempt(parcel)
            self._record(parcel, status, None)
            waits = self._core.options.webhook_retries
            if (status is None or status >= 500) and parcel.attempt <= len(waits):
                again = replace(parcel, attempt=parcel.attempt + 1)
                self._core.scheduler.later(waits[parcel.attempt - 1], partial(self._post, again))
            self._let_go(parcel.url)

    def _attempt(self, parcel: _Parcel) -> int | None:
        headers = {"Content-Type": "application/json", "User-Agent": "sandbox-webhooks", **parcel.headers}
        try:
            answer = self._http.post(
                parcel.url, data=parcel.body, headers=headers, timeout=TIMEOUT, allow_redirects=False
            )
        except requests.RequestException:
            return None
        return answer.status_code

    def _record(self, parcel: _Parcel, status: int | None, fault: str | None) -> None:
        with self._lock:
            self._seq += 1
            self._log.append(
                {
                    "seq": self._seq,
                    "time": self._core.clock.iso(),
                    "account": parcel.account,
                    "event": parcel.event,
                    "url": parcel.url,
                    "attempt": parcel.attempt,
                    "status": status,
                    "fault": fault,
                }
            )
