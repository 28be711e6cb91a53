"""The sandbox from the outside: `SandboxClient` talks to any running one, `Sandbox` also starts and stops it.

with Sandbox.start(seed=7) as sandbox:
    token = sandbox.token("acme")
    sandbox.faults.add("reset_after", method="POST", path="/transactions", times=1)
    ...
    assert len(sandbox.ledger(metadata="label-17")) == 1
"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import requests

from .core import Options
from .server import Server

T = TypeVar("T")


class SandboxError(Exception):
    """The sandbox refused a control call; the text is its reason."""


class Faults:
    """The fault rules of a sandbox. The schema of a rule: `shared.sandbox.faults`."""

    def __init__(self, client: "SandboxClient"):
        self._client = client

    def add(
        self,
        kind: str,
        *,
        method: str | None = None,
        path: str | None = None,
        pattern: str | None = None,
        account: str | None = None,
        metadata: str | None = None,
        probability: float = 1.0,
        times: int | None = None,
        after: int = 0,
        **params: Any,
    ) -> dict[str, Any]:
        """Add one rule behind those in force; returns it with its id. Ranges are pairs: seconds=(1, 3)."""
        rule = {
            "kind": kind,
            "match": {
                "method": method,
                "path": path,
                "pattern": pattern,
                "account": account,
                "metadata": metadata,
            },
            "probability": probability,
            "times": times,
            "after": after,
            "params": params,
        }
        return self.load([rule])[0]

    def load(self, rules: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Add rules given as JSON objects."""
        return list(self._client.call("POST", "/faults", {"rules": list(rules)})["rules"])

    def preset(self, name: str) -> list[dict[str, Any]]:
        """Replace all rules by a named set: see `shared.sandbox.presets`."""
        return list(self._client.call("PUT", "/faults", {"preset": name})["rules"])

    def list(self) -> list[dict[str, Any]]:
        """The rules in force, each with `seen` (matched calls) and `fired`."""
        return list(self._client.call("GET", "/faults")["rules"])

    def clear(self, rule_id: str | None = None) -> None:
        """Remove one rule, or all."""
        self._client.call("DELETE", f"/faults/{rule_id}" if rule_id else "/faults")


class SandboxClient:
    """Controls a sandbox at `url`, in this process or anywhere. Methods raise SandboxError."""

    def __init__(self, url: str, timeout: float = 10.0):
        self.url = url.rstrip("/")
        self.faults = Faults(self)
        self._timeout = timeout
        self._http = requests.Session()
        # A proxy from the environment must not come between a test and its sandbox.
        self._http.trust_env = False

    def token(self, account: str, live: bool = False) -> str:
        """A Shippo token that is an account of this name. Live ones have ten times the rate limits."""
        return f"shippo_{'live' if live else 'test'}_{account}"

    def ledger(self, **filters: str) -> list[dict[str, Any]]:
        """Charges and refunds in order; filters: kind, account, rate, transaction, metadata (substring), …"""
        return list(self.call("GET", "/ledger", params=filters)["entries"])

    def charges(self, **filters: str) -> list[dict[str, Any]]:
        """The ledger's charges only."""
        return self.ledger(kind="charge", **filters)

    def calls(self, last: int = 0) -> dict[str, Any]:
        """{open, hanging, total, counts: [{route, outcome, fault, count}], last: newest first}."""
        return dict(self.call("GET", "/calls", params={"last": str(last)}))

    def count(self, route: str | None = None, outcome: str | None = None, fault: str | None = None) -> int:
        """How many calls had this route (such as "POST /transactions"), outcome and fault."""
        wanted = {"route": route, "outcome": outcome, "fault": fault}
        return sum(
            row["count"]
            for row in self.calls()["counts"]
            if all(value is None or row[name] == value for name, value in wanted.items())
        )

    def images(self) -> dict[str, Any]:
        """{requests, open, most_open, paths: {path: the same}} of the image host."""
        return dict(self.call("GET", "/images"))

    def erp_token(self, account: str) -> str:
        """The token that opens the ERP of this name, at `<url>/erp`."""
        return f"erp_test_{account}"

    def erp_put(self, account: str, entity: str, items: Iterable[Any], updated_at: str | None = None) -> None:
        """New or changed items of an ERP (`samples` or `stock`), known by their SKU or title; changed now, or then."""
        when = {} if updated_at is None else {"updated_at": updated_at}
        self.call("PUT", f"/erp/{account}/{entity}", {"items": list(items), **when})

    def erp_items(self, account: str, entity: str) -> list[Any]:
        """All that an ERP has, the longest unchanged first."""
        return list(self.call("GET", f"/erp/{account}/{entity}")["items"])

    def erp_clear(self, account: str, entity: str) -> None:
        """Nothing of this is in the ERP any more."""
        self.call("DELETE", f"/erp/{account}/{entity}")

    def erp_page_size(self, size: int) -> None:
        """Pages of ERPs have no more items than this, whatever is asked for."""
        self.call("PUT", "/erp", {"page_size": size})

    @property
    def smtp_url(self) -> str:
        """The mail server, on the same host."""
        return f"smtp://{urlsplit(self.url).hostname}:{self.state()['smtp']}"

    def mails(self, to: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Mails that were taken, the newest first: {id, from, to, subject, message_id, size, connection}."""
        return list(self._mailbox("", to, limit=str(limit))["items"])

    def mail(self, number: int | str = "latest", to: str | None = None) -> dict[str, Any]:
        """One mail, by its id or the latest to an address: {headers, text, html, links} besides the above."""
        return dict(self._mailbox(f"/{number}", to))

    def mail_link(self, to: str) -> str:
        """The first link of the latest mail to this address that has one: how to sign in."""
        return str(self._mailbox("/link", to)["link"])

    def smtp(self) -> dict[str, int]:
        """{connections, open, most_open, logins, mails} of the mail server."""
        return dict(self.call("GET", "/smtp"))

    def smtp_size(self, size: int) -> None:
        """Refuse larger mails on connections that begin from now on."""
        self.call("PUT", "/smtp", {"size": size})

    def _mailbox(self, path: str, to: str | None, **query: str) -> Any:
        params = query if to is None else {**query, "to": to}
        answer = self._http.get(f"{self.url}/mail{path}", params=params, timeout=self._timeout)
        if answer.status_code >= 400:
            raise SandboxError(f"{answer.status_code}: {answer.text}")
        return answer.json()

    def model_key(self, account: str) -> str:
        """The key of an account of the language model, which is at `<url>/v1`."""
        return f"model_test_{account}"

    def model_asked(self) -> list[dict[str, Any]]:
        """What the language model was sent, oldest first: {account, model, messages, response_format}."""
        return list(self.call("GET", "/model")["asked"])

    def paddle_key(self, account: str) -> str:
        """The API key of the seller of this name at Paddle."""
        return f"pdl_sdbx_apikey_{account}"

    def paddle_check_out(self, account: str, **subscription: Any) -> dict[str, Any]:
        """Somebody buys a subscription: `custom_data`, `customer_id`, `plan`, `status`; sends webhooks."""
        return dict(self.call("POST", f"/paddle/{account}/subscriptions", subscription)["data"])

    def paddle_change(self, account: str, subscription_id: str, **changes: Any) -> dict[str, Any]:
        """A subscription's new `status` (`canceled` ends it now), `plan` or `scheduled_change`; sends webhooks."""
        return dict(self.call("PATCH", f"/paddle/{account}/subscriptions/{subscription_id}", changes)["data"])

    def paddle_events(self, account: str) -> list[dict[str, Any]]:
        """Every event of a seller so far, oldest first."""
        return list(self.call("GET", f"/paddle/{account}/events")["events"])

    def paddle_destination(self, account: str, url: str, secret: str | list[str]) -> None:
        """Send a seller's webhooks there, signed with this secret, or with each of several."""
        self.call("PUT", f"/paddle/{account}/destination", {"url": url, "secret": secret})

    def state(self) -> dict[str, Any]:
        """{seed, now, offset, limits, hanging, providers, presets, smtp}."""
        return dict(self.call("GET", ""))

    def reset(self, seed: int | None = None) -> None:
        """Forget everything, as if just started."""
        self.call("POST", "/reset", {} if seed is None else {"seed": seed})

    def settle(self) -> int:
        """Do now what is scheduled for later (queued purchases, late webhooks); how many things that were."""
        return int(self.call("POST", "/settle")["settled"])

    def release(self) -> int:
        """Let all hanging calls go on; how many there were."""
        return int(self.call("POST", "/release")["released"])

    def advance(self, seconds: float) -> None:
        """Shift the sandbox's clock forward: ages rates, expires links, opens the next rate-limit window."""
        self.call("POST", "/clock", {"advance": seconds})

    def limits(self, scale: float) -> None:
        """Multiply the documented rate limits; 0 turns them off."""
        self.call("PUT", "/limits", {"scale": scale})

    def move(self, carrier: str, number: str, status: str, **change: Any) -> list[dict[str, Any]]:
        """A scan of a parcel (status TRANSIT, DELIVERED, …); sends track_updated."""
        return list(self.call("POST", f"/tracking/{carrier}/{number}", {"status": status, **change})["tracks"])

    def webhooks(self) -> list[dict[str, Any]]:
        """Every delivery attempt so far."""
        return list(self.call("GET", "/webhooks")["deliveries"])

    def sign_webhooks(self, secret: str | None) -> None:
        """Sign webhooks with this secret from now on; None stops it."""
        self.call("PUT", "/webhooks", {"secret": secret})

    def wait(self, look: Callable[[], T | None], timeout: float = 10.0, what: str = "") -> T:
        """Call `look` until it returns something true, and return that. Raises TimeoutError."""
        until = time.monotonic() + timeout
        while not (found := look()):
            if time.monotonic() > until:
                raise TimeoutError(f"nothing after {timeout} s" + (f": waited for {what}" if what else ""))
            time.sleep(0.01)
        return found

    def call(self, method: str, path: str, body: Any = None, params: Mapping[str, str] | None = None) -> Any:
        """One call of the control API; its JSON, or None if there is none."""
        url = f"{self.url}/_sandbox{path}"
        answer = self._http.request(method, url, json=body, params=params, timeout=self._timeout)
        if answer.status_code >= 400:
            raise SandboxError(f"{answer.status_code}: {answer.text}")
        return answer.json() if answer.content else None


class Sandbox(SandboxClient):
    """A sandbox in this process: its own threads, a real port."""

    def __init__(self, server: Server):
        super().__init__(server.url)
        self._server = server

    @classmethod
    def start(
        cls,
        port: int = 0,
        seed: int | None = 0,
        *,
        host: str = "127.0.0.1",
        ledger: str | Path | None = None,
        limits: float = 1.0,
        **options: Any,
    ) -> Self:
        """Start one; port 0 takes a free one. `options`: further fields of `Options`."""
        file = None if ledger is None else Path(ledger)
        server = Server(Options(seed=seed, ledger=file, limits=limits, **options), host, port)
        server.start()
        return cls(server)

    def stop(self) -> None:
        """Stop at once and cut every connection, as a killed process would. What hangs is not charged."""
        self._http.close()
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
